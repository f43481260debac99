"""A worker's end of the rings: lease a slot, push frames, poll results.

A slot is leased to one call at a time. Each lease has a generation, kept in the arena so that it
also grows across a restart of the worker; it is the upper part of the tag that every cell carries,
the epoch (raised by each clear) is the lower part. Counters are never set back: frames of an
earlier lease that are still in flight come out with an old tag and are thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from audio.arena import Arena
from audio.format import WIRE_FORMATS, Encoding
from audio.layout import SlotWord
from audio.levels import Meter
from audio.results import CallerResults, Results
from audio.ring import RingWriter

_EPOCH_BITS = 24


class Soon(Protocol):
    """What a bell needs of an event loop."""

    def call_soon(self, callback: Callable[[], None], /) -> object:
        """Call at the end of this iteration."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None], /) -> object:
        """Call after ``delay`` seconds."""
        ...


class Bell:
    """Wakes the DSP process at the end of a loop iteration, however often it is rung.

    It stays ``rung`` for ``rest_ms`` more: a DSP process that was woken and found work looks again
    after half a tick, so what is pushed before that needs no system call of its own.
    """

    __slots__ = ("_loop", "_rest_s", "_wake", "rung")

    def __init__(self, wake: Callable[[], None], loop: Soon, rest_ms: float) -> None:
        self._wake = wake
        self._loop = loop
        self._rest_s = rest_ms / 1000
        self.rung = False

    def ring(self) -> None:
        """Wake soon; for a push only when it is not ``rung`` yet."""
        self.rung = True
        self._loop.call_soon(self._go)

    def _go(self) -> None:
        self._wake()
        self._loop.call_later(self._rest_s, self._rested)

    def _rested(self) -> None:
        self.rung = False


class Line:
    """One leased slot: encoded caller frames in, heard PCM out; assistant PCM in, encoded out."""

    __slots__ = (
        "_caller_wire",
        "_damage_seen",
        "_encodings_at",
        "_generation_at",
        "_pcm",
        "_pushed_at",
        "_results",
        "_taken_at",
        "_words",
        "encodings",
        "frame_bytes",
        "push_assistant",
        "push_caller",
        "slot",
    )

    def __init__(self, arena: Arena, slot: int, results: Outputs, bell: Bell) -> None:
        layout = arena.layout
        self.slot = slot
        self.encodings = (Encoding.MULAW, Encoding.MULAW)
        self.frame_bytes = 0
        self._damage_seen = 0
        self._words = arena.words
        self._encodings_at = (
            layout.word_index(SlotWord.CALLER_ENCODING, slot),
            layout.word_index(SlotWord.ASSISTANT_ENCODING, slot),
        )
        self._generation_at = layout.word_index(SlotWord.GENERATION, slot)
        self._caller_wire = RingWriter(arena, layout.caller_wire, slot, bell=bell)
        self._results = results
        self._pcm = RingWriter(arena, layout.assistant_pcm, slot, bell=bell)
        self._pushed_at = layout.word_index(SlotWord.ASSISTANT_HEAD, slot)
        self._taken_at = layout.word_index(SlotWord.ASSISTANT_TAIL, slot)
        # For every frame, hence the rings' own methods, without a call between.
        #: Hand one encoded caller frame and its timestamp to the DSP process; False when full.
        self.push_caller = self._caller_wire.push
        #: Hand one frame of PCM16 at 16 or 24 kHz to the DSP process; False when full.
        self.push_assistant = self._pcm.push

    def begin(self, caller: Encoding, assistant: Encoding) -> None:
        """Start a new lease for a call whose carrier sends and takes these encodings."""
        generation = self._words[self._generation_at] + 1
        self._words[self._generation_at] = generation
        for at, encoding in zip(self._encodings_at, (caller, assistant), strict=True):
            self._words[at] = encoding
        self.encodings = (caller, assistant)
        self.frame_bytes = WIRE_FORMATS[caller].frame_bytes
        tag = generation << _EPOCH_BITS
        self._caller_wire.tag = self._pcm.tag = tag
        self._results.begin(self.slot, tag)

    def check(self) -> int:
        """Look for damaged counters, go on under a new tag; how often any were found so far."""
        damage = self.damage
        if damage != self._damage_seen:
            self._damage_seen = damage
            self.begin(*self.encodings)
        return damage

    @property
    def assistant_room(self) -> int:
        """Frames that :meth:`push_assistant` would take now."""
        return self._pcm.room

    @property
    def assistant_pending(self) -> int:
        """Frames pushed that have not come back encoded yet."""
        return self._words[self._pushed_at] - self._words[self._taken_at]

    def clear(self) -> None:
        """Throw away all assistant audio of this epoch and begin the next."""
        self._pcm.tag += 1
        self._results.assistant.begin(self.slot, self._pcm.tag)

    @property
    def damage(self) -> int:
        """Times counters of this slot were found to contradict each other."""
        return self._caller_wire.damaged + self._pcm.damaged + self._results.damaged(self.slot)

    @property
    def stale(self) -> int:
        """Frames of older epochs and leases thrown away so far, over all leases of the slot."""
        return self._results.stale(self.slot)


class Outputs:
    """Both output rings of every slot."""

    def __init__(self, arena: Arena, bell: Bell) -> None:
        self.caller = CallerResults(arena, bell)
        self.assistant = Results(arena, arena.layout.assistant_wire, bell)

    def begin(self, slot: int, tag: int) -> None:
        """Expect a new lease's frames."""
        self.caller.begin(slot, tag)
        self.assistant.begin(slot, tag)

    def end(self, slot: int) -> None:
        """Expect nothing any more."""
        self.caller.end(slot)
        self.assistant.end(slot)

    def damaged(self, slot: int) -> int:
        """Times counters of a slot were found to contradict each other."""
        return int(self.caller.damaged[slot] + self.assistant.damaged[slot])

    def stale(self, slot: int) -> int:
        """Frames of a slot that nobody wanted any more."""
        return int(self.caller.stale[slot] + self.assistant.stale[slot])

    def close(self) -> None:
        """Let go of the arena."""
        self.caller.close()
        self.assistant.close()


class Bridge:
    """All slots of a worker's arena. ``wake`` rings the DSP process's bell (one system call)."""

    def __init__(
        self,
        arena: Arena,
        wake: Callable[[], None],
        loop: Soon,
        bell_rest_ms: float = 0,
    ) -> None:
        self._arena = arena
        self._bell = Bell(wake, loop, bell_rest_ms)
        self._lines: dict[int, Line] = {}
        self._free = list(range(arena.layout.slots - 1, -1, -1))
        self._leased: set[int] = set()
        self._results = Outputs(arena, self._bell)
        #: For people who watch.
        self.meter = Meter(arena)
        #: Caller frames that the DSP process has finished: (slot, 16 kHz PCM16, speech
        #: probability, level) of all slots, in order.
        self.heard = self._results.caller.take_heard
        #: Assistant frames that it has encoded: (slot, payload) of all slots, in order.
        self.encoded = self._results.assistant.take

    def lease(self, caller: Encoding, assistant: Encoding | None = None) -> Line | None:
        """Take a slot for a call; None when every slot is taken.

        ``assistant`` is the encoding of what the carrier is sent, when it is not the caller's.
        """
        if not self._free:
            return None
        slot = self._free.pop()
        self._leased.add(slot)
        line = self._lines.get(slot)
        if line is None:
            line = self._lines[slot] = Line(self._arena, slot, self._results, self._bell)
        line.begin(caller, caller if assistant is None else assistant)
        return line

    def release(self, line: Line) -> None:
        """Give a slot back; the line must not be used any more."""
        self._leased.remove(line.slot)
        line.clear()
        self._results.end(line.slot)
        self._free.append(line.slot)

    def check(self) -> int:
        """Repair the arena's header if it was damaged; 1 if it was, else 0."""
        return int(self._arena.repair())

    @property
    def slots_free(self) -> int:
        """Slots that can be leased now."""
        return len(self._free)

    def close(self) -> None:
        """Let go of the arena; neither the bridge nor its lines may be used any more."""
        self.meter.close()
        self._results.close()
