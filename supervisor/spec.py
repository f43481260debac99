"""What the supervisor is told to run: immutable, validated when made, durations in _ms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

#: Exit status of a child (and of the supervisor) whose configuration cannot work: no restart.
EXIT_CONFIG = 2

#: Listener of whoever serves none, DSP process of an arena that none serves.
NOBODY = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """When a dead child is replaced: at once, then with growing pauses, bounded in a window."""

    backoff_first_ms: int = 500
    backoff_max_ms: int = 30_000
    jitter: float = 0.2
    healthy_after_ms: int = 60_000
    window_ms: int = 30_000
    restarts_per_window_max: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.backoff_first_ms <= self.backoff_max_ms:
            raise ValueError("backoff_first_ms must be positive and at most backoff_max_ms")
        if not 0 <= self.jitter < 1:
            raise ValueError("jitter must be in [0, 1)")
        if self.restarts_per_window_max < 1:
            raise ValueError("restarts_per_window_max must be at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One child: which main to call with what, which descriptors it keeps, how it dies.

    ``target`` is ``"package.module:function"``, imported after the fork and called with
    ``kwargs``; its return value is the exit status. Every inherited descriptor above 2 that is
    not in ``keep_fds`` is closed in the child. ``listener`` is the index of the listening socket
    that a worker serves, ``cpus`` are those it is pinned to (none: anywhere).

    A child that serves and is silent is reported, told to dump its stacks, and killed, each after
    its time. One told to end is killed ``stop_timeout_ms`` later, one whose successor serves
    ``retire_timeout_ms`` later. A worker that holds more than
    ``rss_bytes_max`` (0: no limit) is replaced.
    """

    kind: str
    index: int
    target: str
    kwargs: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    keep_fds: frozenset[int] = frozenset()
    listener: int = NOBODY
    dies_with_parent: bool = False
    nice: int = 0
    cpus: frozenset[int] = frozenset()
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    ready_timeout_ms: int = 30_000
    warn_after_ms: int = 500
    dump_after_ms: int = 3_000
    hung_after_ms: int = 5_000
    stop_timeout_ms: int = 5_000
    retire_timeout_ms: int = 5_000
    rss_bytes_max: int = 0
    restart: RestartPolicy = field(default_factory=RestartPolicy)

    def __post_init__(self) -> None:
        if self.target.count(":") != 1:
            raise ValueError(f"target {self.target!r} is not 'package.module:function'")
        if self.index < 0:
            raise ValueError("index must not be negative")
        timeouts = (self.ready_timeout_ms, self.hung_after_ms, self.stop_timeout_ms)
        if min(*timeouts, self.retire_timeout_ms) <= 0:
            raise ValueError("timeouts must be positive")

    @property
    def name(self) -> str:
        """How logs call it: ``worker-0``."""
        return f"{self.kind}-{self.index}"


@dataclass(frozen=True, slots=True)
class Crew:
    """The workers that one reading of the settings makes.

    ``workers`` serve at a time, worker ``l`` the listener ``l``; there is one place more than
    workers, for successors. ``spec(place, listener)`` is the worker at a place.
    """

    workers: int
    spec: Callable[[int, int], ChildSpec]


class ReloadError(Exception):
    """Settings that were read again cannot be used; the message is the operator's sentence."""
