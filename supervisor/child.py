"""One child's life as a table, and what the supervisor remembers of it from life to life.

::

              SPAWN           READY          DRAIN
    WAITING ────────► SPAWNED ─────► READY ────────► DRAINING
       ▲                 │ EXIT        │ EXIT           │ EXIT
       │ BACK_OFF        ▼             ▼                │
       └────────────── EXITED ◄─────────────────────────┘
                         │ PARK
                         ▼
                      PARKED

EXIT is only ever told after ``waitpid`` has confirmed it: what a process holds may be given away
then and not earlier. DRAIN means "is to end": told by a signal, or the child says so itself. When
the supervisor stops, or a successor has taken over, a child stays in WAITING, EXITED or PARKED for
good. A pair that is not in the table cannot happen; if it does, that is our bug and the error
names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum, auto
from types import MappingProxyType

from supervisor.spec import ChildSpec, RestartPolicy

NS_PER_MS = 1_000_000

#: Doublings after which a back-off stops growing, whatever its bounds.
_DOUBLINGS_MAX = 30


class State(Enum):
    """Where a child is in its life."""

    WAITING = auto()
    SPAWNED = auto()
    READY = auto()
    DRAINING = auto()
    EXITED = auto()
    PARKED = auto()


class Event(Enum):
    """What can happen to a child."""

    SPAWN = auto()
    READY = auto()
    DRAIN = auto()
    EXIT = auto()
    BACK_OFF = auto()
    PARK = auto()


class Alarm(IntEnum):
    """What was done about the present silence of a child."""

    CALM = 0
    WARNED = 1
    DUMPED = 2


RUNNING = frozenset({State.SPAWNED, State.READY, State.DRAINING})

TABLE: Mapping[tuple[State, Event], State] = MappingProxyType(
    {
        (State.WAITING, Event.SPAWN): State.SPAWNED,
        (State.SPAWNED, Event.READY): State.READY,
        (State.SPAWNED, Event.DRAIN): State.DRAINING,
        (State.SPAWNED, Event.EXIT): State.EXITED,
        (State.READY, Event.READY): State.READY,
        (State.READY, Event.DRAIN): State.DRAINING,
        (State.READY, Event.EXIT): State.EXITED,
        (State.DRAINING, Event.READY): State.DRAINING,
        (State.DRAINING, Event.DRAIN): State.DRAINING,
        (State.DRAINING, Event.EXIT): State.EXITED,
        (State.EXITED, Event.BACK_OFF): State.WAITING,
        (State.EXITED, Event.PARK): State.PARKED,
    }
)


class TransitionError(Exception):
    """An event that cannot happen in this state: a bug of the supervisor."""


def step(state: State, event: Event) -> State:
    """The state after an event; ``TransitionError`` when the table has no such entry."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise TransitionError(f"{event.name} cannot happen to a child in {state.name}") from None


def backoff_ns(policy: RestartPolicy, failures: int, jitter: float) -> int:
    """Nanoseconds to wait before a restart.

    ``failures`` is the number of deaths since the child was last healthy, not counting this one:
    the first restart is immediate. ``jitter`` in [-1, 1] spreads the rest.
    """
    assert failures >= 0
    assert -1 <= jitter <= 1
    if failures == 0:
        return 0
    doublings = min(failures - 1, _DOUBLINGS_MAX)
    pause_ms = min(policy.backoff_first_ms << doublings, policy.backoff_max_ms)
    return round(pause_ms * NS_PER_MS * (1 + policy.jitter * jitter))


class Child:
    """A place that a child fills, one process after the other. Told the time, does nothing."""

    __slots__ = (
        "_deaths_ns",
        "_failures",
        "alarm",
        "due_ns",
        "exits",
        "kill_at_ns",
        "killed",
        "ready_ns",
        "reported_slow",
        "retiring",
        "spawned_ns",
        "spec",
        "state",
    )

    def __init__(self, spec: ChildSpec, now_ns: int) -> None:
        self.spec = spec
        self.state = State.WAITING
        #: When a WAITING child is to be spawned.
        self.due_ns = now_ns
        self.spawned_ns = now_ns
        self.ready_ns: int | None = None
        #: When to SIGKILL it; None until it is told to stop. ``retiring``: told no more than that
        #: its successor serves.
        self.kill_at_ns: int | None = None
        self.killed = self.reported_slow = self.retiring = False
        self.alarm = Alarm.CALM
        #: Processes that have filled this place and ended.
        self.exits = 0
        self._failures = 0
        self._deaths_ns: list[int] = []

    @property
    def running(self) -> bool:
        """Whether a process fills this place (a killed one does until it is reaped)."""
        return self.state in RUNNING

    @property
    def first_start(self) -> bool:
        """Whether its very first process is still to get ready."""
        return self.exits == 0 and self.state in (State.WAITING, State.SPAWNED)

    def spawn(self, now_ns: int) -> None:
        """A new process fills this place."""
        self._apply(Event.SPAWN)
        self.spawned_ns = now_ns
        self.ready_ns = self.kill_at_ns = None
        self.killed = self.reported_slow = self.retiring = False
        self.alarm = Alarm.CALM

    def ready(self, now_ns: int) -> None:
        """It says that it serves."""
        self._apply(Event.READY)
        if self.ready_ns is None:
            self.ready_ns = now_ns

    def drain(self) -> None:
        """It is to end."""
        self._apply(Event.DRAIN)

    def exit(self) -> None:
        """Its process has been reaped."""
        self._apply(Event.EXIT)
        self.exits += 1

    def plan_restart(self, now_ns: int, jitter: float) -> None:
        """After an exit that nobody asked for: back off, or park if that happens too often."""
        policy = self.spec.restart
        healthy_ns = policy.healthy_after_ms * NS_PER_MS
        if self.ready_ns is not None and now_ns - self.ready_ns >= healthy_ns:
            self._failures = 0
        window_start_ns = now_ns - policy.window_ms * NS_PER_MS
        self._deaths_ns = [t for t in self._deaths_ns if t > window_start_ns] + [now_ns]
        if len(self._deaths_ns) > policy.restarts_per_window_max:
            self.park()
            return
        self._apply(Event.BACK_OFF)
        self.due_ns = now_ns + backoff_ns(policy, self._failures, jitter)
        self._failures += 1

    def park(self) -> None:
        """After an exit: it is not restarted any more."""
        self._apply(Event.PARK)

    def _apply(self, event: Event) -> None:
        self.state = step(self.state, event)
