"""What the supervisor decides, without doing any of it.

``Policy`` is told what happened (an exit, a signal, what the board says) and the time, and
answers with actions; ``tree.py`` carries them out. No clock, no random number, no system call, so
that a test can live through a year of crashes in a second.

How it decides:

* A dead child is replaced at once, then after growing pauses; too many deaths in a window park
  it. When every worker or every DSP process is parked nothing can be served: give up, so that
  whoever runs the supervisor notices.
* A configuration that cannot work does not get better by trying again: give up with status 2.
* A child is hung when its heartbeat is too old. A host that stalled makes every heartbeat old,
  the supervisor's own tick too: after a late tick all ages count from that tick.
* Arena ``a`` belongs at first to DSP process ``a mod (n - 1)``: the last one is the standby. An
  owner keeps its arenas until its exit is confirmed, also when it hangs or is being killed: two
  processes over the same rings would corrupt them. Then whoever is ready and has the fewest
  arenas takes over, and the replacement is the new standby.
* Stopping: workers first, because calls need everything else; then the rest. Nothing is spawned
  any more. Every wait has a deadline, after it comes SIGKILL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from signal import SIGTERM, Signals

from supervisor.child import NS_PER_MS, Child, Event, State
from supervisor.spec import DSP, EXIT_CONFIG, WORKER, ChildSpec, StopPolicy

#: Exit status of the supervisor when it gives up for another reason than its configuration.
EXIT_FAILURE = 1

#: The index that stands for "no DSP process" on the board.
NOBODY = -1

#: A tick this much after the one before it (they are at most 100 ms apart) was held up by the host.
LATE_TICK_MS = 250

#: A child that needs longer than this to get ready is worth a sentence to whoever waits for it.
SLOW_START_MS = 5_000


@dataclass(frozen=True, slots=True)
class Spawn:
    """Fork this child; ``again`` when it replaces one that died."""

    child: str
    again: bool


@dataclass(frozen=True, slots=True)
class Signal:
    """Send a signal to this child."""

    child: str
    signum: Signals


@dataclass(frozen=True, slots=True)
class Kill:
    """SIGKILL this child; ``reason`` is for the log."""

    child: str
    reason: str


@dataclass(frozen=True, slots=True)
class Park:
    """Not restarted any more: it died too often."""

    child: str


@dataclass(frozen=True, slots=True)
class Assign:
    """Write to the board which DSP process (or NOBODY) serves an arena, and wake that process."""

    arena: int
    dsp: int


@dataclass(frozen=True, slots=True)
class Ready:
    """This child serves, so long after it was spawned."""

    child: str
    took_ms: int


@dataclass(frozen=True, slots=True)
class Slow:
    """This child is still starting after so long; said once a process."""

    child: str
    waited_ms: int


@dataclass(frozen=True, slots=True)
class Serving:
    """Everything a call needs is ready; said once."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Going on is pointless; the children are being stopped, then comes Finish(status)."""

    status: int
    sentence: str


@dataclass(frozen=True, slots=True)
class Finish:
    """No child runs any more: end with this exit status."""

    status: int


Action = (
    Spawn | Signal | Kill | Park | Assign | Ready | Slow | Serving | GiveUp | Finish
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the board says of a running child: its last beat, and READY or DRAIN once it said so."""

    heartbeat_ns: int
    says: Event | None


class Policy:
    """Decides over all children; every method returns the actions to carry out, in order."""

    def __init__(
        self, specs: Sequence[ChildSpec], arenas: int, stop: StopPolicy, now_ns: int
    ) -> None:
        self._children = {spec.name: Child(spec, now_ns) for spec in specs}
        assert len(self._children) == len(specs), "names are unique"
        self._workers = self._of_kind(WORKER)
        self._dsps = {child.spec.index: child for child in self._of_kind(DSP)}
        self._owners = [NOBODY] * arenas
        self._stop = stop
        self._tick_ns = self._excused_ns = now_ns
        self._serving = self._asked_to_stop = self._finished = False
        #: The status to end with; None while nobody wants to end.
        self._exit_status: int | None = None
        self._worker_limit_ns = stop.drain_limit_ms * NS_PER_MS

    @property
    def starting(self) -> bool:
        """Whether a child is about to get ready: worth looking at the board more often."""
        return any(child.state is State.SPAWNED for child in self._children.values())

    def start(self, now_ns: int) -> list[Action]:
        """Everything is spawned at once; no arena is served until a DSP process is ready."""
        nobody = [Assign(arena, NOBODY) for arena in range(len(self._owners))]
        return [*nobody, *self._go_on(now_ns)]

    def tick(self, sightings: Mapping[str, Sighting], now_ns: int) -> list[Action]:
        """Look at the board; to be called at least every 100 ms."""
        if now_ns - self._tick_ns > LATE_TICK_MS * NS_PER_MS:
            self._excused_ns = now_ns
        self._tick_ns = now_ns
        actions: list[Action] = []
        for name, sighting in sightings.items():
            actions += self._look_at(self._children[name], sighting, now_ns)
        return [*actions, *self._go_on(now_ns)]

    def on_exit(self, name: str, status: int, now_ns: int, jitter: float) -> list[Action]:
        """A child has been reaped. ``status`` is negative for a signal; ``jitter`` in [-1, 1]."""
        child = self._children[name]
        was_starting = child.state is State.SPAWNED
        child.exit()
        actions: list[Action] = []
        if child.spec.kind == DSP:
            actions += self._take_arenas_from(child.spec.index)
        if self._exit_status is None:
            hopeless = status == EXIT_CONFIG and was_starting
            actions += (
                self._give_up(status, f"{name} cannot work with this configuration", now_ns)
                if hopeless
                else self._replace(child, now_ns, jitter)
            )
        return [*actions, *self._go_on(now_ns)]

    def on_stop(self, now_ns: int, *, fast: bool) -> list[Action]:
        """The operator wants an end: drain, or ``fast`` with little patience; asked twice: now."""
        actions: list[Action] = []
        if self._asked_to_stop:
            alive = [child for child in self._children.values() if child.running]
            actions += [self._kill(child, "asked to stop twice") for child in alive]
        self._asked_to_stop = True
        limit_ms = self._stop.fast_timeout_ms if fast else self._stop.drain_limit_ms
        self._begin_stop(0, limit_ms, now_ns)
        return [*actions, *self._go_on(now_ns)]

    def _of_kind(self, kind: str) -> list[Child]:
        return [child for child in self._children.values() if child.spec.kind == kind]

    def _look_at(self, child: Child, sighting: Sighting, now_ns: int) -> Iterator[Action]:
        if not child.running:
            return
        name = child.spec.name
        if sighting.says is Event.READY:
            is_news = child.state is State.SPAWNED
            child.ready(now_ns)
            if is_news:
                yield Ready(name, (now_ns - child.spawned_ns) // NS_PER_MS)
        elif sighting.says is Event.DRAIN:
            child.drain()
        if child.killed:
            return
        silent_ms = self._silent_ms(child, sighting, now_ns)
        limit_ms = child.spec.hung_after_ms
        if child.state is State.SPAWNED:
            limit_ms = child.spec.ready_timeout_ms
            yield from self._report_slow(child, now_ns)
        if silent_ms > limit_ms:
            yield self._kill(child, f"no sign of life for {silent_ms} ms in {child.state.name}")

    def _silent_ms(self, child: Child, sighting: Sighting, now_ns: int) -> int:
        starting = child.state is State.SPAWNED
        last_ns = child.spawned_ns if starting else sighting.heartbeat_ns
        return (now_ns - max(last_ns, self._excused_ns)) // NS_PER_MS

    def _report_slow(self, child: Child, now_ns: int) -> Iterator[Action]:
        waited_ms = (now_ns - child.spawned_ns) // NS_PER_MS
        if waited_ms >= SLOW_START_MS and not child.reported_slow:
            child.reported_slow = True
            yield Slow(child.spec.name, waited_ms)

    def _go_on(self, now_ns: int) -> Iterator[Action]:
        """What follows from the state things are in now."""
        yield from self._place_arenas()
        if self._exit_status is None:
            yield from self._spawn_due(now_ns)
            yield from self._announce()
        else:
            yield from self._wind_down(self._exit_status, now_ns)

    def _spawn_due(self, now_ns: int) -> Iterator[Action]:
        for child in self._children.values():
            if child.state is State.WAITING and child.due_ns <= now_ns:
                child.spawn(now_ns)
                yield Spawn(child.spec.name, again=child.exits > 0)

    def _announce(self) -> Iterator[Action]:
        if self._serving:
            return
        dsps = self._dsps.values()
        others = [c for c in self._children.values() if c.spec.kind != DSP]
        self._serving = all(c.state in (State.READY, State.PARKED) for c in others) and (
            not dsps or any(c.state is State.READY for c in dsps)
        )
        if self._serving:
            yield Serving()

    def _take_arenas_from(self, dsp: int) -> Iterator[Action]:
        for arena, owner in enumerate(self._owners):
            if owner == dsp:
                self._owners[arena] = NOBODY
                yield Assign(arena, NOBODY)

    def _place_arenas(self) -> Iterator[Action]:
        for arena, owner in enumerate(self._owners):
            if owner == NOBODY:
                self._owners[arena] = self._server_for(arena)
                if self._owners[arena] != NOBODY:
                    yield Assign(arena, self._owners[arena])

    def _server_for(self, arena: int) -> int:
        ready = [i for i, child in self._dsps.items() if child.state is State.READY]
        home = arena % max(1, len(self._dsps) - 1)
        if not ready or self._dsps[home].first_start:
            return NOBODY
        if home in ready:
            return home
        return min(ready, key=lambda index: (self._owners.count(index), index))

    def _replace(self, child: Child, now_ns: int, jitter: float) -> Iterator[Action]:
        """Plan the restart of a dead child; too many park it, all parked end the supervisor."""
        child.plan_restart(now_ns, jitter)
        if child.state is not State.PARKED:
            return
        yield Park(child.spec.name)
        kind = child.spec.kind
        if kind in (WORKER, DSP) and all(c.state is State.PARKED for c in self._of_kind(kind)):
            sentence = f"every {kind} has crashed too often: nothing can be served"
            yield from self._give_up(EXIT_FAILURE, sentence, now_ns)

    def _give_up(self, status: int, sentence: str, now_ns: int) -> Iterator[Action]:
        """Calls in progress are drained; before there can be any, nobody wants to wait."""
        limit_ms = self._stop.drain_limit_ms if self._serving else self._stop.fast_timeout_ms
        self._begin_stop(status, limit_ms, now_ns)
        yield GiveUp(status, sentence)

    def _begin_stop(self, status: int, worker_limit_ms: int, now_ns: int) -> None:
        limit_ns = self._worker_limit_ns = worker_limit_ms * NS_PER_MS
        if self._exit_status is None:
            self._exit_status = status
        for child in self._workers:
            if child.kill_at_ns is not None:
                child.kill_at_ns = min(child.kill_at_ns, now_ns + limit_ns)

    def _wind_down(self, status: int, now_ns: int) -> Iterator[Action]:
        workers = [child for child in self._workers if child.running]
        for child in workers or self._children.values():
            if child.running:
                yield from self._end(child, now_ns)
        if not self._finished and not any(c.running for c in self._children.values()):
            self._finished = True
            yield Finish(status)

    def _end(self, child: Child, now_ns: int) -> Iterator[Action]:
        if child.kill_at_ns is None:
            is_worker = child.spec.kind == WORKER
            limit_ns = child.spec.stop_timeout_ms * NS_PER_MS
            child.kill_at_ns = now_ns + (self._worker_limit_ns if is_worker else limit_ns)
            child.drain()
            yield Signal(child.spec.name, SIGTERM)
        elif child.kill_at_ns <= now_ns and not child.killed:
            yield self._kill(child, "did not end in time")

    def _kill(self, child: Child, reason: str) -> Kill:
        child.killed = True
        return Kill(child.spec.name, reason)
