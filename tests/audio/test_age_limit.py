"""A DSP process that is behind: it catches up, or drops what is too old; nothing wrong is heard."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from typing_extensions import override

from audio.arena import Arena
from audio.format import FRAME_NS, WIRE_FORMATS, Encoding
from audio.layout import USABLE_CELLS
from audio.overload import AGED_FRAMES, KEPT_FRAMES, Overload
from audio.ticks import TickGauge
from supervisor.scoreboard import Field
from tests.audio.plane import Heard, Plane, cut, noise, wire_bytes


class SlowTicks(TickGauge):
    """Ticks of a process that cannot catch up."""

    def __init__(self) -> None:
        super().__init__()
        self.median_ns = FRAME_NS + 1

    @override
    def update(self, now_ns: int) -> None:
        """It stays so."""


def frame(number: int) -> bytes:
    """Linear PCM passes as it is: a frame is known by its samples."""
    return np.full(320, number % 30_000, "<i2").tobytes()


class StalledDsp(RuleBasedStateMachine):
    """A caller whose frames are served too late, now and then, and a model of what is heard."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = Arena.create(2)
        self.plane = Plane(self.arena)
        self.slot = self.plane.slots[1]
        self.slot.lease(Encoding.PCM16, tag=1)
        self.pushed = self.aged = 0
        #: (tag, number) of frames not processed; of results not read, where None is no result.
        self.waiting: deque[tuple[int, int]] = deque()
        self.results: deque[tuple[int, int] | None] = deque()
        self.gauges = TickGauge(), SlowTicks()

    @rule(frames=st.integers(1, 20))
    def the_carrier_sends(self, frames: int) -> None:
        for _ in range(frames):
            if self.slot.caller.push(frame(self.pushed)):
                self.waiting.append((self.slot.caller.tag, self.pushed))
                self.pushed += 1

    @rule(overloaded=st.booleans(), passes=st.integers(1, 10))
    def the_dsp_process_runs(self, *, overloaded: bool, passes: int) -> None:
        self.plane.loop.ticks = self.gauges[overloaded]
        for _ in range(passes):
            self.plane.loop.turn([0])
            room = USABLE_CELLS - len(self.results)
            if overloaded and room > 0 and len(self.waiting) > AGED_FRAMES:
                drop = min(len(self.waiting) - KEPT_FRAMES, room)
                for _ in range(drop):
                    self.waiting.popleft()
                    self.results.append(None)
                self.aged += drop
            if len(self.results) < USABLE_CELLS and self.waiting:
                self.results.append(self.waiting.popleft())

    @rule()
    def the_worker_hears(self) -> None:
        tag, results = self.slot.caller.tag, self.results
        expected = [frame(result[1]) for result in results if result and result[0] == tag]
        assert [pcm for pcm, _, _ in self.slot.heard()] == expected
        results.clear()

    @rule()
    def the_slot_is_leased_again(self) -> None:
        self.slot.lease(Encoding.PCM16, self.slot.caller.tag + 1)
        self.results.clear()

    @invariant()
    def what_is_lost_is_counted_and_is_no_damage(self) -> None:
        assert self.plane.row.counter("frames_aged") == self.aged
        assert self.plane.row.counter("dsp_bad_cells") == 0
        caller = self.plane.outputs.caller
        assert not caller.bad.any()
        assert not caller.damaged.any()

    @override
    def teardown(self) -> None:
        del self.plane, self.slot
        self.arena.close()


TestStalledDsp = StalledDsp.TestCase
TestStalledDsp.settings = settings(max_examples=25, stateful_step_count=40)


@pytest.mark.parametrize("encoding", [Encoding.MULAW, Encoding.PCM16, Encoding.G722])
def test_after_a_stall_everything_is_heard(
    make_plane: Callable[..., Plane], encoding: Encoding
) -> None:
    """A stall, or a network that delivers half a second at once: late, but without a hole."""
    wire = WIRE_FORMATS[encoding]
    raw = wire_bytes(encoding, noise(wire.frame_samples * 60, seed=1))
    frames = cut(raw, wire.frame_bytes)
    stalled, calm = (make_plane(slots=1, mode="silero") for _ in range(2))
    for plane in (stalled, calm):
        plane.slots[0].lease(encoding, tag=1)
    slot, heard = stalled.slots[0], Heard()
    for start in range(0, 60, USABLE_CELLS):
        for each in frames[start : start + USABLE_CELLS]:
            assert slot.caller.push(each)
        stalled.work()
        heard += slot.heard()
    assert heard == calm.hear(calm.slots[0], frames)
    assert stalled.row.counter("frames_aged") == 0


@pytest.mark.parametrize("encoding", list(Encoding), ids=lambda encoding: encoding.name)
def test_after_a_hole_a_stream_begins(make_plane: Callable[..., Plane], encoding: Encoding) -> None:
    """Filter, codec, level gate and VAD know nothing of what was before it."""
    wire = WIRE_FORMATS[encoding]
    raw = wire_bytes(encoding, noise(wire.frame_samples * 64, seed=1))
    frames = cut(raw, wire.frame_bytes)
    late, fresh = (make_plane(slots=1, mode="silero") for _ in range(2))
    for plane in (late, fresh):
        plane.slots[0].lease(encoding, tag=1)
    late.hear(late.slots[0], frames[:19])
    late.loop.ticks = SlowTicks()
    late.loop.overload = Overload(has_model=False)  # so that frames are dropped at once
    for each in frames[19:40]:
        assert late.slots[0].caller.push(each)
    late.work()
    # Where a window of 32 ms begins depends on the frame's number modulo 8: 38 is like 22.
    fresh.hear(fresh.slots[0], frames[:22])
    fresh.slots[0].lease(encoding, tag=2)
    heard = late.slots[0].heard() + late.hear(late.slots[0], frames[40:])
    assert heard == fresh.hear(fresh.slots[0], frames[38:])
    assert late.row.counter("frames_aged") == 21 - KEPT_FRAMES
    assert late.row.counter("codec_restarts") == wire.stateful


def test_a_call_that_is_not_behind_loses_nothing(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(slots=2)
    late, punctual = plane.slots
    late.lease(Encoding.PCM16, tag=1)
    punctual.lease(Encoding.PCM16, tag=1)
    plane.loop.ticks = SlowTicks()
    for n in range(AGED_FRAMES + 1):
        assert late.caller.push(frame(n))
        if n < AGED_FRAMES:
            assert punctual.caller.push(frame(n))
    plane.work()
    kept = [frame(n) for n in range(AGED_FRAMES + 1)]
    assert [pcm for pcm, _, _ in punctual.heard()] == kept[:-1]
    assert [pcm for pcm, _, _ in late.heard()] == kept[-KEPT_FRAMES:]
    assert plane.row.counter("frames_aged") == AGED_FRAMES + 1 - KEPT_FRAMES
    assert plane.outputs.caller.stale.tolist() == [AGED_FRAMES + 1 - KEPT_FRAMES, 0]


def test_the_assistant_never_loses_a_word(make_plane: Callable[..., Plane]) -> None:
    """A full ring is its normal state: whoever speaks is ahead, and waits for room."""
    plane = make_plane(slots=1)
    slot = plane.slots[0]
    slot.lease(Encoding.PCM16, tag=1)
    plane.loop.ticks = SlowTicks()
    pushed, spoken = 0, list[bytes]()
    while pushed < 100:
        while pushed < 100 and slot.assistant.push(frame(pushed)):
            pushed += 1
        plane.work()
        spoken += slot.encoded()
    assert spoken == [frame(n) for n in range(100)]
    assert plane.row.counter("frames_aged") == 0


def test_the_board_shows_the_ticks(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(slots=1)
    plane.loop.turn([0])
    assert plane.row.get(Field.LOOP_LAG_NS) == 0
    plane.loop.ticks = gauge = SlowTicks()
    gauge.p95_ns = 12_345
    plane.loop.turn([0])
    assert plane.row.get(Field.LOOP_LAG_NS) == 12_345


def test_before_a_word_is_lost_the_model_is_spared(make_plane: Callable[..., Plane]) -> None:
    """Speech is told from silence by its level then, and every frame is heard."""
    plane = make_plane(slots=1, mode="silero")
    slot = plane.slots[0]
    slot.lease(Encoding.PCM16, tag=1)
    silence, loud = bytes(320), noise(160, seed=1).tobytes()
    plane.loop.ticks = SlowTicks()
    for n in range(2 * AGED_FRAMES):
        if not slot.caller.push(loud if n >= AGED_FRAMES else silence):
            break
    plane.loop.turn([0])
    scored = plane.row.counter("dsp_windows")
    plane.work()
    heard = slot.heard()
    assert len(heard) == USABLE_CELLS
    assert plane.row.counter("frames_aged") == 0
    assert plane.row.counter("dsp_windows_spared") > 0
    assert plane.row.counter("dsp_windows") > scored, "the last few are scored again"
    said = [probability for _, probability, _ in heard]
    assert said[AGED_FRAMES - 2] < 0.1 < 0.9 < said[AGED_FRAMES + 4]
