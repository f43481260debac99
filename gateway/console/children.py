"""What ``/api/workers`` tells: one line for each child of the supervisor, from the board.

What the processes use of the machine is read from /proc in a thread, and not at each question:
PSS makes the kernel walk all pages of a process, with its memory locked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psutil

from gateway import clock
from gateway.ops.health import State, child_state, heartbeat_age_ns
from gateway.ops.metrics import Usage
from supervisor.scoreboard import Field, Row, Scoreboard

LIGHT_FRESH_NS = 900_000_000
HEAVY_FRESH_NS = 5_000_000_000
_BYTES_PER_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Child:
    """One child. What is None is not known, or nothing of its kind.

    ``rss_mb`` is in 10^6 bytes, ``cpu_percent`` of one core, ``tick_ms`` (the 95th percentile)
    and ``batch_frames`` (the mean) are a DSP process's.
    """

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
    cpu_percent: float | None
    tick_ms: float | None
    batch_frames: float | None


@dataclass(frozen=True, slots=True)
class _Light:
    """What is cheap to read: resident memory, and the seconds of CPU time at one moment."""

    rss_bytes: int
    cpu_s: float
    read_ns: int
    cpu_percent: float | None


@dataclass(frozen=True, slots=True)
class _Batch:
    """A DSP process's counters at one moment, and the mean of its batches before it."""

    read_ns: int
    passes: int
    frames: int
    mean: float | None


@dataclass(slots=True)
class Processes:
    """What processes use, read off the loop: the cheap about once a second, the rest every 5 s."""

    _light: dict[int, _Light] = field(default_factory=dict)
    _heavy: dict[int, Usage] = field(default_factory=dict)
    _light_ns: int = -HEAVY_FRESH_NS
    _heavy_ns: int = -HEAVY_FRESH_NS
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def light(self, pids: Sequence[int]) -> Mapping[int, _Light]:
        """By process id; a process that has gone is not in it."""
        async with self._reading:
            if clock.now_ns() - self._light_ns > LIGHT_FRESH_NS:
                self._light_ns = clock.now_ns()
                self._light = await asyncio.to_thread(_read_light, pids, self._light)
            return self._light

    async def usage(self, pids: Sequence[int]) -> Mapping[int, Usage]:
        """By process id, with PSS; a process that has gone is not in it."""
        async with self._reading:
            if clock.now_ns() - self._heavy_ns > HEAVY_FRESH_NS:
                self._heavy_ns = clock.now_ns()
                self._heavy = await asyncio.to_thread(_read_heavy, pids)
            return self._heavy


class Crew:
    """The children of one board."""

    def __init__(self, board: Scoreboard) -> None:
        self._board = board
        self._processes = Processes()
        self._batches: dict[int, _Batch] = {}

    async def children(self) -> list[Child]:
        """All children in the order of the board."""
        light = await self._processes.light(self._pids())
        now_ns = clock.now_ns()
        return [self._child(row, now_ns, light) for row in self._board.rows()]

    async def usage(self) -> Mapping[int, Usage]:
        """What their processes use, by process id."""
        return await self._processes.usage(self._pids())

    def _pids(self) -> list[int]:
        return [pid for row in self._board.rows() if (pid := row.get(Field.PID))]

    def _child(self, row: Row, now_ns: int, light: Mapping[int, _Light]) -> Child:
        pid = row.get(Field.PID)
        used = light.get(pid)
        lag_ms = round(row.get(Field.LOOP_LAG_NS) / clock.NS_PER_MS, 1)
        is_dsp = row.name.kind == "dsp"
        return Child(
            kind=row.name.kind,
            slot=row.name.index,
            pid=pid,
            state=child_state(row, now_ns),
            calls=row.get(Field.CALLS),
            capacity=row.get(Field.CAPACITY),
            loop_lag_ms=lag_ms,
            heartbeat_age_ms=round(heartbeat_age_ns(row, now_ns) / clock.NS_PER_MS, 1),
            restarts=row.counter("restarts"),
            rss_mb=round(used.rss_bytes / _BYTES_PER_MB, 1) if used else None,
            cpu_percent=used.cpu_percent if used else None,
            tick_ms=lag_ms if is_dsp else None,
            batch_frames=self._batch(row, now_ns) if is_dsp else None,
        )

    def _batch(self, row: Row, now_ns: int) -> float | None:
        """Frames a pass, over the last second or since this was last asked."""
        before = self._batches.get(row.name.index)
        if before is not None and now_ns - before.read_ns < LIGHT_FRESH_NS:
            return before.mean
        passes, frames = row.counter("dsp_passes"), row.counter("dsp_frames")
        mean = None
        if before is not None and passes > before.passes:
            mean = round((frames - before.frames) / (passes - before.passes), 1)
        self._batches[row.name.index] = _Batch(now_ns, passes, frames, mean)
        return mean


def _read_light(pids: Sequence[int], before: Mapping[int, _Light]) -> dict[int, _Light]:
    found = {}
    for pid in pids:
        with contextlib.suppress(psutil.Error):  # it has gone meanwhile
            process = psutil.Process(pid)
            times, now_ns = process.cpu_times(), clock.now_ns()
            cpu_s, last = times.user + times.system, before.get(pid)
            percent = None
            if last is not None:
                percent = round((cpu_s - last.cpu_s) * 1e11 / (now_ns - last.read_ns), 1)
            found[pid] = _Light(process.memory_info().rss, cpu_s, now_ns, percent)
    return found


def _read_heavy(pids: Sequence[int]) -> dict[int, Usage]:
    found = {}
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            memory = process.memory_full_info()
            found[pid] = Usage(memory.rss, memory.pss, process.num_fds())
    return found
