"""A worker's end of one slot's input ring: frames go in one by one; full is an answer.

A ring has one writer and one reader, in different processes, and no lock. The writer fills a
cell's payload, then its meta words, then its sequence, then the counter that publishes it; the
reader looks at the counter first and at the sequence second. x86-64 keeps the order of stores and
of loads, so what the reader sees behind a counter is complete. Other processors may reorder: the
sequence then shows "not yet" instead of stale bytes, and the wake-up is a system call, which
orders in practice. CPython offers no fence; a SYNC POINT that publishes is the place for one.

A tag tells leases and epochs apart: cells of another tag are thrown away by the reader and make
the DSP process start its filters anew. ``struct.pack_into`` must not be used on shared memory: it
zeroes the target before it writes.

The other end is :mod:`audio.bank`, the way back is :mod:`audio.results`; both work on all slots at
once. Rejected: float32 cells (no faster, more memory), a checksum a cell (doubles the cost of the
gather), locks. Standard library only.
"""

from __future__ import annotations

from typing import Protocol

from audio.arena import Arena
from audio.layout import CELLS, META_WORDS, USABLE_CELLS, WORD_BYTES, Meta, RingPlace

_MASK = CELLS - 1
# Plain ints: an IntEnum member costs a method call in every sum of the hot path.
_TAG, _LENGTH, _TIMESTAMP_MS = int(Meta.TAG), int(Meta.LENGTH), int(Meta.TIMESTAMP_MS)

assert int(Meta.SEQUENCE) == 0


class Bell(Protocol):
    """Tells the other side, some time after it was rung, that there is something to do."""

    #: Whether it was rung and the other side has not been told yet.
    rung: bool

    def ring(self) -> None:
        """Tell the other side soon."""
        ...


class _NoBell:
    """For rings whose other side looks by itself."""

    rung = True

    def ring(self) -> None:
        """Nobody waits."""


#: The bell of a ring whose other side looks by itself.
NO_BELL = _NoBell()


class RingWriter:
    """The writing end of one slot's ring; the bell is rung for every frame pushed.

    It keeps indexes into the arena's views, which all slots share: those stay in the processor's
    cache, as hundreds would not.
    """

    __slots__ = (
        "_bell",
        "_bytes",
        "_cell_bytes",
        "_consumed_at",
        "_meta_at",
        "_payload_at",
        "_published_at",
        "_words",
        "damaged",
        "tag",
    )

    def __init__(
        self, arena: Arena, place: RingPlace, slot: int, tag: int = 0, bell: Bell = NO_BELL
    ) -> None:
        layout = arena.layout
        assert 0 <= slot < layout.slots, slot
        self._bytes = arena.buffer
        self._words = arena.words
        self._cell_bytes = place.cell_bytes
        self._payload_at = place.payload_at + slot * CELLS * place.cell_bytes
        self._meta_at = place.meta_at // WORD_BYTES + slot * CELLS * META_WORDS
        self._published_at = layout.word_index(place.published, slot)
        self._consumed_at = layout.word_index(place.consumed, slot)
        self._bell = bell
        self.tag = tag
        #: Times the counters were found to contradict each other.
        self.damaged = 0

    def __len__(self) -> int:
        """Cells published and not yet consumed."""
        return self._words[self._published_at] - self._words[self._consumed_at]

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
        words = self._words
        head = words[self._published_at]
        if not 0 <= head - words[self._consumed_at] < USABLE_CELLS:
            self._full_or_damaged(head)
            return False
        cell = head & _MASK
        at = self._payload_at + cell * self._cell_bytes
        self._bytes[at : at + length] = payload
        at = self._meta_at + cell * META_WORDS
        words[at + _TAG] = self.tag
        words[at + _LENGTH] = length
        words[at + _TIMESTAMP_MS] = timestamp_ms
        # SYNC POINT (publish; observed by Bank.caller_ready and Bank.assistant_ready): payload and
        # meta above must be visible before the sequence, the sequence before the counter.
        words[at] = head + 1
        words[self._published_at] = head + 1
        if not self._bell.rung:
            self._bell.ring()
        return True

    def _full_or_damaged(self, head: int) -> None:
        """Empty a ring whose counters contradict each other; its owner must raise the epoch."""
        consumed = self._words[self._consumed_at]
        if not 0 <= head - consumed <= CELLS:
            self.damaged += 1
            self._words[self._published_at] = consumed
