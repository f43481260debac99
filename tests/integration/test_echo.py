"""Echo calls through the whole gateway: every process, all four rings, real sockets."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

from tests.integration.conftest import Gateway

pytestmark = pytest.mark.timeout(120)

ECHO = ("--scenario", "echo")


def wait_until(condition: Callable[[], bool], seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_twenty_calls_on_two_workers_lose_and_reorder_nothing(
    gateway: Callable[..., Gateway],
) -> None:
    running = gateway("--workers", "2", "--responder", "echo")
    status, report, output = running.simulate(*ECHO, "--calls", "20", "--seconds", "5")
    assert status == 0, output
    assert report["frames_lost"] == report["frames_out_of_order"] == report["disconnects"] == 0
    assert report["frames_received"] > 20 * 50 * 4
    wait_until(lambda: sum(c["calls"] for c in running.children("worker")) == 0)


def test_a_killed_dsp_process_ends_no_call_and_loses_no_frame(
    gateway: Callable[..., Gateway],
) -> None:
    running = gateway("--workers", "1", "--responder", "echo")
    serving = running.children("dsp")[0]["pid"]

    killer = threading.Timer(3, os.kill, (serving, signal.SIGKILL))
    killer.start()
    status, report, output = running.simulate(*ECHO, "--calls", "8", "--seconds", "6")
    assert status == 0, output
    assert report["frames_lost"] == report["disconnects"] == 0
    wait_until(lambda: sum(c["state"] == "ready" for c in running.children("dsp")) == 2)


def test_a_killed_worker_is_replaced(gateway: Callable[..., Gateway]) -> None:
    running = gateway("--workers", "2", "--responder", "echo")
    victim = running.children("worker")[0]["pid"]
    os.kill(victim, signal.SIGKILL)
    wait_until(
        lambda: (
            [
                c["state"] == "ready" and c["pid"] != victim for c in running.children("worker")
            ].count(True)
            == 2
        )
    )
    status, _, output = running.simulate(*ECHO, "--calls", "6", "--seconds", "2")
    assert status == 0, output
