"""A model of processes that may do anything at any time, and of what must never be done to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from signal import SIGTERM

from supervisor.actions import (
    Action,
    Assign,
    Finish,
    GiveUp,
    Kill,
    Park,
    Rest,
    Sighting,
    Signal,
    Spawn,
)
from supervisor.child import NS_PER_MS, Event
from supervisor.kinds import RETIRE
from supervisor.policy import FAST_TIMEOUT_MS, LATE_TICK_MS, Policy
from supervisor.spec import NOBODY, ChildSpec, Crew, RestartPolicy

TICK_MS = 50
DRAIN_LIMIT_MS = 12_000
RETIRE_LIMIT_MS = 30_000
RSS_MAX = 1_000
HUNG_AFTER_MS = {"dsp": 400}


def spec(kind: str, index: int = 0, listener: int = NOBODY, crew: int = 0) -> ChildSpec:
    return ChildSpec(
        kind=kind,
        index=index,
        listener=listener,
        target="a:b",
        kwargs={"crew": crew},
        hung_after_ms=HUNG_AFTER_MS.get(kind, 5_000),
        stop_timeout_ms=DRAIN_LIMIT_MS if kind == "worker" else 5_000,
        retire_timeout_ms=RETIRE_LIMIT_MS,
        rss_bytes_max=RSS_MAX if kind == "worker" else 0,
        restart=RestartPolicy(),
    )


def crew(workers: int, number: int = 0) -> Crew:
    """Workers by the settings of this number."""
    return Crew(workers, lambda place, listener: spec("worker", place, listener, number))


@dataclass
class Process:
    """A running child of the model."""

    spec: ChildSpec
    beat_ns: int
    says: Event | None = None
    seen: Event | None = None  # what the policy has been shown of that
    frozen: bool = False
    doomed: bool = False
    told_ns: int | None = None
    end_ns: int | None = None  # by when it has to end
    rss_bytes: int = 1


@dataclass
class World:
    """Carries out actions on model processes and objects to what must not be done."""

    others: list[ChildSpec]
    workers: int = 0
    now_ns: int = 0
    crews: int = 0
    processes: dict[str, Process] = field(default_factory=dict)
    owners: list[int | None] = field(default_factory=list)
    restarts_ns: dict[str, list[int]] = field(default_factory=dict)
    parked: set[str] = field(default_factory=set)
    spares: set[str] = field(default_factory=set)
    happened: list[Action] = field(default_factory=list)
    stopping: bool = False
    status: int | None = None

    def __post_init__(self) -> None:
        arenas = self.workers + 1
        self.policy = Policy(self.others, crew(self.workers), arenas, self.now_ns)
        self.owners = [None] * arenas
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
            case Spawn(child, again):
                self._spawn(child, again=again)
            case Signal(name, signum):
                assert signum in (SIGTERM, RETIRE)
                self._tell(name, retire=signum == RETIRE)
            case Kill(name, _):
                self.processes[name].doomed = True
            case Assign(arena, dsp):
                self._assign(arena, dsp)
            case Park() | Rest() | GiveUp() | Finish():
                self._note(action)

    def _note(self, action: Park | Rest | GiveUp | Finish) -> None:
        match action:
            case Park(name):
                self.parked.add(name)
            case Rest(name):
                self._rest(name)
            case GiveUp():
                self.stopping = True
            case Finish(status):
                assert not self.processes, "nobody is left behind"
                self.status = status

    def _spawn(self, child: ChildSpec, *, again: bool) -> None:
        assert child.name not in self.processes, "one process a place, one worker an arena"
        assert not self.stopping, "nothing is spawned while stopping"
        assert child.name not in self.parked
        self.spares.discard(child.name)
        self.processes[child.name] = Process(child, self.now_ns)
        if again:
            self.restarts_ns.setdefault(child.name, []).append(self.now_ns)

    def _tell(self, name: str, *, retire: bool) -> None:
        told = self.processes[name]
        workers = [p for p in self.processes.values() if p.spec.kind == "worker"]
        if self.stopping:
            assert not retire
            assert told in workers or not workers, "workers end before the rest is told"
        elif retire or told.says is not Event.DRAIN:
            assert retire, "calls of who is replaced may go on"
            heirs = [p for p in workers if p is not told and p.seen is Event.READY]
            assert told.spec.listener in {p.spec.listener for p in heirs}, "somebody takes over"
        told.told_ns = self.now_ns
        limit_ms = RETIRE_LIMIT_MS if retire else DRAIN_LIMIT_MS
        end_ns = self.now_ns + limit_ms * NS_PER_MS
        told.end_ns = min(end_ns, told.end_ns or end_ns)

    def _rest(self, name: str) -> None:
        assert name not in self.processes
        self.spares.add(name)
        self.parked.discard(name)
        self.restarts_ns.pop(name, None)  # whoever comes next starts afresh

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
        sightings = {n: Sighting(p.beat_ns, p.says, p.rss_bytes) for n, p in self.processes.items()}
        return self.do(self.policy.tick(sightings, self.now_ns))

    def die(self, name: str, status: int, jitter: float = 0) -> list[Action]:
        del self.processes[name]
        return self.do(self.policy.on_exit(name, status, self.now_ns, jitter))

    def stop(self, *, fast: bool = False) -> list[Action]:
        self.stopping = True
        return self.do(self.policy.on_stop(self.now_ns, fast=fast))

    def reload(self) -> list[Action]:
        self.crews += 1
        return self.do(self.policy.on_reload(crew(self.workers, self.crews), self.now_ns))

    def bury(self) -> None:
        """What was killed dies."""
        for name in [n for n, p in self.processes.items() if p.doomed]:
            self.die(name, -9)

    def obey(self) -> None:
        """What was told to end ends."""
        for name in [n for n, p in self.processes.items() if p.told_ns is not None]:
            self.die(name, 0)

    def say(self, event: Event = Event.READY) -> None:
        """Every process that has said nothing yet says this."""
        for process in self.processes.values():
            process.says = process.says or event

    def settle(self, for_ms: int) -> None:
        """Time passes; whatever starts gets ready, what should end ends, nothing else happens."""
        for _ in range(for_ms // LATE_TICK_MS + 1):
            self.say()
            self.tick(LATE_TICK_MS)
            self.bury()
            self.obey()

    def running(self, kind: str = "worker") -> list[str]:
        return [n for n, p in self.processes.items() if p.spec.kind == kind]

    def listeners(self) -> Counter[int]:
        """How many workers run on each listener."""
        return Counter(self.processes[name].spec.listener for name in self.running())

    def crew_numbers(self) -> set[object]:
        return {self.processes[name].spec.kwargs["crew"] for name in self.running()}

    def overdue(self) -> list[str]:
        """Who was told to end longer ago than its limit and has not been killed."""
        grace_ns = 2 * TICK_MS * NS_PER_MS
        return [
            name
            for name, p in self.processes.items()
            if p.end_ns is not None and self.now_ns - p.end_ns > grace_ns and not p.doomed
        ]


def gateway(workers: int = 2, dsps: int = 2) -> World:
    return World([*(spec("dsp", i) for i in range(dsps)), spec("console")], workers)


def ready_gateway(workers: int = 2, dsps: int = 2) -> World:
    world = gateway(workers, dsps)
    world.say()
    world.tick()
    return world


def end_limit_ms(*, fast: bool = False) -> int:
    """The latest end of everything after a signal."""
    return (FAST_TIMEOUT_MS if fast else DRAIN_LIMIT_MS) + 5_000 + 4 * TICK_MS


def kinds(actions: Iterable[Action]) -> list[type]:
    return [type(action) for action in actions]


def spawned(actions: Iterable[Action]) -> list[str]:
    return [action.spec.name for action in actions if isinstance(action, Spawn)]
