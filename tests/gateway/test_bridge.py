"""Leases: one call a slot, tags that never repeat, results of an older lease never heard."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from typing_extensions import override

from audio.arena import Arena
from audio.bank import Bank
from audio.dsp_process import AudioPlane, DspLoop
from audio.format import Encoding
from audio.layout import SlotWord
from gateway.bridge import Bridge, Line
from supervisor.scoreboard import RowName, Scoreboard

SLOTS = 3


class Loop:
    """An event loop that a test turns by hand."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.later: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def call_later(self, delay: float, callback: Callable[[], None]) -> None:
        self.later.append(callback)


def bridge_on(arena: Arena, rung: list[int]) -> Bridge:
    return Bridge(arena, lambda: rung.append(1), Loop())


class Leases(RuleBasedStateMachine):
    """Calls come and go on three slots while frames of each carry its own level."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = Arena.create(SLOTS)
        self.bridge = bridge_on(self.arena, [])
        row = Scoreboard([RowName("dsp", 0)], 1).row("dsp", 0)
        self.dsp = DspLoop(AudioPlane("off"), [Bank(self.arena)], row, 10)
        self.live: dict[int, tuple[Line, int]] = {}
        self.leases: set[tuple[int, int]] = set()
        self.calls = 0

    @rule()
    def lease(self) -> None:
        line = self.bridge.lease(Encoding.PCM16)
        assert (line is None) == (len(self.live) == SLOTS)
        if line is not None:
            lease = (line.slot, line._pcm.tag)
            assert lease not in self.leases, "a tag was used before in this slot"
            self.leases.add(lease)
            self.calls += 1
            self.live[line.slot] = (line, self.calls)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        line, _ = self.live.pop(data.draw(st.sampled_from(sorted(self.live))))
        self.bridge.release(line)

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def speak_and_hear(self, data: st.DataObject) -> None:
        line, call = self.live[data.draw(st.sampled_from(sorted(self.live)))]
        frame = call.to_bytes(2, "little") * 320
        line.push_caller(frame, 0)
        line.push_assistant(frame)

    @rule()
    def the_dsp_process_works(self) -> None:
        self.dsp.turn([0])

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        line, _ = self.live[data.draw(st.sampled_from(sorted(self.live)))]
        line.clear()

    @rule()
    def the_worker_is_replaced(self) -> None:
        """A new worker on the old arena knows nothing of the leases and goes on counting."""
        self.bridge.close()
        self.bridge = bridge_on(self.arena, [])
        self.live.clear()

    @invariant()
    def everybody_hears_only_themselves(self) -> None:
        calls = {line.slot: call for line, call in self.live.values()}
        for slot, pcm, _, _ in self.bridge.heard():
            assert pcm == calls[slot].to_bytes(2, "little") * 320
        for slot, encoded in self.bridge.encoded():
            assert encoded == calls[slot].to_bytes(2, "little") * 320

    @override
    def teardown(self) -> None:
        self.bridge.close()
        del self.dsp
        self.arena.close()


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=40, stateful_step_count=40)


def test_the_bell_is_rung_once_an_iteration_and_then_rests(
    make_arena: Callable[[int], Arena],
) -> None:
    rung: list[int] = []
    loop = Loop()
    bridge = Bridge(make_arena(1), lambda: rung.append(1), loop, 4)
    line = bridge.lease(Encoding.MULAW)
    assert line is not None
    for _ in range(5):
        line.push_caller(bytes(160), 0)
    assert (len(loop.soon), rung) == (1, [])
    loop.soon.pop()()
    line.push_caller(bytes(160), 0)
    assert (len(loop.soon), rung) == (0, [1])
    loop.later.pop()()
    line.push_caller(bytes(160), 0)
    assert (len(loop.soon), rung) == (1, [1])
    bridge.close()


def test_the_slots_with_news_are_found_with_news(make_arena: Callable[[int], Arena]) -> None:
    arena = make_arena(4)
    bridge = bridge_on(arena, [])
    row = Scoreboard([RowName("dsp", 0)], 1).row("dsp", 0)
    dsp = DspLoop(AudioPlane("off"), [Bank(arena)], row, 10)
    lines = [line for _ in range(3) if (line := bridge.lease(Encoding.MULAW)) is not None]
    assert (bridge.encoded(), bridge.heard()) == ([], [])
    lines[2].push_caller(bytes(160), 0)
    lines[0].push_assistant(bytes(640))
    while dsp.turn([0]):
        pass
    assert [slot for slot, *_ in bridge.heard()] == [lines[2].slot]
    assert [slot for slot, _ in bridge.encoded()] == [lines[0].slot]
    assert (bridge.encoded(), bridge.heard()) == ([], [])
    bridge.close()


@pytest.mark.parametrize("value", [0, 10**6, -5, 2**62])
@pytest.mark.parametrize("word", [w for w in SlotWord if "HEAD" in w.name or "DONE" in w.name])
def test_damaged_counters_are_found_and_no_wrong_sample_is_played(
    make_arena: Callable[[int], Arena], word: SlotWord, value: int
) -> None:
    arena = make_arena(1)
    bridge = bridge_on(arena, [])
    row = Scoreboard([RowName("dsp", 0)], 1).row("dsp", 0)
    dsp = DspLoop(AudioPlane("off"), [Bank(arena)], row, 10)
    line = bridge.lease(Encoding.PCM16)
    assert line is not None
    heard: list[int] = []
    for n in range(1, 200):
        frame = n.to_bytes(2, "little") * 320
        line.push_caller(frame, 0)
        line.push_assistant(frame)
        if n == 100:
            arena.words[arena.layout.word_index(word, 0)] = value
        dsp.turn([0])
        dsp.turn([0])
        for _, pcm, _, _ in bridge.heard():
            heard.append(int.from_bytes(pcm[:2], "little"))
            assert pcm == heard[-1].to_bytes(2, "little") * 320
        for _, encoded in bridge.encoded():
            assert encoded[:2] * 320 == encoded
        line.check()
    assert line.damage > 0
    assert heard == sorted(set(heard)), "nothing is repeated or out of order"
    assert heard[-1] == 199, "and it goes on"
    bridge.close()


def test_a_damaged_header_is_written_again(make_arena: Callable[[int], Arena]) -> None:
    arena = make_arena(1)
    bridge = bridge_on(arena, [])
    assert bridge.check() == 0
    arena.buffer[0] ^= 0xFF
    assert bridge.check() == 1
    arena.check()
    bridge.close()
