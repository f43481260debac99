"""One call's end of a ring: the worker's view, by memoryview slices; full and empty are answers.

A ring has one writer and one reader, in different processes, and no lock. The writer fills a
cell's payload, then its meta words, then its sequence, then the counter that publishes it; the
reader looks at the counter first and at the sequence second. x86-64 keeps the order of stores and
of loads, so what the reader sees behind a counter is complete. Other processors may reorder: the
sequence then shows "not yet" instead of stale bytes, and the wake-up is a system call, which
orders in practice. CPython offers no fence; each publish below is the one place for it.

A tag tells leases and epochs apart: cells of another tag are thrown away by the reader and make
the DSP process start its filters anew. ``struct.pack_into`` must not be used on shared memory: it
zeroes the target before it writes.

The other end is :mod:`audio.bank`, which works on all slots at once. Rejected: float32 cells (no
faster, more memory), a checksum a cell (doubles the cost of the gather), locks.
Standard library only.
"""

from __future__ import annotations

from audio.arena import Arena
from audio.format import PCM_FRAME_BYTES
from audio.layout import (
    CELLS,
    META_WORDS,
    USABLE_CELLS,
    VERDICT_VALUES,
    WORD_BYTES,
    Meta,
    RingPlace,
    SlotWord,
    Verdict,
)

_MASK = CELLS - 1
# Plain ints: an IntEnum member costs a method call in every sum of the hot path.
_TAG, _LENGTH, _TIMESTAMP_MS = int(Meta.TAG), int(Meta.LENGTH), int(Meta.TIMESTAMP_MS)
_PROBABILITY, _LEVEL = int(Verdict.PROBABILITY), int(Verdict.LEVEL)

assert int(Meta.SEQUENCE) == 0


class _RingEnd:
    """The views both ends share: this slot's payload cells, meta words and two counters."""

    __slots__ = ("_cell_bytes", "_consumed", "_meta", "_payload", "_published", "_views")

    def __init__(self, arena: Arena, place: RingPlace, slot: int) -> None:
        layout, buffer = arena.layout, arena.buffer
        assert 0 <= slot < layout.slots, slot
        self._cell_bytes = place.cell_bytes
        size = CELLS * place.cell_bytes
        at = place.payload_at + slot * size
        self._payload = buffer[at : at + size]
        words = CELLS * META_WORDS * WORD_BYTES
        at = place.meta_at + slot * words
        self._meta = buffer[at : at + words].cast("q")
        self._published = _counter(arena, layout.word_at(place.published), slot)
        self._consumed = _counter(arena, layout.word_at(place.consumed), slot)
        self._views: list[memoryview[int] | memoryview[float]] = [
            self._payload,
            self._meta,
            self._published,
            self._consumed,
        ]

    def __len__(self) -> int:
        """Cells published and not yet consumed."""
        return self._published[0] - self._consumed[0]

    def close(self) -> None:
        """Release the views, so that the arena can be unmapped."""
        for view in self._views:
            view.release()


def slot_word(arena: Arena, word: SlotWord, slot: int) -> memoryview:
    """One slot's int64 word as a view of length 1; release it before the arena is closed."""
    return _counter(arena, arena.layout.word_at(word), slot)


def slot_words(arena: Arena, word: SlotWord) -> memoryview:
    """All slots' int64 words of one kind; release it before the arena is closed."""
    at = arena.layout.word_at(word)
    return arena.buffer[at : at + arena.layout.slots * WORD_BYTES].cast("q")


def _counter(arena: Arena, words_at: int, slot: int) -> memoryview:
    at = words_at + slot * WORD_BYTES
    return arena.buffer[at : at + WORD_BYTES].cast("q")


class RingWriter(_RingEnd):
    """The writing end of one slot's ring."""

    __slots__ = ("damaged", "tag")

    def __init__(self, arena: Arena, place: RingPlace, slot: int, tag: int = 0) -> None:
        super().__init__(arena, place, slot)
        self.tag = tag
        #: Times the counters were found to contradict each other.
        self.damaged = 0

    @property
    def room(self) -> int:
        """How many cells can be pushed now."""
        return USABLE_CELLS - len(self)

    def push(self, payload: bytes | memoryview, timestamp_ms: int = -1) -> bool:
        """Write one frame; False (and nothing written) when the ring is full.

        ``payload`` must fit into a cell: a longer one is a bug of the caller's.
        """
        length = len(payload)
        assert 0 < length <= self._cell_bytes, length
        head = self._published[0]
        if not 0 <= head - self._consumed[0] < USABLE_CELLS:
            self._full_or_damaged(head)
            return False
        cell = head & _MASK
        at = cell * self._cell_bytes
        self._payload[at : at + length] = payload
        meta, word = self._meta, cell * META_WORDS
        meta[word + _TAG] = self.tag
        meta[word + _LENGTH] = length
        meta[word + _TIMESTAMP_MS] = timestamp_ms
        # SYNC POINT (publish; observed by Bank.ready and RingReader.pop): payload and meta above
        # must be visible before the sequence, the sequence before the counter.
        meta[word] = head + 1
        self._published[0] = head + 1
        return True

    def _full_or_damaged(self, head: int) -> None:
        """Empty a ring whose counters contradict each other; its owner must raise the epoch."""
        if not 0 <= head - self._consumed[0] <= CELLS:
            self.damaged += 1
            self._published[0] = self._consumed[0]


class RingReader(_RingEnd):
    """The reading end of one slot's ring; cells of another tag are skipped and counted."""

    __slots__ = ("_at", "bad", "damaged", "stale", "tag")

    def __init__(self, arena: Arena, place: RingPlace, slot: int, tag: int = 0) -> None:
        super().__init__(arena, place, slot)
        self.tag = tag
        self.stale = 0
        self.bad = 0
        self.damaged = 0
        self._at = 0

    def pop(self) -> bytes | None:
        """Take the next frame of this tag; None when there is none."""
        cell = self._next()
        if cell is None:
            return None
        at = cell * self._cell_bytes
        payload = bytes(self._payload[at : at + self._meta[cell * META_WORDS + _LENGTH]])
        self._consumed[0] = self._at + 1
        return payload

    def waiting(self) -> int:
        """Cells that were published and not taken, those of older tags included; cheap."""
        return self._published[0] - self._consumed[0]

    @property
    def available(self) -> int:
        """Frames of this tag that can be popped now."""
        return 0 if self._next() is None else self._published[0] - self._at

    def discard(self) -> None:
        """Throw away everything published so far."""
        self._consumed[0] = self._published[0]

    def _next(self) -> int | None:
        """Cell number of the next good cell of our tag; ``_at`` is then its index."""
        # SYNC POINT (observe; published by RingWriter.push and Bank.commit): the counter is read
        # before the cell.
        published = self._published[0]
        at = self._consumed[0]
        if at == published:
            return None
        if not 0 < published - at <= CELLS:
            self.damaged += 1
            self._consumed[0] = published
            return None
        meta = self._meta
        while at < published:
            cell = at & _MASK
            word = cell * META_WORDS
            good = meta[word] == at + 1 and 0 < meta[word + _LENGTH] <= self._cell_bytes
            if good and meta[word + _TAG] == self.tag:
                self._at = at
                return cell
            if good:
                self.stale += 1
            else:
                self.bad += 1
            at += 1
            self._consumed[0] = at
        return None


class CallerReader(RingReader):
    """The reading end of ``caller_pcm``: a frame comes with what the VAD made of it."""

    __slots__ = ("_verdict",)

    def __init__(self, arena: Arena, slot: int, tag: int = 0) -> None:
        super().__init__(arena, arena.layout.caller_pcm, slot, tag)
        size = CELLS * VERDICT_VALUES * 4
        at = arena.layout.verdict_at + slot * size
        self._verdict = arena.buffer[at : at + size].cast("f")
        self._views.append(self._verdict)

    def pop_heard(self) -> tuple[bytes, float, float] | None:
        """Take the next frame: (16 kHz PCM16, speech probability, RMS level of full scale)."""
        cell = self._next()
        if cell is None:
            return None
        verdict, value = self._verdict, cell * VERDICT_VALUES
        at = cell * self._cell_bytes
        heard = (
            bytes(self._payload[at : at + PCM_FRAME_BYTES]),
            verdict[value + _PROBABILITY],
            verdict[value + _LEVEL],
        )
        self._consumed[0] = self._at + 1
        return heard
