"""What ``/api/workers`` tells: one line for each child of the supervisor, from the board."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from gateway import clock
from gateway.ops.health import State, child_state, heartbeat_age_ns
from supervisor.scoreboard import Field, Row, Scoreboard

RSS_FRESH_NS = 1_000_000_000
_BYTES_PER_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Child:
    """One child; ``rss_mb`` (10^6 bytes) is None when it has no process."""

    kind: str
    slot: int
    pid: int
    state: State
    calls: int
    capacity: int
    loop_lag_ms: float
    heartbeat_age_ms: float
    restarts: int
    rss_mb: float | None


class Memory:
    """Resident memory of processes, read off the loop, at most once a second."""

    def __init__(self) -> None:
        self._rss_mb: Mapping[int, float] = {}
        self._read_ns: int | None = None
        self._reading = asyncio.Lock()

    async def rss_mb(self, pids: Sequence[int]) -> Mapping[int, float]:
        """Megabytes by process id; a process that has gone is not in it."""
        async with self._reading:
            if self._read_ns is None or clock.now_ns() - self._read_ns > RSS_FRESH_NS:
                self._rss_mb = await asyncio.to_thread(_rss_mb, pids)
                self._read_ns = clock.now_ns()
            return self._rss_mb


async def children(board: Scoreboard, memory: Memory) -> list[Child]:
    """All children in the order of the board."""
    rows = list(board.rows())
    rss_mb = await memory.rss_mb([row.get(Field.PID) for row in rows])
    now_ns = clock.now_ns()
    return [_child(row, now_ns, rss_mb) for row in rows]


def _child(row: Row, now_ns: int, rss_mb: Mapping[int, float]) -> Child:
    pid = row.get(Field.PID)
    return Child(
        kind=row.name.kind,
        slot=row.name.index,
        pid=pid,
        state=child_state(row, now_ns),
        calls=row.get(Field.CALLS),
        capacity=row.get(Field.CAPACITY),
        loop_lag_ms=round(row.get(Field.LOOP_LAG_NS) / clock.NS_PER_MS, 1),
        heartbeat_age_ms=round(heartbeat_age_ns(row, now_ns) / clock.NS_PER_MS, 1),
        restarts=row.counter("restarts"),
        rss_mb=rss_mb.get(pid),
    )


def _rss_mb(pids: Sequence[int]) -> dict[int, float]:
    found = {}
    for pid in filter(None, pids):
        try:
            found[pid] = round(psutil.Process(pid).memory_info().rss / _BYTES_PER_MB, 1)
        except psutil.Error:  # it has gone meanwhile
            continue
    return found
