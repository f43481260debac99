"""The worker's end of the output rings: what the DSP process has finished, of all slots at once.

A worker is woken when a pass over hundreds of slots has ended. Taking each slot's frame by itself
would cost as much as all else that the worker does with it, so they are gathered with a few array
expressions, as the DSP process did on its side. The writer's end of the input rings, where frames
come one by one, is :mod:`audio.ring`; what is said there of the order of stores holds here too.

Counters are read once, then cells up to them, the oldest of every slot first. A cell is copied,
and only then counted as consumed: a reader that is killed between the two leaves it to its
successor, and a writer never overwrites what is being copied. A full ring makes the writer wait,
so the bell is rung when a frame is taken from one.

Frames of another tag than the one that a slot's lease expects are passed over and counted, so are
damaged cells; counters that contradict each other empty the ring.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from audio.arena import Arena
from audio.layout import (
    CELLS,
    META_WORDS,
    USABLE_CELLS,
    VERDICT_VALUES,
    Meta,
    RingPlace,
    Verdict,
)
from audio.ring import NO_BELL, Bell

Ints = NDArray[np.int64]

_MASK = CELLS - 1
_NO_TAG = -1
_SAID = [Verdict.PROBABILITY, Verdict.LEVEL]


class Results:
    """Takes finished frames out of one ring of every slot; one a worker and direction.

    Arrays [S], int64: ``stale``, ``bad`` and ``damaged`` count frames of another tag, damaged
    cells, and rings that were emptied because their counters contradict each other.
    """

    def __init__(self, arena: Arena, place: RingPlace, bell: Bell = NO_BELL) -> None:
        layout, buffer = arena.layout, arena.buffer
        slots = layout.slots
        cells = slots * CELLS
        self._done: Ints = np.ndarray((slots,), np.int64, buffer, layout.word_at(place.published))
        self._tail: Ints = np.ndarray((slots,), np.int64, buffer, layout.word_at(place.consumed))
        self._meta: Ints = np.ndarray((cells, META_WORDS), np.int64, buffer, place.meta_at)
        self._payload: NDArray[np.void] = np.ndarray(
            (cells,), np.dtype((np.void, place.cell_bytes)), buffer, place.payload_at
        )
        self._bell = bell
        self._tag: Ints = np.full(slots, _NO_TAG, np.int64)
        self.stale: Ints = np.zeros(slots, np.int64)
        self.bad: Ints = np.zeros(slots, np.int64)
        self.damaged: Ints = np.zeros(slots, np.int64)

    def take(self) -> list[tuple[int, bytes]]:
        """Every finished frame with its slot; those of one slot in order."""
        found: list[tuple[int, bytes]] = []
        for slots, cells in self._rounds():
            found += zip(slots.tolist(), self._frames(cells), strict=True)
        return found

    def begin(self, slot: int, tag: int) -> None:
        """Expect frames of ``tag`` from now on; what is there already is of no interest."""
        self.expect(slot, tag)
        self._tail[slot] = self._done[slot]

    def expect(self, slot: int, tag: int) -> None:
        """Expect frames of ``tag``, those that are there already included."""
        self._tag[slot] = tag

    def end(self, slot: int) -> None:
        """Expect nothing any more: what is still in flight belongs to nobody."""
        self._tag[slot] = _NO_TAG

    def close(self) -> None:
        """Let go of the arena; nothing can be taken any more."""
        del self._done, self._tail, self._meta, self._payload

    def _rounds(self) -> Iterator[tuple[Ints, Ints]]:
        """Slots and cells of one good frame each, again and again until nothing is left.

        Cells are counted over the rings of all slots: one index is twice as fast as two.
        The frames are given back to the writer when the next ones are asked for.
        """
        # SYNC POINT (observe; published by Bank.commit_caller, Bank.commit_assistant and
        # Bank.drop_aged): counters are read before cells.
        done, tail = self._done.copy(), self._tail
        while len(slots := np.flatnonzero(done != tail)):
            at = tail[slots]
            behind = done[slots] - at
            broken = (behind < 0) | (behind > CELLS)
            if broken.any():
                wrong = slots[broken]
                self.damaged[wrong] += 1
                tail[wrong] = done[wrong]
                continue
            if behind.max() >= USABLE_CELLS:
                self._bell.ring()  # rung or not: the other side waits for this room
            cells = slots * CELLS + (at & _MASK)
            mine = self._check(slots, cells, at)
            yield (slots, cells) if mine.all() else (slots[mine], cells[mine])
            tail[slots] = at + 1

    def _check(self, slots: Ints, cells: Ints, at: Ints) -> NDArray[np.bool_]:
        """Count what is not ours; which frames are."""
        meta = self._meta.take(cells, axis=0)
        length = meta[:, Meta.LENGTH]
        whole = (meta[:, Meta.SEQUENCE] == at + 1) & (length > 0)
        whole &= length <= self._payload.itemsize
        mine: NDArray[np.bool_] = whole & (meta[:, Meta.TAG] == self._tag[slots])
        if not mine.all():
            self.bad[slots[~whole]] += 1
            self.stale[slots[whole & ~mine]] += 1
        return mine

    def _frames(self, cells: Ints) -> list[bytes]:
        """The payloads of these cells."""
        if not len(cells):
            return []
        lengths = self._meta.take(cells, axis=0)[:, Meta.LENGTH]
        width = int(lengths.max())
        # An array of opaque items becomes a list of bytes without a step for each in Python.
        frames: list[bytes] = self._first(width)[cells].tolist()
        if lengths.min() == width:
            return frames
        return [frame[:length] for frame, length in zip(frames, lengths.tolist(), strict=True)]

    def _first(self, width: int) -> NDArray[np.void]:
        """The first bytes of every cell."""
        whole = self._payload
        return np.ndarray(whole.shape, np.dtype((np.void, width)), whole, strides=whole.strides)


class CallerResults(Results):
    """Takes finished caller frames: they come with what the VAD made of them."""

    def __init__(self, arena: Arena, bell: Bell = NO_BELL) -> None:
        super().__init__(arena, arena.layout.caller_pcm, bell)
        slots = arena.layout.slots
        self._verdict: NDArray[np.float32] = np.ndarray(
            (slots * CELLS, VERDICT_VALUES), np.float32, arena.buffer, arena.layout.verdict_at
        )

    def take_heard(self) -> list[tuple[int, bytes, float, float]]:
        """Every finished frame: slot, 16 kHz PCM16, speech probability, RMS level of full scale."""
        found: list[tuple[int, bytes, float, float]] = []
        for slots, cells in self._rounds():
            said = self._verdict.take(cells, axis=0)[:, _SAID].T.tolist()
            found += zip(slots.tolist(), self._frames(cells), *said, strict=True)
        return found

    @override
    def close(self) -> None:
        """Let go of the arena; nothing can be taken any more."""
        super().close()
        del self._verdict
