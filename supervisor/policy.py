"""What the supervisor decides, without doing any of it.

``Policy`` is told what happened (an exit, a signal, what the board says) and the time, and
answers with actions; ``tree.py`` carries them out. No clock, no random number, no system call, so
that a test can live through a year of crashes in a second. Parts of it have files of their own:
``child.py`` one child's life, ``watch.py`` heartbeats, ``arenas.py`` who serves which arena,
``roll.py`` the replacement of workers.

How it decides:

* A dead child is replaced at once, then after growing pauses; too many deaths in a window park
  it. When every worker or every DSP process is parked nothing can be served: give up, so that
  whoever runs the supervisor notices.
* A configuration that cannot work does not get better by trying again. Before anything is served
  that is the end, with status 2; later the child is parked and the others' calls go on.
* A host that stalled makes every heartbeat old, the supervisor's own tick too: after a late tick
  all silences count from that tick.
* Stopping: workers first, because calls need everything else; then the rest. Nothing is spawned
  any more. Every wait has a deadline, after it comes SIGKILL.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from supervisor.actions import (
    Action,
    Finish,
    GiveUp,
    Park,
    Serving,
    Sighting,
    Spawn,
)
from supervisor.arenas import Arenas
from supervisor.child import NS_PER_MS, Child, State
from supervisor.kinds import DSP, WORKER
from supervisor.roll import Roll
from supervisor.spec import EXIT_CONFIG, ChildSpec, Crew
from supervisor.watch import end, kill, watch

#: Exit status of the supervisor when it gives up for another reason than its configuration.
EXIT_FAILURE = 1

#: A tick this much after the one before it (they are 50 ms apart) was held up by the host. With
#: a DSP process's beat every 100 ms this notices a stall before the 400 ms of its silence are up.
LATE_TICK_MS = 150

#: How long workers may take to end when the operator has little patience.
FAST_TIMEOUT_MS = 3_000


class Policy:
    """Decides over all children; every method returns the actions to carry out, in order.

    ``specs`` are the children beside the workers, which come from ``crew``.
    """

    def __init__(self, specs: Sequence[ChildSpec], crew: Crew, arenas: int, now_ns: int) -> None:
        self._others = {spec.name: Child(spec, now_ns) for spec in specs}
        assert len(self._others) == len(specs), "names are unique"
        self._dsps = [c for c in self._others.values() if c.spec.kind == DSP]
        self._arenas = Arenas(arenas, self._dsps)
        self._roll = Roll(crew, now_ns)
        self._tick_ns = self._excused_ns = now_ns
        self._serving = self._asked_to_stop = self._finished = False
        #: The status to end with; None while nobody wants to end.
        self._exit_status: int | None = None
        #: Longest drain of a worker while we end; None: as long as its spec says.
        self._drain_max_ms: int | None = None

    @property
    def serving(self) -> bool:
        """Whether everything a call needs has been ready."""
        return self._serving

    @property
    def stopping(self) -> bool:
        """Whether an end was asked for, or we have given up."""
        return self._exit_status is not None

    def start(self, now_ns: int) -> list[Action]:
        """Everything is spawned at once; no arena is served until a DSP process is ready."""
        return [*self._arenas.start(), *self._roll.start(), *self._go_on(now_ns)]

    def tick(self, sightings: Mapping[str, Sighting], now_ns: int) -> list[Action]:
        """Look at the board; to be called every 50 ms."""
        if now_ns - self._tick_ns > LATE_TICK_MS * NS_PER_MS:
            self._excused_ns = now_ns
        self._tick_ns = now_ns
        actions: list[Action] = []
        for name, sighting in sightings.items():
            child = self._child(name)
            actions += watch(child, sighting, self._excused_ns, now_ns)
            self._roll.weigh(child, sighting.rss_bytes, now_ns)
        return [*actions, *self._go_on(now_ns)]

    def on_exit(self, name: str, status: int, now_ns: int, jitter: float) -> list[Action]:
        """A child has been reaped. ``status`` is negative for a signal; ``jitter`` in [-1, 1]."""
        child = self._child(name)
        hopeless = status == EXIT_CONFIG and child.state is State.SPAWNED
        child.exit()
        actions: list[Action] = []
        if child.spec.kind == DSP:
            actions += self._arenas.take_from(child.spec.index)
        if self._exit_status is None:
            actions += (
                self._roll.on_exit(child, now_ns)
                if self._roll.settles(child)
                else self._replace(child, now_ns, jitter, hopeless=hopeless)
            )
        return [*actions, *self._go_on(now_ns)]

    def on_reload(self, crew: Crew, now_ns: int) -> list[Action]:
        """Replace the workers one by one by those of this crew; nothing while we are ending."""
        if self._exit_status is not None:
            return []
        return [*self._roll.reload(crew, now_ns), *self._go_on(now_ns)]

    def on_stop(self, now_ns: int, *, fast: bool) -> list[Action]:
        """The operator wants an end: drain, or ``fast`` with little patience; asked twice: now."""
        actions: list[Action] = []
        if self._asked_to_stop:
            alive = [child for child in self._children() if child.running]
            actions += [kill(child, "asked to stop twice") for child in alive]
        self._asked_to_stop = True
        self._begin_stop(0, FAST_TIMEOUT_MS if fast else None, now_ns)
        return [*actions, *self._go_on(now_ns)]

    def _children(self) -> Iterator[Child]:
        yield from self._others.values()
        yield from self._roll.children.values()

    def _child(self, name: str) -> Child:
        return self._others.get(name) or self._roll.children[name]

    def _go_on(self, now_ns: int) -> Iterator[Action]:
        """What follows from the state things are in now."""
        yield from self._arenas.place()
        if self._exit_status is None:
            yield from self._give_up_if_all_are_parked(now_ns)
        if self._exit_status is not None:
            yield from self._wind_down(self._exit_status, now_ns)
            return
        if self._serving:
            yield from self._roll.go_on(now_ns)
        yield from self._spawn_due(now_ns)
        yield from self._announce()

    def _spawn_due(self, now_ns: int) -> Iterator[Action]:
        for child in self._children():
            if child.state is State.WAITING and child.due_ns <= now_ns:
                child.spawn(now_ns)
                yield Spawn(child.spec, again=child.exits > 0)

    def _announce(self) -> Iterator[Action]:
        if self._serving:
            return
        others = (c for c in self._children() if c.spec.kind != DSP)
        self._serving = all(c.state in (State.READY, State.PARKED) for c in others) and (
            not self._dsps or any(c.state is State.READY for c in self._dsps)
        )
        if self._serving:
            yield Serving()

    def _replace(
        self, child: Child, now_ns: int, jitter: float, *, hopeless: bool
    ) -> Iterator[Action]:
        """Plan the restart of a dead child, unless there is no point in one."""
        name = child.spec.name
        if hopeless and not self._serving:
            sentence = f"{name} cannot work with this configuration"
            yield from self._give_up(EXIT_CONFIG, sentence, now_ns)
            return
        if hopeless:
            child.park()
        else:
            child.plan_restart(now_ns, jitter)
        if child.state is State.PARKED:
            yield Park(name)

    def _give_up_if_all_are_parked(self, now_ns: int) -> Iterator[Action]:
        for kind, children in ((WORKER, self._roll.children.values()), (DSP, self._dsps)):
            if children and all(c.state is State.PARKED for c in children):
                sentence = f"every {kind} has crashed too often: nothing can be served"
                yield from self._give_up(EXIT_FAILURE, sentence, now_ns)
                return

    def _give_up(self, status: int, sentence: str, now_ns: int) -> Iterator[Action]:
        """Calls in progress are drained; before there can be any, nobody wants to wait."""
        self._begin_stop(status, None if self._serving else FAST_TIMEOUT_MS, now_ns)
        yield GiveUp(status, sentence)

    def _begin_stop(self, status: int, drain_max_ms: int | None, now_ns: int) -> None:
        if self._exit_status is None:
            self._exit_status = status
        self._drain_max_ms = drain_max_ms
        if drain_max_ms is not None:
            latest_ns = now_ns + drain_max_ms * NS_PER_MS
            for child in self._roll.children.values():
                if child.kill_at_ns is not None:
                    child.kill_at_ns = min(child.kill_at_ns, latest_ns)

    def _wind_down(self, status: int, now_ns: int) -> Iterator[Action]:
        workers = [child for child in self._roll.children.values() if child.running]
        for child in workers or self._others.values():
            if child.running:
                yield from end(child, self._limit_ms(child), now_ns)
        if not self._finished and not any(c.running for c in self._children()):
            self._finished = True
            yield Finish(status)

    def _limit_ms(self, child: Child) -> int:
        limit_ms = child.spec.stop_timeout_ms
        if child.spec.kind == WORKER and self._drain_max_ms is not None:
            return min(limit_ms, self._drain_max_ms)
        return limit_ms
