"""The policy against a model of processes that may do anything at any time."""

from __future__ import annotations

from signal import SIGTERM

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from typing_extensions import override

from supervisor.actions import GiveUp, Kill, Park, RollFailed, Serving, Signal, Spawn
from supervisor.child import NS_PER_MS, Event
from supervisor.kinds import RETIRE
from supervisor.policy import FAST_TIMEOUT_MS, LATE_TICK_MS
from supervisor.spec import EXIT_CONFIG, NOBODY
from tests.supervisor.world import (
    DRAIN_LIMIT_MS,
    RETIRE_LIMIT_MS,
    RSS_MAX,
    TICK_MS,
    end_limit_ms,
    gateway,
    kinds,
    ready_gateway,
    spec,
)


class AnythingCanHappen(RuleBasedStateMachine):
    """Children start, hang, crash and are slow in any order, and operators are impatient."""

    @initialize(workers=st.integers(1, 3), dsps=st.integers(1, 4))
    def begin(self, workers: int, dsps: int) -> None:
        self.world = gateway(workers, dsps)
        self.reloaded_at = 0

    def pick(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.world.processes)))

    def is_running(self) -> bool:
        return bool(self.world.processes)

    def is_going_on(self) -> bool:
        return self.world.status is None

    @precondition(is_going_on)
    @rule(ticks=st.integers(1, 40))
    def time_passes(self, ticks: int) -> None:
        for _ in range(ticks):
            if self.world.status is None:
                self.world.tick()

    @precondition(is_going_on)
    @rule(for_ms=st.integers(LATE_TICK_MS + 1, 60_000))
    def host_stalls(self, for_ms: int) -> None:
        before = self.world.now_ns
        actions = self.world.tick(for_ms)
        hung = [a for a in actions if isinstance(a, Kill) and "no sign of life" in a.reason]
        assert hung == [], "after a late tick nobody is to blame"
        assert self.world.now_ns > before

    @precondition(is_running)
    @rule(data=st.data())
    def one_gets_ready(self, data: st.DataObject) -> None:
        process = self.world.processes[self.pick(data)]
        process.says = process.says or Event.READY

    @precondition(is_running)
    @rule(data=st.data())
    def one_ends_of_its_own_accord(self, data: st.DataObject) -> None:
        self.world.processes[self.pick(data)].says = Event.DRAIN

    @precondition(is_running)
    @rule(data=st.data())
    def one_freezes(self, data: st.DataObject) -> None:
        self.world.processes[self.pick(data)].frozen = True

    @precondition(is_running)
    @rule(data=st.data(), status=st.sampled_from([0, 1, -9, -11]), jitter=st.floats(-1, 1))
    def one_dies(self, data: st.DataObject, status: int, jitter: float) -> None:
        self.world.die(self.pick(data), status, jitter)

    @precondition(is_running)
    @rule()
    def everybody_gets_ready(self) -> None:
        self.world.say()

    @precondition(is_running)
    @rule()
    def what_was_killed_dies(self) -> None:
        self.world.bury()

    @precondition(is_running)
    @rule()
    def what_was_told_to_end_ends(self) -> None:
        self.world.obey()

    @precondition(is_running)
    @rule(data=st.data())
    def one_finds_its_configuration_impossible(self, data: st.DataObject) -> None:
        world, name = self.world, self.pick(data)
        failed = world.processes[name].spec
        serving = Serving() in world.happened
        hopeless = not (world.stopping or world.processes[name].seen)
        actions = world.die(name, EXIT_CONFIG)
        gave_up = any(isinstance(a, GiveUp) and a.status == EXIT_CONFIG for a in actions)
        assert gave_up == (hopeless and not serving)
        assert not hopeless or failed not in [a.spec for a in actions if isinstance(a, Spawn)]

    @precondition(is_going_on)
    @rule()
    def operator_reloads(self) -> None:
        self.world.reload()
        self.reloaded_at = len(self.world.happened)

    @precondition(is_running)
    @rule(data=st.data())
    def one_grows_heavy(self, data: st.DataObject) -> None:
        self.world.processes[self.pick(data)].rss_bytes = RSS_MAX + 1

    @precondition(is_running)
    @rule(fast=st.booleans())
    def operator_stops_it(self, *, fast: bool) -> None:
        self.world.stop(fast=fast)

    @precondition(lambda self: not self.is_going_on())
    @rule()
    def it_stays_finished(self) -> None:
        assert self.world.tick() == []

    @invariant()
    def no_arena_belongs_to_the_dead(self) -> None:
        for owner in self.world.owners:
            assert owner is not None
            assert owner == NOBODY or f"dsp-{owner}" in self.world.processes

    @invariant()
    def restarts_in_a_window_are_bounded(self) -> None:
        restart = spec("worker").restart
        for restarts in self.world.restarts_ns.values():
            window_ns = restart.window_ms * NS_PER_MS
            recent = [t for t in restarts if t > restarts[-1] - window_ns]
            # A back-off may carry a restart from the window of its death into the next one.
            assert len(recent) <= restart.restarts_per_window_max + 1

    @invariant()
    def one_worker_is_replaced_at_a_time(self) -> None:
        counts = sorted(self.world.listeners().values())
        assert counts[-1:] in ([], [1], [2])
        assert counts[-2:-1] in ([], [1])

    @invariant()
    def one_place_is_spare_but_during_a_replacement(self) -> None:
        world = self.world
        assert len(world.spares) in (0, 1)
        assert world.spares.isdisjoint(world.processes)
        places = {*world.running(), *world.spares, *world.parked}
        assert len([p for p in places if p.startswith("worker")]) <= world.workers + 1

    @invariant()
    def drains_end_within_their_deadline(self) -> None:
        assert self.world.overdue() == []

    @override
    def teardown(self) -> None:
        world = self.world
        if not world.stopping:
            self.check_convergence()
        if world.status is None:
            self.check_end()

    def check_convergence(self) -> None:
        """Left alone, everybody who is not parked serves, and every arena has an owner."""
        world = self.world
        for process in world.processes.values():
            process.doomed = process.doomed or process.says is Event.DRAIN
            process.rss_bytes = 1
        world.settle(40_000)  # longer than the longest back-off
        if world.stopping:  # that last burial was one too many
            return
        assert {p.says for p in world.processes.values()} == {Event.READY}
        assert {s.name for s in world.others} <= {*world.processes, *world.parked}
        assert len(world.spares) == 1
        parked = sum(name.startswith("worker") for name in world.parked)
        assert len(world.running()) == world.workers - parked
        assert set(world.listeners().values()) <= {1}
        assert NOBODY not in world.owners
        assert Serving() in world.happened
        failed = RollFailed in kinds(world.happened[self.reloaded_at :])
        assert failed or world.crew_numbers() <= {world.crews}

    def check_end(self) -> None:
        """Even if nobody listens to SIGTERM any more, it ends within its deadlines."""
        world = self.world
        world.stop()
        end_ns = world.now_ns + end_limit_ms() * NS_PER_MS
        while world.status is None:
            world.tick()
            world.bury()
            assert world.now_ns <= end_ns, "it does not end"


RESTART = Spawn(spec("worker", 0, 0), again=True)

AnythingCanHappen.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None
)
TestAnythingCanHappen = AnythingCanHappen.TestCase


def test_everything_is_spawned_at_once_and_no_arena_is_served() -> None:
    world = gateway()
    assert set(world.processes) == {"dsp-0", "dsp-1", "console-0", "worker-0", "worker-1"}
    assert world.owners == [NOBODY] * 3


def test_serving_needs_everybody_but_only_one_dsp_process() -> None:
    world = gateway()
    for name in ("worker-0", "worker-1", "console-0", "dsp-1"):
        assert Serving() not in world.tick()
        world.processes[name].says = Event.READY
    assert Serving() in world.tick()
    assert Serving() not in world.tick()


def test_restart_at_once_then_with_a_pause() -> None:
    world = ready_gateway()
    assert world.die("worker-0", 1) == [RESTART]
    assert world.die("worker-0", 0, jitter=1) == []
    for _ in range(11):  # 500 ms and the jitter of 20 %
        assert world.tick() == []
    assert world.tick() == [RESTART]


def test_configuration_that_cannot_work_is_given_up() -> None:
    world = gateway()
    actions = world.die("console-0", EXIT_CONFIG)
    assert actions[0] == GiveUp(EXIT_CONFIG, "console-0 cannot work with this configuration")
    assert [a.child for a in actions if isinstance(a, Signal)] == ["worker-0", "worker-1"]
    for name in list(world.processes):
        world.die(name, -15)
    assert world.status == EXIT_CONFIG


def test_same_status_of_a_child_that_has_served_is_a_crash() -> None:
    world = ready_gateway()
    assert world.die("worker-0", EXIT_CONFIG) == [RESTART]


def test_configuration_that_fails_later_parks_one_and_calls_go_on() -> None:
    world = ready_gateway()
    world.die("worker-0", 1)
    assert world.die("worker-0", EXIT_CONFIG) == [Park("worker-0")]
    world.settle(60_000)
    assert world.running() == ["worker-1"]


def test_giving_up_later_lets_calls_drain() -> None:
    world = ready_gateway(workers=1)
    while world.running("dsp"):
        world.die(world.running("dsp")[0], -11)
        world.tick()
    while GiveUp not in kinds(world.happened):
        world.tick()
        for name in world.running("dsp"):
            world.die(name, -11)
    told_ns = world.processes["worker-0"].told_ns
    assert told_ns is not None
    while world.now_ns < told_ns + (DRAIN_LIMIT_MS - TICK_MS) * NS_PER_MS:
        assert Kill not in kinds(world.tick())
    assert Kill("worker-0", "did not end in time") in world.tick()


@pytest.mark.parametrize(("kind", "ends"), [("worker", True), ("dsp", True), ("console", False)])
def test_when_every_worker_is_parked_nothing_can_be_served(kind: str, *, ends: bool) -> None:
    world = gateway(workers=1, dsps=1)
    name = f"{kind}-0"
    while name not in world.parked:
        if name in world.processes:
            world.die(name, 1)
        world.tick()
    assert any(isinstance(a, GiveUp) and a.status == 1 for a in world.happened) == ends


def test_workers_drain_before_the_rest_is_told() -> None:
    world = ready_gateway()
    told = [a for a in world.stop() if isinstance(a, Signal)]
    assert [a.child for a in told] == ["worker-0", "worker-1"]
    assert world.tick() == []
    assert world.die("worker-0", 0) == []
    told = [a for a in world.die("worker-1", 0) if isinstance(a, Signal)]
    assert [a.child for a in told] == ["dsp-0", "dsp-1", "console-0"]
    for name in list(world.processes):
        world.die(name, 0)
    assert world.status == 0


def test_sigint_after_sigterm_kills_everybody() -> None:
    world = gateway()
    world.stop()
    world.stop(fast=True)
    assert all(process.doomed for process in world.processes.values())


def test_fast_stop_shortens_the_time_of_a_worker_that_is_being_replaced() -> None:
    world = ready_gateway()
    world.reload()
    world.tick()
    world.say()
    world.tick()
    assert world.processes["worker-0"].told_ns == world.now_ns
    world.stop(fast=True)
    for _ in range(FAST_TIMEOUT_MS // TICK_MS - 1):
        assert Kill not in kinds(world.tick())
    assert Kill("worker-0", "did not end in time") in world.tick()


def test_stop_gives_a_worker_that_is_being_replaced_no_more_time_than_the_others() -> None:
    world = ready_gateway()
    world.reload()
    world.tick()
    world.say()
    assert Signal("worker-0", RETIRE) in world.tick()
    told = [action for action in world.stop() if isinstance(action, Signal)]
    assert told == [Signal(name, SIGTERM) for name in world.running()]
    for _ in range(DRAIN_LIMIT_MS // TICK_MS - 1):
        assert world.tick() == []
    assert Kill("worker-0", "did not end in time") in world.tick()


def test_stop_does_not_lengthen_the_time_of_a_worker_that_is_being_replaced() -> None:
    world = ready_gateway()
    world.reload()
    world.tick()
    world.say()
    world.tick()
    for _ in range((RETIRE_LIMIT_MS - 1_000) // TICK_MS):
        world.tick()
    world.stop()
    for _ in range(1_000 // TICK_MS - 1):
        assert world.tick() == []
    assert world.tick() == [Kill("worker-0", "did not end in time")]


def test_child_in_back_off_is_not_spawned_by_a_stop() -> None:
    world = ready_gateway()
    world.die("worker-0", 1)
    world.die("worker-0", 1)
    world.stop()
    for _ in range(20):
        world.tick()
    assert "worker-0" not in world.processes
