"""What the supervisor is told to run: immutable, validated when made, durations in _ms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

#: Exit status of a child (and of the supervisor) whose configuration cannot work: no restart.
EXIT_CONFIG = 2

#: Kinds the policy treats specially: workers drain before anything else is told to stop, DSP
#: processes serve arenas.
WORKER = "worker"
DSP = "dsp"


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
class StopPolicy:
    """How long workers may take to end after a signal, before they are killed."""

    drain_timeout_ms: int = 30_000
    kill_after_drain_ms: int = 5_000
    fast_timeout_ms: int = 3_000

    def __post_init__(self) -> None:
        if min(self.drain_timeout_ms, self.kill_after_drain_ms) < 0 or self.fast_timeout_ms <= 0:
            raise ValueError("drain times must not be negative, fast_timeout_ms positive")

    @property
    def drain_limit_ms(self) -> int:
        """From SIGTERM until a worker that still runs is killed."""
        return self.drain_timeout_ms + self.kill_after_drain_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One child: which main to call with what, which descriptors it keeps, how it dies.

    ``target`` is ``"package.module:function"``, imported after the fork and called with
    ``kwargs``; its return value is the exit status. Every inherited descriptor above 2 that is
    not in ``keep_fds`` is closed in the child.
    """

    kind: str
    index: int
    target: str
    kwargs: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    keep_fds: frozenset[int] = frozenset()
    dies_with_parent: bool = False
    nice: int = 0
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    ready_timeout_ms: int = 30_000
    hung_after_ms: int = 5_000
    stop_timeout_ms: int = 5_000
    restart: RestartPolicy = field(default_factory=RestartPolicy)

    def __post_init__(self) -> None:
        if self.target.count(":") != 1:
            raise ValueError(f"target {self.target!r} is not 'package.module:function'")
        if self.index < 0:
            raise ValueError("index must not be negative")
        if min(self.ready_timeout_ms, self.hung_after_ms, self.stop_timeout_ms) <= 0:
            raise ValueError("timeouts must be positive")

    @property
    def name(self) -> str:
        """How logs call it: ``worker-0``."""
        return f"{self.kind}-{self.index}"
