"""A worker's end of the rings: lease a slot, push frames, poll results.

A slot is leased to one call at a time. Each lease has a generation, kept in the arena so that it
also grows across a restart of the worker; it is the upper part of the tag that every cell carries,
the epoch (raised by each clear) is the lower part. Counters are never set back: frames of an
earlier lease that are still in flight come out with an old tag and are thrown away.
"""

from __future__ import annotations

from collections.abc import Callable

from audio.arena import Arena
from audio.format import WIRE_FORMATS, Encoding
from audio.layout import SlotWord
from audio.ring import CallerReader, RingReader, RingWriter, slot_word, slot_words

_EPOCH_BITS = 24


class Bell:
    """Wakes the DSP process once at the end of a loop iteration, however often it is rung."""

    __slots__ = ("_call_soon", "_wake", "rung")

    def __init__(
        self, wake: Callable[[], None], call_soon: Callable[[Callable[[], None]], object]
    ) -> None:
        self._wake = wake
        self._call_soon = call_soon
        self.rung = False

    def ring(self) -> None:
        """Wake soon; only when it is not ``rung`` yet."""
        self.rung = True
        self._call_soon(self._go)

    def _go(self) -> None:
        self.rung = False
        self._wake()


class Line:
    """One leased slot: encoded caller frames in, heard PCM out; assistant PCM in, encoded out."""

    __slots__ = (
        "_bell",
        "_caller_pcm",
        "_caller_wire",
        "_damage_seen",
        "_encoding_word",
        "_generation_word",
        "_pcm",
        "_wire",
        "assistant_waiting",
        "encoding",
        "frame_bytes",
        "pop_heard",
        "slot",
    )

    def __init__(self, arena: Arena, slot: int, bell: Bell) -> None:
        layout = arena.layout
        self.slot = slot
        self.encoding = Encoding.MULAW
        self.frame_bytes = 0
        self._damage_seen = 0
        self._bell = bell
        self._encoding_word = slot_word(arena, SlotWord.ENCODING, slot)
        self._generation_word = slot_word(arena, SlotWord.GENERATION, slot)
        self._caller_wire = RingWriter(arena, layout.caller_wire, slot)
        self._caller_pcm = CallerReader(arena, slot)
        self._pcm = RingWriter(arena, layout.assistant_pcm, slot)
        self._wire = RingReader(arena, layout.assistant_wire, slot)
        #: Next caller frame: (16 kHz PCM16, speech probability, level), or None.
        self.pop_heard = self._caller_pcm.pop_heard
        #: Encoded assistant frames that wait to be sent, those of older epochs included; cheap.
        self.assistant_waiting = self._wire.waiting

    def begin(self, encoding: Encoding) -> None:
        """Start a new lease for a call whose carrier uses ``encoding``."""
        generation = self._generation_word[0] + 1
        self._generation_word[0] = generation
        self._encoding_word[0] = encoding
        self.encoding = encoding
        self.frame_bytes = WIRE_FORMATS[encoding].frame_bytes
        tag = generation << _EPOCH_BITS
        self._caller_wire.tag = self._caller_pcm.tag = self._pcm.tag = self._wire.tag = tag
        self._caller_pcm.discard()
        self._wire.discard()

    def push_caller(self, frame: bytes, timestamp_ms: int) -> bool:
        """Hand one encoded caller frame to the DSP process; False when the ring is full."""
        pushed = self._caller_wire.push(frame, timestamp_ms)
        if not pushed:
            self._check_damage()
        if not self._bell.rung:
            self._bell.ring()
        return pushed

    def check(self) -> int:
        """Look for damaged counters even if nothing flows; how often any were found so far."""
        self._check_damage()
        return self.damage

    def push_assistant(self, frame: bytes | memoryview) -> bool:
        """Hand one frame of PCM16 at 16 or 24 kHz to the DSP process; False when full."""
        pushed = self._pcm.push(frame)
        if not pushed:
            self._check_damage()
        if not self._bell.rung:
            self._bell.ring()
        return pushed

    @property
    def assistant_room(self) -> int:
        """Frames that :meth:`push_assistant` would take now."""
        return self._pcm.room

    @property
    def assistant_pending(self) -> int:
        """Frames pushed that the DSP process has not encoded yet."""
        return len(self._pcm)

    @property
    def assistant_available(self) -> int:
        """Encoded assistant frames that wait to be sent."""
        return self._wire.available

    def pop_assistant(self) -> bytes | None:
        """Next encoded assistant frame, or None."""
        frame = self._wire.pop()
        if not self._bell.rung:
            self._bell.ring()  # the DSP process may have waited for room
        return frame

    def clear(self) -> None:
        """Throw away all assistant audio of this epoch and begin the next."""
        self._pcm.tag += 1
        self._wire.tag = self._pcm.tag
        self._wire.discard()

    def _check_damage(self) -> None:
        """Go on under a new tag when a counter in shared memory was found to be nonsense."""
        damage = self.damage
        if damage != self._damage_seen:
            self._damage_seen = damage
            self.begin(self.encoding)

    @property
    def damage(self) -> int:
        """Times counters of this slot were found to contradict each other."""
        ends = (self._caller_wire, self._caller_pcm, self._pcm, self._wire)
        return sum(end.damaged for end in ends)

    @property
    def stale(self) -> int:
        """Frames of older epochs and leases thrown away so far, over all leases of the slot."""
        return self._caller_pcm.stale + self._wire.stale

    def close(self) -> None:
        """Release the views on the arena."""
        self._encoding_word.release()
        self._generation_word.release()
        for end in (self._caller_wire, self._caller_pcm, self._pcm, self._wire):
            end.close()


class Bridge:
    """All slots of a worker's arena. ``wake`` rings the DSP process's bell (one system call)."""

    def __init__(
        self,
        arena: Arena,
        wake: Callable[[], None],
        call_soon: Callable[[Callable[[], None]], object],
    ) -> None:
        self._arena = arena
        self._bell = Bell(wake, call_soon)
        self._lines: dict[int, Line] = {}
        self._free = list(range(arena.layout.slots - 1, -1, -1))
        self._leased: set[int] = set()
        self._done = tuple(
            slot_words(arena, word) for word in (SlotWord.CALLER_DONE, SlotWord.ASSISTANT_DONE)
        )
        self._seen = [view.tolist() for view in self._done]

    def lease(self, encoding: Encoding) -> Line | None:
        """Take a slot for a call; None when every slot is taken."""
        if not self._free:
            return None
        slot = self._free.pop()
        self._leased.add(slot)
        line = self._lines.get(slot)
        if line is None:
            line = self._lines[slot] = Line(self._arena, slot, self._bell)
        line.begin(encoding)
        return line

    def release(self, line: Line) -> None:
        """Give a slot back; the line must not be used any more."""
        self._leased.remove(line.slot)
        line.clear()
        self._free.append(line.slot)

    def changed(self) -> tuple[list[int], list[int]]:
        """Slots with new results since the last call: those heard, those encoded."""
        found = []
        for i, view in enumerate(self._done):
            now, before = view.tolist(), self._seen[i]
            self._seen[i] = now
            # One comparison of two lists tells "nothing" in a microsecond.
            changes = [] if now == before else _differences(now, before)
            found.append(changes)
        return found[0], found[1]

    def check(self) -> int:
        """Repair the arena's header if it was damaged; 1 if it was, else 0."""
        return int(self._arena.repair())

    @property
    def slots_free(self) -> int:
        """Slots that can be leased now."""
        return len(self._free)

    def close(self) -> None:
        """Release every view on the arena."""
        for line in self._lines.values():
            line.close()
        self._lines.clear()
        for view in self._done:
            view.release()


def _differences(now: list[int], before: list[int]) -> list[int]:
    return [slot for slot, (new, old) in enumerate(zip(now, before, strict=True)) if new != old]
