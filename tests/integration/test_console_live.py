"""The console of a running gateway: live calls as they are, and counts that outlive a worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import ROOT, Gateway
from tests.integration.test_echo import wait_until
from tests.promtool import promtool

pytestmark = pytest.mark.timeout(120)

CALLS = 5


def events(gateway: Gateway) -> Iterator[dict[str, Any]]:
    """What a page is told, as it comes."""
    url = f"http://127.0.0.1:{gateway.console_port}/api/live"
    with urllib.request.urlopen(url, timeout=20) as stream:
        for line in stream:
            if line.startswith(b"data: "):
                yield json.loads(line.removeprefix(b"data: "))


def samples(gateway: Gateway) -> dict[tuple[str, ...], float]:
    """Every counter and bucket, by name and labels."""
    url = f"http://127.0.0.1:{gateway.console_port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        text = answer.read().decode()
    return {
        (sample.name, *map("=".join, sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        if family.type in {"counter", "histogram"}
        for sample in family.samples
    }


@contextmanager
def calling(gateway: Gateway, seconds: int) -> Iterator[None]:
    """Some simulated callers, who are told to stop in the end."""
    command = [sys.executable, "loadtest/twilio_sim.py", "--url", gateway.url]
    command += ["--calls", str(CALLS), "--seconds", str(seconds), "--scenario", "echo"]
    callers = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    yield
    callers.terminate()
    callers.wait()


def test_calls_are_shown_while_they_last_and_a_kill_loses_no_count(
    gateway: Callable[..., Gateway],
) -> None:
    found = gateway("--workers", "1", "--responder", "echo", "--calls-per-worker", "16")
    with calling(found, 60):
        stream = events(found)
        told = next(told for told in stream if len(told["levels"]) == CALLS)
        assert told["children"][0]["kind"] == "worker"
        # An echo: whoever is loud is heard back.
        loud = next(told for told in stream if any(level[3] > -60 for level in told["levels"]))
        assert any(caller > -60 for _, _, caller, _ in loud["levels"])
        before = samples(found)
        os.kill(found.children("worker")[0]["pid"], signal.SIGKILL)
        gone = next(told for told in stream if not told["levels"])
        assert gone["children"][0]["restarts"] == 1
    wait_until(lambda: found.children("worker")[0]["state"] == "ready", seconds=60)
    after = samples(found)
    assert before.keys() <= after.keys()
    assert [name for name in before if after[name] < before[name]] == []
    frames_in = ("voice_gateway_frames_in_total", "index=0", "kind=worker")
    assert after[frames_in] >= before[frames_in] > 0


def test_prometheus_finds_no_fault_in_what_a_gateway_tells_after_calls(
    gateway: Callable[..., Gateway],
) -> None:
    found = gateway("--workers", "2", "--responder", "echo", "--calls-per-worker", "16")
    status, _, said = found.simulate("--calls", str(CALLS), "--seconds", "2", "--scenario", "echo")
    assert status == 0, said
    text = found.text("/metrics")
    assert promtool("check", "metrics", told=text) == ""
    assert samples(found)["voice_gateway_calls_total", "index=0", "kind=worker"] > 0
