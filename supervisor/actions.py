"""What the policy wants done, and what it is shown: plain values, carried out by ``tree.py``."""

from __future__ import annotations

from dataclasses import dataclass
from signal import Signals

from supervisor.child import Event
from supervisor.spec import ChildSpec


@dataclass(frozen=True, slots=True)
class Sighting:
    """What can be seen of a running child.

    Its last beat; READY or DRAIN once it said so; the bytes it holds (0: not measured).
    """

    heartbeat_ns: int
    says: Event | None
    rss_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Spawn:
    """Fork this child; ``again`` when it replaces one that died."""

    spec: ChildSpec
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
    """Not restarted any more: it died too often, or cannot work with its configuration."""

    child: str


@dataclass(frozen=True, slots=True)
class Rest:
    """This place is the spare one: nobody is in it until somebody's successor takes it."""

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
class Silent:
    """This child has not beaten for so long; said once a silence."""

    child: str
    silent_ms: int


@dataclass(frozen=True, slots=True)
class Dump:
    """This child should write down where its threads are (SIGUSR1): it may be killed soon."""

    child: str
    silent_ms: int


@dataclass(frozen=True, slots=True)
class Rolling:
    """Workers are being replaced one by one; ``places`` are left to do."""

    places: int


@dataclass(frozen=True, slots=True)
class Succeed:
    """``new`` is about to start in the spare place, to take over from ``old``."""

    old: str
    new: str
    reason: str


@dataclass(frozen=True, slots=True)
class RollFailed:
    """``new`` did not get ready: ``old`` stays."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class RollEnded:
    """Every worker runs with the newest settings, but for ``kept`` ones after a failure."""

    kept: int
    took_ms: int


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
    Spawn | Signal | Kill | Park | Rest | Assign | Ready | Slow | Silent | Dump
    | Rolling | Succeed | RollFailed | RollEnded | Serving | GiveUp | Finish
)  # fmt: skip
