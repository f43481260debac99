"""The DSP process's end of the rings: all slots of an arena at once, as array views.

Finds the slots that have a frame ready, gathers their payloads into arrays, scatters results into
the output rings and commits with one store a slot (``done``). Nothing here interprets samples;
:mod:`audio.batch` does, and knows nothing of shared memory.

The views are written by index only, never over a whole array: other cells may be changing under
another process's hands at that moment.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audio.arena import Arena
from audio.format import (
    BLOCKS_PER_FRAME,
    BLOCKS_PER_WINDOW,
    PCM_FRAME_BYTES,
    VAD_STATE_WIDTH,
)
from audio.g722 import Codecs, Rows
from audio.layout import (
    AGED_TAG,
    CELLS,
    META_WORDS,
    STATE_BUFFERS,
    USABLE_CELLS,
    VERDICT_VALUES,
    Meta,
    RingPlace,
    SlotWord,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_MASK = CELLS - 1
_WINDOW_BLOCKS = np.arange(BLOCKS_PER_WINDOW + 1) - 1


@dataclass(frozen=True, slots=True)
class Ready:
    """Slots with a frame to process: their numbers, and the frame's index in the ring.

    ``cell`` is the frame's, ``before`` that of the frame before it, both counted over the rings of
    all slots: one index is twice as fast as two.
    """

    slots: Ints
    frame: Ints
    cell: Ints
    before: Ints

    @classmethod
    def of(cls, slots: Ints, frame: Ints) -> Ready:
        """Find the cells of these frames."""
        ring = slots * CELLS
        return cls(slots, frame, ring + (frame & _MASK), ring + ((frame - 1) & _MASK))

    def __len__(self) -> int:
        return len(self.slots)

    def pick(self, which: NDArray[np.bool_] | Ints | slice) -> Ready:
        """Some of them."""
        return Ready(*(part[which] for part in (self.slots, self.frame, self.cell, self.before)))


class RingBank:
    """Array views of one ring of every slot: payload uint8 [S * C, n], meta int64 [S * C, 4]."""

    def __init__(self, arena: Arena, place: RingPlace) -> None:
        cells = arena.layout.slots * CELLS
        self.payload: Bytes = np.ndarray(
            (cells, place.cell_bytes), np.uint8, arena.buffer, place.payload_at
        )
        self.meta: Ints = np.ndarray((cells, META_WORDS), np.int64, arena.buffer, place.meta_at)

    def frames(self, ready: Ready, nbytes: int) -> Bytes:
        """The first ``nbytes`` of each ready cell: uint8 (n, nbytes)."""
        found: Bytes = self.payload[:, :nbytes][ready.cell]
        return found

    def tails(self, ready: Ready, end: int, nbytes: int) -> Bytes:
        """The last ``nbytes`` before ``end`` of the cell before each ready one (n, nbytes)."""
        found: Bytes = self.payload[:, end - nbytes : end][ready.before]
        return found

    def windows(self, ready: Ready, nbytes: int) -> tuple[Bytes, Ints]:
        """VAD windows that end in the ready frames, one context block in front.

        Returns the bytes (n, 9, block bytes) and the first block's index (n,), where a frame of
        ``nbytes`` is five blocks of 4 ms and blocks are counted like frames, for ever.
        """
        block_bytes = nbytes // BLOCKS_PER_FRAME
        first = ready.frame * BLOCKS_PER_FRAME // BLOCKS_PER_WINDOW * BLOCKS_PER_WINDOW
        blocks = first[:, None] + _WINDOW_BLOCKS
        view = self.payload[:, :nbytes].reshape(-1, BLOCKS_PER_FRAME, block_bytes)
        cell = ready.slots[:, None] * CELLS + ((blocks // BLOCKS_PER_FRAME) & _MASK)
        return view[cell, blocks % BLOCKS_PER_FRAME], first - 1

    def same_stream(self, ready: Ready) -> NDArray[np.bool_]:
        """Whether the cell before each ready one belongs to the same lease, epoch and format."""
        mine = self.meta.take(ready.cell, axis=0)
        last = self.meta.take(ready.before, axis=0)
        same: NDArray[np.bool_] = mine[:, Meta.TAG] == last[:, Meta.TAG]
        same &= mine[:, Meta.LENGTH] == last[:, Meta.LENGTH]
        # A cell never written, or overwritten by a writer that overran: not our predecessor.
        same &= last[:, Meta.SEQUENCE] == ready.frame
        return same

    def whole(self, ready: Ready) -> NDArray[np.bool_]:
        """Whether each ready cell's sequence is the one its counter promised."""
        sequence: Ints = self.meta.take(ready.cell, axis=0)[:, Meta.SEQUENCE]
        whole: NDArray[np.bool_] = sequence == ready.frame + 1
        return whole

    def lengths(self, ready: Ready) -> Ints:
        """Payload length of each ready cell, in bytes."""
        found: Ints = self.meta.take(ready.cell, axis=0)[:, Meta.LENGTH]
        return found

    def tags(self, ready: Ready) -> Ints:
        """Tag of each ready cell."""
        found: Ints = self.meta.take(ready.cell, axis=0)[:, Meta.TAG]
        return found

    def put(self, ready: Ready, payload: Bytes, source: RingBank) -> None:
        """Write results (n, bytes) into the ready cells; tag and timestamp are the source's."""
        nbytes = payload.shape[1]
        self.payload[:, :nbytes][ready.cell] = payload
        meta = source.meta.take(ready.cell, axis=0)
        meta[:, Meta.SEQUENCE] = ready.frame + 1
        meta[:, Meta.LENGTH] = nbytes
        self.meta[ready.cell] = meta


class Bank:
    """All rings of one arena, seen from the DSP process.

    ``decoders`` and ``encoders`` are this process's own: see :mod:`audio.g722`.
    """

    def __init__(self, arena: Arena) -> None:
        layout, buffer = arena.layout, arena.buffer
        slots = layout.slots

        def word(which: SlotWord) -> Ints:
            return np.ndarray((slots,), np.int64, buffer, layout.word_at(which))

        self.caller_encoding = word(SlotWord.CALLER_ENCODING)
        self.assistant_encoding = word(SlotWord.ASSISTANT_ENCODING)
        self.generation = word(SlotWord.GENERATION)
        self.decoders, self.encoders = Codecs(), Codecs()
        self._caller = tuple(
            map(word, (SlotWord.CALLER_HEAD, SlotWord.CALLER_DONE, SlotWord.CALLER_TAIL))
        )
        self._assistant = tuple(
            map(word, (SlotWord.ASSISTANT_HEAD, SlotWord.ASSISTANT_DONE, SlotWord.ASSISTANT_TAIL))
        )
        self.caller_wire = RingBank(arena, layout.caller_wire)
        self.caller_pcm = RingBank(arena, layout.caller_pcm)
        self.assistant_pcm = RingBank(arena, layout.assistant_pcm)
        self.assistant_wire = RingBank(arena, layout.assistant_wire)
        self.verdict: Floats = np.ndarray(
            (slots * CELLS, VERDICT_VALUES), np.float32, buffer, layout.verdict_at
        )
        self.vad_state: Floats = np.ndarray(
            (slots, STATE_BUFFERS, 2, VAD_STATE_WIDTH), np.float32, buffer, layout.vad_state_at
        )

    def caller_ready(self) -> tuple[Ready, int]:
        """Slots with a caller frame to process, and the longest backlog in frames."""
        return _ready(*self._caller)

    def assistant_ready(self) -> tuple[Ready, int]:
        """Slots with an assistant frame to process, and the longest backlog in frames."""
        return _ready(*self._assistant)

    def caller_same(self, ready: Ready) -> NDArray[np.bool_]:
        """Whether the frame before each ready one is of the same stream and has a result."""
        same = self.caller_wire.same_stream(ready)
        same &= self.caller_pcm.meta.take(ready.before, axis=0)[:, Meta.TAG] != AGED_TAG
        return same

    def rows(self, ready: Ready, wire: RingBank, begun: NDArray[np.bool_]) -> Rows:
        """What a codec must know of the ready frames of ``wire``."""
        generation = self.generation[ready.slots]
        return Rows(ready.slots, ready.frame, wire.tags(ready), generation, begun)

    def drop_aged(self, ready: Ready, behind_max: int, rest: int) -> int:
        """Drop the oldest caller frames of slots more than ``behind_max`` behind, but for ``rest``.

        The reader finds well-formed cells of a tag that it throws away, never old samples, and
        the frame after the hole begins a stream. Returns how many were dropped.
        """
        head, done, tail = self._caller
        dropped = 0
        for slot in ready.slots[head[ready.slots] - ready.frame > behind_max].tolist():
            first, unread = int(done[slot]), int(done[slot] - tail[slot])
            drop = min(int(head[slot]) - first - rest, USABLE_CELLS - unread)
            frames = np.arange(first, first + drop)
            meta = np.empty((drop, META_WORDS), np.int64)
            meta[:, Meta.SEQUENCE] = frames + 1
            meta[:, Meta.TAG] = AGED_TAG
            meta[:, Meta.LENGTH] = PCM_FRAME_BYTES
            meta[:, Meta.TIMESTAMP_MS] = -1
            self.caller_pcm.meta[slot * CELLS + (frames & _MASK)] = meta
            # SYNC POINT (publish; observed by CallerResults.take_heard): as in commit_caller.
            done[slot] = first + drop
            dropped += drop
        return dropped

    def commit_caller(self, ready: Ready) -> None:
        """Publish the results of these caller frames and consume their input."""
        # SYNC POINT (publish; observed by CallerResults.take_heard and the next caller_ready):
        # everything scattered before must be visible before ``done`` moves.
        self._caller[1][ready.slots] = ready.frame + 1

    def commit_assistant(self, ready: Ready) -> None:
        """Publish the results of these assistant frames and consume their input."""
        # SYNC POINT (publish; observed by Results.take): as above.
        self._assistant[1][ready.slots] = ready.frame + 1

    def last_verdict(self, ready: Ready) -> Floats:
        """What the VAD made of the frame before each ready one: float32 (n, 8), a copy."""
        return self.verdict.take(ready.before, axis=0)

    def put_verdict(self, ready: Ready, verdict: Floats) -> None:
        """Write the verdicts of the ready frames."""
        self.verdict[ready.cell] = verdict

    def state(self, ready: Ready, selector: NDArray[np.intp]) -> Floats:
        """Recurrent rows (n, 2, 128); selector 1 or 2 names the buffer, 0 means a fresh state."""
        rows: Floats = self.vad_state[ready.slots, np.maximum(selector, 1) - 1]
        rows[selector == 0] = 0
        return rows

    def put_state(self, ready: Ready, selector: NDArray[np.intp], rows: Floats) -> None:
        """Write recurrent rows into the buffers that ``selector`` (1 or 2) names."""
        self.vad_state[ready.slots, selector - 1] = rows


def _ready(head: Ints, done: Ints, tail: Ints) -> tuple[Ready, int]:
    # SYNC POINT (observe; published by RingWriter.push): counters are read before any cell.
    behind, unread = head - done, done - tail
    # Counters that contradict each other are damaged: the worker will notice and empty the ring.
    ready = (behind > 0) & (behind <= CELLS) & (unread >= 0) & (unread < USABLE_CELLS)
    slots = np.flatnonzero(ready)
    backlog = int(behind[slots].max()) if len(slots) else 0
    return Ready.of(slots, done[slots]), backlog


def next_selector(selector: NDArray[np.intp]) -> NDArray[np.intp]:
    """The buffer a new state goes to: the one that does not hold the old state."""
    return np.where(selector == 1, 2, 1)
