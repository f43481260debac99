"""Too much at once: a starved machine, a burst of connects, thousands of short calls."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import psutil

from loadtest.fault_rows.bare import bare_server
from loadtest.fault_rows.bench import Bench, Row
from loadtest.fault_rows.checks import (
    Check,
    evenly_placed,
    none_cut,
    none_lost,
    none_refused,
    setup_p99_ms,
    slowest_setup,
)
from loadtest.fault_rows.gateway import Gateway, knock, until
from loadtest.host import TreeMeter

#: Busy processes, step by step, until the gateway is late: much more, and it must lose frames.
BUSY = (2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 32, 64)
BUSY_EIGHTH = """
from time import monotonic, sleep
while True:
    end = monotonic() + 0.01
    while monotonic() < end:
        pass
    sleep(0.07)
"""
#: The gateway looks at the last two or three seconds before it closes the door.
STEP_SECONDS = 4.0
REFUSED_SECONDS = 1.5
RECOVERED_SECONDS = 15.0
PLACED_RATIO_MAX = 1.05
HANDSHAKE_MS_MAX = 150
CHURN_RATE = 50
PSS_BYTES_PER_CALL_MAX = 1000


def starve(bench: Bench) -> Sequence[Check]:
    """Twice the calls, and more and more busy processes beside them until new ones are refused."""
    bench = replace(bench, calls=2 * bench.calls)
    with bench.gateway() as gateway:
        steady = bench.steady(gateway, STEP_SECONDS * len(BUSY) + REFUSED_SECONDS + 4)
        steady.wait(2)
        before = knock(gateway.port)
        with ExitStack() as busy:
            count = crowd_out(gateway, busy)
            answers = Counter(knock_for(gateway, REFUSED_SECONDS))
        recovered = until(lambda: knock(gateway.port) == "101", RECOVERED_SECONDS)
        calls = steady.results()
        reasons = gateway.refusals()
        stopped = gateway.stop()
    asked = sum(answers.values())
    others = {name: count for name, count in answers.items() if name != "503"}
    text = f"{count} of them: {answers['503']} of {asked} new ones refused"
    text += f" ({', '.join(reasons)})" if reasons else ""
    text += f" (others: {others})" if others else ""
    text += "" if before == "101" else f", but {before} before the machine was starved"
    return [
        none_cut(calls),
        none_lost(calls, aged=gateway.aged),
        Check(text, before == "101" and asked > 0 and not others, timed=True),
        Check("let in again" if recovered else "never let in again", recovered),
        stopped,
    ]


def crowd_out(gateway: Gateway, busy: ExitStack) -> int:
    """Add busy processes until a new call is refused or there are enough; how many there are."""
    running = 0
    for wanted in BUSY:
        busy.enter_context(busy_processes(wanted - running))
        running = wanted
        if "503" in knock_for(gateway, STEP_SECONDS):
            break
    return running


def burst(bench: Bench) -> Sequence[Check]:
    """Four times the calls connect in the same moment; before that, to a bare server."""
    bench = replace(bench, calls=4 * bench.calls)
    with bare_server(bench.workers) as bare:
        floor_ms = setup_p99_ms(bench.at_once(bare, 1).results())
    with bench.gateway() as gateway:
        traffic = bench.at_once(gateway, 3)
        traffic.wait(2)
        held = gateway.connections()
        calls = traffic.results()
        reasons = gateway.refusals()
        stopped = gateway.stop()
    return [
        evenly_placed(held.values(), bench.workers, PLACED_RATIO_MAX),
        slowest_setup(calls, HANDSHAKE_MS_MAX, floor_ms),
        none_refused(calls, why=reasons),
        none_cut(calls),
        stopped,
    ]


def churn(bench: Bench) -> Sequence[Check]:
    """Many short calls, after as many as warm the processes up."""
    rate = CHURN_RATE if bench.calls >= CHURN_RATE else bench.calls
    calls = 20 * bench.calls
    with bench.gateway() as gateway:
        meter = TreeMeter(gateway.pid)
        bench.arriving(gateway, rate, bench.calls / rate * 3, hold=0.3).results()
        idle_before = idle(gateway)
        fds_before, pss_before = descriptors(gateway), meter.pss_mb() or 0.0
        short = bench.arriving(gateway, rate, calls / rate, hold=0.3).results()
        idle_after = idle(gateway)
        fds_after, pss_after = descriptors(gateway), meter.pss_mb() or 0.0
        sessions = sum(gateway.counter("calls_active", "worker").values())
        reasons = gateway.refusals()
        stopped = gateway.stop()
    finished = sum(call.connected for call in short)
    grown = (pss_after - pss_before) * 2**20 / max(1, finished)
    return [
        none_refused(short, why=reasons),
        none_cut(short),
        none_lost(short, aged=gateway.aged),
        Check(f"PSS {grown:+.0f} bytes a call", grown < PSS_BYTES_PER_CALL_MAX, timed=True),
        Check(f"{fds_after - fds_before:+d} descriptors", fds_after <= fds_before),
        Check(f"{sessions:.0f} sessions left", idle_before and idle_after and not sessions),
        stopped,
    ]


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """So many processes that compute for an eighth of the time, each in a session of its own.

    Linux may share the processor out by sessions (autogroups): all in one would be as one.
    """
    command = [sys.executable, "-c", BUSY_EIGHTH]
    started = [subprocess.Popen(command, start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def knock_for(gateway: Gateway, seconds: float) -> Iterator[str]:
    """Ask for a WebSocket four times a second; the answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield knock(gateway.port)
        time.sleep(0.25)


def idle(gateway: Gateway) -> bool:
    """Wait until the board shows no call; whether it came to that."""
    return until(lambda: not sum(c.calls for c in gateway.running("worker")), 10)


def descriptors(gateway: Gateway) -> int:
    """Open file descriptors of all its processes; of the console without those that ask it."""
    total = 0
    for pid in gateway.members():
        process = psutil.Process(pid)
        asked = sum(each.status == psutil.CONN_ESTABLISHED for each in process.net_connections())
        total += process.num_fds() - asked
    return total


ROWS = (
    Row(
        "starve",
        "CPU starved beside twice the calls: processes that are busy for an eighth of the time are "
        "added until the gateway is late",
        "calls in progress lose 0 frames, new ones refused (503, Retry-After), let in again",
        starve,
    ),
    Row(
        "burst",
        "four times the calls connect at once",
        "max/mean calls per worker <= 1.05, handshake p99 <= 150 ms, none reset",
        burst,
    ),
    Row(
        "churn",
        "churn: 20 times as many short calls",
        "PSS growth per finished call < 1 kB; slots, fds and sessions back to zero",
        churn,
    ),
)
