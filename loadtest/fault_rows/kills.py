"""Children that die, hang or cannot live: workers and DSP processes."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence

import psutil

from loadtest.errors import LoadTestError
from loadtest.fault_rows.bench import Bench, Row
from loadtest.fault_rows.checks import (
    Check,
    at_most,
    gap_within,
    ms,
    none_cut,
    none_lost,
    none_refused,
    only_those_on,
    p99_moves,
    served_while_hung,
    shared_out,
    up_at,
)
from loadtest.fault_rows.gateway import Child, Gateway, until

READY_MS_MAX = 3_000
P99_MOVES_MS_MAX = 20
KILLED_AFTER_MS = 5_000
KILLED_LATE_MS_MAX = 500
UNPLACEABLE_NS = 300_000_000
DSP_KILLED_GAP_MS_MAX = 60
DSP_HUNG_GAP_MS_MAX = 600
#: A slot is parked at its sixth death within 30 s; the pauses before that add up to 8 s.
PARKED_SECONDS = 40.0
WAIT_SECONDS = 20.0


def kill_worker(bench: Bench) -> Sequence[Check]:
    """SIGKILL the worker that has the most calls, stopped for as long as it takes to list them."""
    with bench.gateway() as gateway:
        before, after = bench.seconds(3, 0.7), bench.seconds(4, 1.3)
        steady = bench.steady(gateway, before + after)
        arriving = bench.arriving(gateway, 10, before + after)
        steady.wait(before)
        victim = busiest(gateway.connections())
        arriving.wait_for_a_lull()
        fault_ns = time.monotonic_ns()
        held = freeze(gateway, victim)
        os.kill(victim, signal.SIGKILL)
        ready_ms = ms(replaced(gateway, "worker", victim, bench.workers) - fault_ns)
        calls = [*steady.results(), *arriving.results()]
        stopped = gateway.stop()
    others = shared_out(held, calls, fault_ns)[1]
    return [
        only_those_on(held, calls, fault_ns),
        none_lost(others, " of the others", aged=gateway.aged),
        p99_moves(up_at(others, fault_ns), fault_ns, P99_MOVES_MS_MAX),
        none_refused(arriving.results(), fault_ns=fault_ns),
        at_most("new worker ready after", ready_ms, READY_MS_MAX, "ms"),
        stopped,
    ]


def stop_worker(bench: Bench) -> Sequence[Check]:
    """SIGSTOP the worker that has the most calls: it hangs, its sockets do not."""
    with bench.gateway() as gateway:
        before, after = bench.seconds(3, 0.7), bench.seconds(8, 5.3)
        steady = bench.steady(gateway, before + after)
        arriving = bench.arriving(gateway, 10, before + after)
        steady.wait(before)
        victim = busiest(gateway.connections())
        arriving.wait_for_a_lull()
        fault_ns = time.monotonic_ns()
        held = freeze(gateway, victim)
        killed_ns = gone_at(victim)
        replaced(gateway, "worker", victim, bench.workers)
        calls = [*steady.results(), *arriving.results()]
        stopped = gateway.stop()
    others = shared_out(held, calls, fault_ns)[1]
    late_ms = abs(ms(killed_ns - fault_ns) - KILLED_AFTER_MS)
    killed = f"killed after {ms(killed_ns - fault_ns):.0f} ms"
    return [
        served_while_hung(arriving.results(), fault_ns + UNPLACEABLE_NS, killed_ns),
        none_refused(arriving.results(), fault_ns=fault_ns),
        Check(killed, late_ms <= KILLED_LATE_MS_MAX, timed=True),
        only_those_on(held, calls, fault_ns),
        none_lost(others, " of the others", aged=gateway.aged),
        stopped,
    ]


def kill_dsp(bench: Bench) -> Sequence[Check]:
    """SIGKILL the DSP process that serves the calls."""
    return _harm_dsp(bench, signal.SIGKILL, DSP_KILLED_GAP_MS_MAX)


def stop_dsp(bench: Bench) -> Sequence[Check]:
    """SIGSTOP the DSP process that serves the calls."""
    return _harm_dsp(bench, signal.SIGSTOP, DSP_HUNG_GAP_MS_MAX)


def _harm_dsp(bench: Bench, signum: signal.Signals, gap_ms_max: float) -> Sequence[Check]:
    with bench.gateway() as gateway:
        before, after = bench.seconds(3, 0.8), bench.seconds(5, 1.2)
        steady = bench.steady(gateway, before + after)
        steady.wait(0.1)
        victim = serving_dsp(gateway)
        steady.wait(before)
        os.kill(victim.pid, signum)
        fault_ns = time.monotonic_ns()
        replaced(gateway, "dsp", victim.pid, bench.dsp_processes)
        calls = steady.results()
        stopped = gateway.stop()
    return [
        none_cut(calls),
        none_lost(calls, aged=gateway.aged),
        gap_within(calls, fault_ns, gap_ms_max),
        stopped,
    ]


def crash_loop(bench: Bench) -> Sequence[Check]:
    """Kill every process that a worker's slot gets, as soon as it is there."""
    with bench.gateway() as gateway:
        slot = gateway.children("worker")[0].slot
        killed = kill_until_parked(gateway, slot)
        steady = bench.steady(gateway, bench.seconds(5, 2))
        steady.wait(1)
        placed = Counter(gateway.connections().values())
        _, readyz = gateway.ask("/readyz")
        calls = steady.results()
        stopped = gateway.stop()
    return [
        Check(f"parked after {killed} deaths", 1 < killed <= 10),
        none_refused(calls),
        none_cut(calls),
        none_lost(calls, aged=gateway.aged),
        Check(f"{len(placed)} workers serve", len(placed) == bench.workers - 1),
        Check(f"/readyz: {shown(readyz)}", "degraded" in readyz),
        stopped,
    ]


def busiest(held: dict[int, int]) -> int:
    """The process with the most connections; raises LoadTestError when there are none."""
    if not held:
        raise LoadTestError("no call is up")
    return Counter(held.values()).most_common(1)[0][0]


def freeze(gateway: Gateway, pid: int) -> list[int]:
    """Stop a process; the callers' ports of the connections that it holds then, for certain."""
    os.kill(pid, signal.SIGSTOP)
    if not until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, WAIT_SECONDS):
        raise LoadTestError("the process could not be stopped")
    return gateway.held_by(pid)


def serving_dsp(gateway: Gateway) -> Child:
    """The DSP process through which most frames go now."""
    before = gateway.counter("dsp_frames_total", "dsp")
    time.sleep(0.5)
    after = gateway.counter("dsp_frames_total", "dsp")
    grown = {index: after[index] - before.get(index, 0) for index in after}
    if not grown or not max(grown.values()):
        raise LoadTestError("no DSP process has work")
    slot = max(grown, key=lambda index: grown[index])
    return next(child for child in gateway.children("dsp") if child.slot == slot)


def replaced(gateway: Gateway, kind: str, pid: int, wanted: int) -> int:
    """Wait until that process is gone and so many are ready; when that was (ns)."""

    def done() -> bool:
        ready = [child.pid for child in gateway.running(kind) if child.state == "ready"]
        return pid not in ready and len(ready) >= wanted

    if not until(done, WAIT_SECONDS):
        raise LoadTestError(f"no new {kind} was ready within {WAIT_SECONDS:g} s")
    return time.monotonic_ns()


def gone_at(pid: int) -> int:
    """Wait until a process has ended; when that was (ns)."""

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    if not until(gone, WAIT_SECONDS):
        raise LoadTestError(f"the hung process was not killed within {WAIT_SECONDS:g} s")
    return time.monotonic_ns()


def kill_until_parked(gateway: Gateway, slot: int) -> int:
    """SIGKILL each process of a worker's slot until there are no more; how many that were."""
    killed: set[int] = set()

    def parked() -> bool:
        child = next((c for c in gateway.children("worker") if c.slot == slot), None)
        if child is not None and child.pid and child.pid not in killed:
            killed.add(child.pid)
            os.kill(child.pid, signal.SIGKILL)
        return child is not None and child.state == "parked"

    if not until(parked, PARKED_SECONDS):
        raise LoadTestError(f"not parked within {PARKED_SECONDS:g} s, {len(killed)} deaths")
    return len(killed)


def shown(body: str) -> str:
    """A body, short enough for a table."""
    return body if len(body) <= 100 else body[:97] + "..."


ROWS = (
    Row(
        "kill-worker",
        "SIGKILL a worker",
        "only its calls end; others lose 0 frames and their p99 moves by <= 20 ms; "
        "0 refused connects; new worker ready <= 3 s",
        kill_worker,
    ),
    Row(
        "stop-worker",
        "SIGSTOP a worker",
        "no connection is placed on it after 300 ms; killed at 5 s; its queues served by others",
        stop_worker,
    ),
    Row(
        "kill-dsp",
        "SIGKILL a DSP process",
        "0 calls end, 0 frames lost, gap in playout <= 60 ms",
        kill_dsp,
    ),
    Row(
        "stop-dsp",
        "SIGSTOP a DSP process",
        "0 calls end, 0 frames lost, gap in playout <= 600 ms",
        stop_dsp,
    ),
    Row(
        "crash-loop",
        "crash loop of one worker slot",
        "parked, others serve, degraded shown",
        crash_loop,
    ),
)
