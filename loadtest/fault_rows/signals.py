"""What operators do, and what befalls the supervisor: SIGTERM, SIGHUP, SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence

from loadtest.fault_rows.bench import Bench, Row
from loadtest.fault_rows.checks import Check, none_cut, none_lost, none_refused
from loadtest.fault_rows.gateway import Gateway, knock, until

#: The gateway's own default, and a short one.
ORPHAN_ACCEPT_MS = 10_000
ORPHAN_ACCEPT_BRIEF_MS = 2_000
EXIT_SECONDS = 40.0
ROLLED_SECONDS = 60.0


def drain(bench: Bench) -> Sequence[Check]:
    """SIGTERM while calls are up that end by themselves."""
    with bench.gateway() as gateway:
        steady = bench.steady(gateway, bench.seconds(8, 2))
        steady.wait(bench.seconds(3, 0.7))
        gateway.process.send_signal(signal.SIGTERM)
        until(lambda: gateway.ask("/readyz")[0] != 200, 2)
        ready = gateway.ask("/readyz")[0]
        let_in = knock(gateway.port)
        calls = steady.results()
        stopped = exited(gateway)
    return [
        none_cut(calls),
        none_lost(calls, aged=gateway.aged),
        Check(f"/readyz {ready} at once", ready == 503),
        Check(f"new calls: {let_in}", let_in != "101"),
        stopped,
    ]


def reload(bench: Bench) -> Sequence[Check]:
    """SIGHUP after a change of settings, while calls are up and others come all the time.

    The calls that are up end after some seconds: a worker drains until its calls have ended.
    """
    with bench.gateway() as gateway:
        before = {child.pid for child in gateway.running("worker")}
        steady = bench.steady(gateway, bench.seconds(6, 1.5))
        arriving = bench.arriving(gateway, bench.seconds(20, 10), bench.seconds(24, 6), hold=0.5)
        steady.wait(bench.seconds(2, 0.7))
        gateway.configure(LANGUAGE="ru")
        gateway.process.send_signal(signal.SIGHUP)
        began_ns = time.monotonic_ns()

        def rolled() -> bool:
            now = [child for child in gateway.running("worker") if child.state == "ready"]
            return len(now) == bench.workers and not before & {child.pid for child in now}

        done = until(rolled, ROLLED_SECONDS)
        took_s = (time.monotonic_ns() - began_ns) / 1e9
        last = max(arriving.results(), key=lambda call: call.connect_ns)
        calls = [*steady.results(), *arriving.results()]
        stopped = gateway.stop()
    all_new = f"all {bench.workers} workers new after {took_s:.0f} s"
    under_load = last.connect_ns >= began_ns + took_s * 1e9
    return [
        none_refused(calls),
        none_cut(calls),
        none_lost(calls, aged=gateway.aged),
        Check(all_new if done else f"not rolled within {ROLLED_SECONDS:.0f} s", done),
        Check("calls came until then" if under_load else "calls came only at first", holds=True),
        stopped,
    ]


def bad_reload(bench: Bench) -> Sequence[Check]:
    """SIGHUP with a setting that cannot work."""
    with bench.gateway() as gateway:
        before = sorted(child.pid for child in gateway.running("worker"))
        steady = bench.steady(gateway, bench.seconds(4, 1.5))
        steady.wait(0.5)
        said = len(gateway.log())
        gateway.configure(VAD="loud")
        gateway.process.send_signal(signal.SIGHUP)
        until(lambda: bool(errors(gateway, said)), 2)
        calls = steady.results()
        after = sorted(child.pid for child in gateway.running("worker"))
        lines = errors(gateway, said)
        gateway.configure(VAD="off")
        stopped = gateway.stop()
    same = "the same workers" if before == after else f"workers {before} -> {after}"
    return [
        Check(same, before == after),
        Check(f"{len(lines)} error lines: {'; '.join(lines)[:160]}", len(lines) == 1),
        none_cut(calls),
        none_lost(calls, aged=gateway.aged),
        stopped,
    ]


def kill_supervisor(bench: Bench) -> Sequence[Check]:
    """SIGKILL the supervisor: the calls and the door stay, for a while."""
    accept_ms = round(bench.seconds(ORPHAN_ACCEPT_MS, ORPHAN_ACCEPT_BRIEF_MS))
    accept_s = accept_ms / 1000
    with bench.gateway(ORPHAN_ACCEPT_MS=str(accept_ms)) as gateway:
        steady = bench.steady(gateway, accept_s + 2)
        steady.wait(bench.seconds(2, 0.5))
        os.kill(gateway.pid, signal.SIGKILL)
        fault_ns = time.monotonic_ns()
        gateway.process.wait()
        arriving = bench.arriving(gateway, 5, 0.5 * accept_s, hold=0.5)
        late = knocks_until(gateway, fault_ns + round(0.9 * accept_ms * 1e6))
        calls = [*steady.results(), *arriving.results()]
        until(lambda: not gateway.members(), EXIT_SECONDS)
        ended_s = (time.monotonic_ns() - fault_ns) / 1e9
        gone = gateway.gone(f"all processes gone after {ended_s:.0f} s", ended=True)
    return [
        none_cut(steady.results()),
        none_lost(calls, aged=gateway.aged),
        none_refused(arriving.results()),
        Check(
            f"knocks until {0.9 * accept_s:.1f} s: {late}", late == "served", timed=late == "503"
        ),
        gone,
    ]


def knocks_until(gateway: Gateway, end_ns: int) -> str:
    """Knock a few times a second; ``served``, or the first answer that was another."""
    while time.monotonic_ns() < end_ns:
        answer = knock(gateway.port)
        if answer != "101":
            return answer
        time.sleep(0.2)
    return "served"


def exited(gateway: Gateway) -> Check:
    """It ends by itself, with status 0, and leaves nothing."""
    try:
        status: int | str = gateway.process.wait(EXIT_SECONDS)
    except subprocess.TimeoutExpired:
        status = "none"
    return gateway.gone(f"exit status {status}", ended=status == 0)


def errors(gateway: Gateway, since: int) -> list[str]:
    """What was said of an error since that line of the log."""
    return [line for line in gateway.log()[since:] if " ERROR " in line or "VAD" in line]


ROWS = (
    Row(
        "drain",
        "SIGTERM with calls that end by themselves within the deadline",
        "0 calls cut, exit 0",
        drain,
    ),
    Row(
        "reload",
        "SIGHUP under load, new calls arriving at 20/s",
        "0 failed connects, 0 calls cut",
        reload,
    ),
    Row(
        "bad-reload",
        "SIGHUP with a broken setting",
        "nothing changes, one error line",
        bad_reload,
    ),
    Row(
        "kill-supervisor",
        "supervisor SIGKILL",
        "calls finish, new connects served for 10 s, 0 orphans, 0 leaked segments",
        kill_supervisor,
    ),
)
