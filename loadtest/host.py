"""The machine, and what a server's process tree costs on it (Linux; CPU time and PSS by psutil).

PSS, not RSS: memory that forked processes share is counted once, by halves and thirds. CPU time is
read at the beginning and the end of the steady window, and in between, so that what a process used
before it died is not forgotten (a restart must not look cheap).
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from importlib.metadata import version

import psutil

from loadtest.errors import UsageError
from loadtest.schedule import NS_PER_SECOND

MEBIBYTE = 2**20
#: How often CPU time is read, so that little is lost when a process dies.
SAMPLE_NS = NS_PER_SECOND
LIBRARIES = ("numpy", "picows", "uvloop", "orjson")


@dataclass(frozen=True, slots=True)
class ServerCost:
    """What the server used; sizes in MiB. None where it could not be read."""

    cpu_ms_per_call_second: float | None
    calls_per_core: float | None
    pss_mb: float | None
    pss_mb_per_call: float | None
    processes: int


@dataclass(frozen=True, slots=True)
class ServerUsage:
    """What was read: CPU seconds in the steady window, MiB before the run and at its end."""

    cpu_seconds: float
    pss_mb_before: float | None
    pss_mb_after: float | None
    processes: int


def server_cost(usage: ServerUsage, calls: int, call_seconds: float) -> ServerCost:
    """Cost for a call; ``call_seconds``: time that calls were up in the steady window, summed."""
    cpu, before, after = usage.cpu_seconds, usage.pss_mb_before, usage.pss_mb_after
    grown = None if before is None or after is None else round((after - before) / calls, 3)
    return ServerCost(
        cpu_ms_per_call_second=round(1000 * cpu / call_seconds, 3) if call_seconds > 0 else None,
        calls_per_core=round(call_seconds / cpu, 1) if cpu > 0 else None,
        pss_mb=None if after is None else round(after, 1),
        pss_mb_per_call=grown,
        processes=usage.processes,
    )


class TreeMeter:
    """CPU and memory of a process and all its descendants. Sample now and then; it is cheap."""

    def __init__(self, pid: int) -> None:
        """Raises UsageError when there is no such process."""
        try:
            self._root = psutil.Process(pid)
        except psutil.NoSuchProcess as error:
            raise UsageError(f"--pid {pid}: there is no such process") from error
        # Keyed by pid and start time: pids are used again.
        self._cpu: dict[tuple[int, float], float] = {}

    def cpu_seconds(self) -> float:
        """CPU time of all processes seen so far, the dead included, as of their last sample."""
        for process in self._tree():
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue  # it has just ended
            self._cpu[process.pid, process.create_time()] = times.user + times.system
        return sum(self._cpu.values())

    def pss_mb(self) -> float | None:
        """Proportional memory of the tree in MiB; None where we may not read it."""
        total = 0
        for process in self._tree():
            try:
                total += process.memory_full_info().pss
            except psutil.NoSuchProcess:
                continue
            except psutil.AccessDenied:
                return None
        return total / MEBIBYTE if total else None

    def processes(self) -> int:
        """How many processes the tree has now."""
        return len(self._tree())

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


def host_facts() -> dict[str, str | int]:
    """What a reader must know to compare figures."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def library_versions() -> dict[str, str]:
    """Versions of what the generator is made of."""
    return {name: version(name) for name in LIBRARIES}


def available_bytes() -> int:
    """Memory that can be used without swapping."""
    return int(psutil.virtual_memory().available)


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


class ServerWatch:
    """Measures a server over the steady window of a run; told the time, in ns since its start."""

    def __init__(self, pid: int, steady_from_ns: int, steady_to_ns: int) -> None:
        """Raises UsageError when there is no such process. Reads the memory before the run."""
        self._meter = TreeMeter(pid)
        self._edges = [steady_from_ns, steady_to_ns]
        self._cpu: list[float] = []
        self._pss_before = self._meter.pss_mb()
        self._usage: ServerUsage | None = None
        self._next_ns = steady_from_ns

    def look(self, now_ns: int) -> int:
        """Read what is due; returns how long to wait for the next reading, ns."""
        if self._usage is None and now_ns >= self._next_ns:
            self._cpu.append(self._meter.cpu_seconds())
            self._next_ns = min(now_ns + SAMPLE_NS, self._edges[1])
            if now_ns >= self._edges[1]:
                self.finish()
        return max(0, self._next_ns - now_ns) if self._usage is None else SAMPLE_NS

    def finish(self) -> ServerUsage:
        """End the measurement, now or when it ended before."""
        if self._usage is None:
            self._cpu.append(self._meter.cpu_seconds())
            self._usage = ServerUsage(
                cpu_seconds=self._cpu[-1] - self._cpu[0],
                pss_mb_before=self._pss_before,
                pss_mb_after=self._meter.pss_mb(),
                processes=self._meter.processes(),
            )
        return self._usage
