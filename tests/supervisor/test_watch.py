"""What a silent child is told, and when."""

from __future__ import annotations

import pytest

from supervisor.actions import Dump, Kill, Ready, Silent, Slow
from supervisor.policy import LATE_TICK_MS
from supervisor.watch import SLOW_START_MS
from tests.supervisor.world import TICK_MS, World, gateway, kinds, ready_gateway, spec


def test_silence_is_reported_then_dumped_then_killed_once_each() -> None:
    world = ready_gateway()
    world.processes["worker-0"].frozen = True
    happened = [(ms, a) for ms in range(TICK_MS, 8_000, TICK_MS) for a in world.tick()]
    assert happened == [
        (550, Silent("worker-0", 550)),
        (3_050, Dump("worker-0", 3_050)),
        (5_050, Kill("worker-0", "no sign of life for 5050 ms in READY")),
    ]


def test_whoever_beats_again_is_reported_again_the_next_time() -> None:
    world = ready_gateway()
    worker = world.processes["worker-0"]
    for _ in range(2):
        worker.frozen = True
        reports = [a for _ in range(70) for a in world.tick()]
        assert kinds(reports) == [Silent, Dump]
        worker.frozen = False
        assert world.tick() == []


def test_silent_dsp_process_is_killed_early_and_loses_its_arenas_when_it_is_dead() -> None:
    world = ready_gateway()
    world.processes["dsp-0"].frozen = True
    for _ in range(8):
        assert world.tick() == []
    assert world.tick() == [Kill("dsp-0", "no sign of life for 450 ms in READY")]


@pytest.mark.parametrize("stall_ms", [LATE_TICK_MS + 1, 300, 399, 60_000])
def test_stall_of_the_host_gives_everybody_the_whole_time_again(stall_ms: int) -> None:
    world = ready_gateway()
    for process in world.processes.values():
        process.frozen = True
    assert world.tick(100) == []  # an idle DSP process beats this often
    assert world.tick(stall_ms) == []
    for _ in range(8):
        assert world.tick() == []
    assert kinds(world.tick()) == [Kill, Kill]  # both DSP processes


def test_starting_child_may_be_silent_for_longer() -> None:
    world = World([spec("console")])
    world.processes["console-0"].frozen = True
    for _ in range(world.others[0].ready_timeout_ms // TICK_MS):
        assert Kill not in kinds(world.tick())
    assert kinds(world.tick()) == [Kill]
    slow = [a for a in world.happened if isinstance(a, Slow)]
    assert slow == [Slow("console-0", SLOW_START_MS)]
    assert not {Silent, Dump} & set(kinds(world.happened))


def test_ready_is_told_once() -> None:
    world = gateway()
    world.say()
    told = [a for _ in range(3) for a in world.tick() if isinstance(a, Ready)]
    assert sorted(a.child for a in told) == sorted(world.processes)
    assert {a.took_ms for a in told} == {TICK_MS}


def test_killed_child_is_left_alone() -> None:
    world = ready_gateway()
    world.processes["worker-0"].frozen = True
    while not world.processes["worker-0"].doomed:
        world.tick()
    assert [a for _ in range(200) for a in world.tick()] == []
