"""The policy against a model of processes that may do anything at any time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
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

from supervisor.child import NS_PER_MS, Event
from supervisor.policy import (
    LATE_TICK_MS,
    NOBODY,
    SLOW_START_MS,
    Action,
    Assign,
    Finish,
    GiveUp,
    Kill,
    Park,
    Policy,
    Serving,
    Sighting,
    Signal,
    Slow,
    Spawn,
)
from supervisor.spec import EXIT_CONFIG, ChildSpec, StopPolicy

TICK_MS = 100
STOP = StopPolicy(drain_timeout_ms=10_000, kill_after_drain_ms=2_000, fast_timeout_ms=1_000)


@dataclass
class Process:
    """A running child of the model."""

    beat_ns: int
    says: Event | None = None
    seen: Event | None = None  # what the policy has been shown of that
    frozen: bool = False
    doomed: bool = False


@dataclass
class World:
    """Carries out actions on model processes and objects to what must not be done."""

    specs: list[ChildSpec]
    arenas: int = 0
    now_ns: int = 0
    processes: dict[str, Process] = field(default_factory=dict)
    owners: list[int | None] = field(default_factory=list)
    restarts_ns: dict[str, list[int]] = field(default_factory=dict)
    parked: set[str] = field(default_factory=set)
    happened: list[Action] = field(default_factory=list)
    stopping: bool = False
    status: int | None = None

    def __post_init__(self) -> None:
        self.policy = Policy(self.specs, self.arenas, STOP, self.now_ns)
        self.owners = [None] * self.arenas
        self.do(self.policy.start(self.now_ns))

    def do(self, actions: Iterable[Action]) -> list[Action]:
        done = list(actions)
        for action in done:
            assert self.status is None, "nothing comes after Finish"
            self._do(action)
        self.happened += done
        return done

    def _do(self, action: Action) -> None:
        match action:
            case Spawn(name, again):
                self._spawn(name, again=again)
            case Signal(name, signum):
                assert signum == SIGTERM
                assert self.stopping
                workers = [n for n in self.processes if n.startswith("worker")]
                assert not workers or name in workers, "workers end before the rest is told"
            case Kill(name, _):
                self.processes[name].doomed = True
            case Park(name):
                self.parked.add(name)
            case Assign(arena, dsp):
                self._assign(arena, dsp)
            case GiveUp():
                self.stopping = True
            case Finish(status):
                assert not self.processes, "nobody is left behind"
                self.status = status

    def _spawn(self, name: str, *, again: bool) -> None:
        assert name not in self.processes, "one process a place"
        assert not self.stopping, "nothing is spawned while stopping"
        assert name not in self.parked
        self.processes[name] = Process(self.now_ns)
        if again:
            self.restarts_ns.setdefault(name, []).append(self.now_ns)

    def _assign(self, arena: int, dsp: int) -> None:
        owner = self.owners[arena]
        assert owner in (None, NOBODY) or f"dsp-{owner}" not in self.processes, (
            "its owner must be confirmed dead"
        )
        if dsp != NOBODY:
            assert self.processes[f"dsp-{dsp}"].seen is Event.READY
        self.owners[arena] = dsp

    def tick(self, after_ms: int = TICK_MS) -> list[Action]:
        self.now_ns += after_ms * NS_PER_MS
        for process in self.processes.values():
            if not process.frozen:
                process.beat_ns = self.now_ns
            process.seen = process.says
        sightings = {n: Sighting(p.beat_ns, p.says) for n, p in self.processes.items()}
        return self.do(self.policy.tick(sightings, self.now_ns))

    def die(self, name: str, status: int, jitter: float = 0) -> list[Action]:
        del self.processes[name]
        return self.do(self.policy.on_exit(name, status, self.now_ns, jitter))

    def stop(self, *, fast: bool = False) -> list[Action]:
        self.stopping = True
        return self.do(self.policy.on_stop(self.now_ns, fast=fast))

    def bury(self) -> None:
        """What was killed dies."""
        for name in [n for n, p in self.processes.items() if p.doomed]:
            self.die(name, -9)

    def say(self, event: Event = Event.READY) -> None:
        """Every process that has said nothing yet says this."""
        for process in self.processes.values():
            process.says = process.says or event

    def settle(self, for_ms: int) -> None:
        """Time passes; whatever starts gets ready, nothing new goes wrong."""
        for _ in range(for_ms // LATE_TICK_MS + 1):
            self.say()
            self.tick(LATE_TICK_MS)
            self.bury()


def spec(kind: str, index: int = 0) -> ChildSpec:
    return ChildSpec(kind=kind, index=index, target="a:b", hung_after_ms=2_000)


def gateway(workers: int = 2, dsps: int = 2, arenas: int = 3) -> World:
    specs = [spec("dsp", i) for i in range(dsps)] + [spec("console")]
    return World([*specs, *(spec("worker", i) for i in range(workers))], arenas)


class AnythingCanHappen(RuleBasedStateMachine):
    """Children start, hang, crash and are slow in any order, and operators are impatient."""

    @initialize(workers=st.integers(1, 3), dsps=st.integers(1, 4))
    def begin(self, workers: int, dsps: int) -> None:
        self.world = gateway(workers, dsps, workers + 1)

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
    @rule(data=st.data())
    def one_finds_its_configuration_impossible(self, data: st.DataObject) -> None:
        world, name = self.world, self.pick(data)
        hopeless = not (world.stopping or world.processes[name].seen)
        gave_up = [a for a in world.die(name, EXIT_CONFIG) if isinstance(a, GiveUp)]
        assert any(a.status == EXIT_CONFIG for a in gave_up) == hopeless

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
        for name, restarts in self.world.restarts_ns.items():
            restart = next(s.restart for s in self.world.specs if s.name == name)
            window_ns = restart.window_ms * NS_PER_MS
            recent = [t for t in restarts if t > restarts[-1] - window_ns]
            # A back-off may carry a restart from the window of its death into the next one.
            assert len(recent) <= restart.restarts_per_window_max + 1

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
        world.settle(40_000)  # longer than the longest back-off
        if world.stopping:  # that last burial was one too many
            return
        expected = {s.name for s in world.specs} - world.parked
        assert {n for n, p in world.processes.items() if p.says is Event.READY} == expected
        assert NOBODY not in world.owners
        assert Serving() in world.happened

    def check_end(self) -> None:
        """Even if nobody listens to SIGTERM any more, it ends within its deadlines."""
        world = self.world
        world.stop()
        latest_ms = STOP.drain_limit_ms + max(s.stop_timeout_ms for s in world.specs)
        end_ns = world.now_ns + (latest_ms + 4 * TICK_MS) * NS_PER_MS
        while world.status is None:
            world.tick()
            world.bury()
            assert world.now_ns <= end_ns, "it does not end"


AnythingCanHappen.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None
)
TestAnythingCanHappen = AnythingCanHappen.TestCase


def kinds(actions: Iterable[Action]) -> list[type]:
    return [type(action) for action in actions]


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


def test_one_dsp_process_is_left_as_standby() -> None:
    world = gateway(dsps=3, arenas=4)
    world.say()
    world.tick()
    assert world.owners == [0, 1, 0, 1]
    world.die("dsp-0", -9)
    assert world.owners == [2, 1, 2, 1]
    world.settle(1000)
    assert world.owners == [2, 1, 2, 1]  # the replacement is the new standby
    world.die("dsp-2", -9)
    assert world.owners == [0, 1, 0, 1]


def test_standby_that_is_ready_first_waits_for_the_others() -> None:
    world = gateway()
    world.processes["dsp-1"].says = Event.READY
    world.tick()
    assert world.owners == [NOBODY] * 3
    world.die("dsp-0", 1)  # now waiting longer would only be a longer wait
    assert world.owners == [1, 1, 1]
    world.settle(1000)
    assert world.owners == [1, 1, 1]


def test_hung_dsp_process_keeps_its_arenas_until_it_is_reaped() -> None:
    world = gateway()
    world.say()
    world.tick()
    world.processes["dsp-0"].frozen = True
    while not world.processes["dsp-0"].doomed:
        world.tick()
    assert world.owners == [0, 0, 0]
    world.bury()
    assert world.owners == [1, 1, 1]


def test_hung_is_later_than_hung_after() -> None:
    world = gateway()
    world.say()
    world.tick()
    world.processes["worker-0"].frozen = True
    for _ in range(20):
        assert world.tick() == []
    (kill,) = world.tick()
    assert kill == Kill("worker-0", "no sign of life for 2100 ms in READY")
    assert world.tick() == []  # once is enough


def test_starting_child_may_be_silent_for_longer() -> None:
    world = World([spec("console")])
    world.processes["console-0"].frozen = True
    for _ in range(world.specs[0].ready_timeout_ms // TICK_MS):
        assert Kill not in kinds(world.tick())
    assert kinds(world.tick()) == [Kill]
    slow = [a for a in world.happened if isinstance(a, Slow)]
    assert slow == [Slow("console-0", SLOW_START_MS)]


def test_stall_gives_everybody_the_whole_time_again() -> None:
    world = gateway()
    world.say()
    world.tick()
    world.processes["worker-0"].frozen = True
    assert world.tick(60_000) == []
    for _ in range(20):
        assert world.tick() == []
    assert kinds(world.tick()) == [Kill]


def test_restart_at_once_then_with_a_pause() -> None:
    world = gateway()
    world.say()
    world.tick()
    assert world.die("worker-0", 1) == [Spawn("worker-0", again=True)]
    assert world.die("worker-0", 0, jitter=1) == []
    for _ in range(5):
        assert world.tick() == []
    assert world.tick() == [Spawn("worker-0", again=True)]


def test_configuration_that_cannot_work_is_given_up() -> None:
    world = gateway()
    actions = world.die("console-0", EXIT_CONFIG)
    assert actions[0] == GiveUp(EXIT_CONFIG, "console-0 cannot work with this configuration")
    assert [a.child for a in actions if isinstance(a, Signal)] == ["worker-0", "worker-1"]
    for name in list(world.processes):
        world.die(name, -15)
    assert world.status == EXIT_CONFIG


def test_same_status_of_a_child_that_has_served_is_a_crash() -> None:
    world = gateway()
    world.say()
    world.tick()
    assert world.die("worker-0", EXIT_CONFIG) == [Spawn("worker-0", again=True)]


def test_giving_up_later_lets_calls_drain() -> None:
    world = gateway()
    world.say()
    world.tick()
    world.die("worker-0", 1)
    world.die("worker-0", EXIT_CONFIG)
    for _ in range(STOP.drain_limit_ms // TICK_MS - 1):
        assert Kill not in kinds(world.tick())
    assert Kill("worker-1", "did not end in time") in world.tick()


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
    world = gateway()
    world.say()
    world.tick()
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


def test_fast_stop_shortens_the_time_workers_were_given() -> None:
    world = gateway()
    world.say()
    world.tick()
    world.die("worker-0", 1)
    world.die("worker-0", EXIT_CONFIG)  # gives up, with a drain
    world.stop(fast=True)
    for _ in range(STOP.fast_timeout_ms // TICK_MS - 1):
        assert Kill not in kinds(world.tick())
    assert Kill("worker-1", "did not end in time") in world.tick()


def test_child_in_back_off_is_not_spawned_by_a_stop() -> None:
    world = gateway()
    world.say()
    world.tick()
    world.die("worker-0", 1)
    world.die("worker-0", 1)
    world.stop()
    for _ in range(20):
        world.tick()
    assert "worker-0" not in world.processes
