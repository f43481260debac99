"""Calls made by other processes while this one does something else."""

from __future__ import annotations

import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from loadtest.errors import LoadTestError
from loadtest.fault_rows.bench import Bench, Traffic
from loadtest.fault_rows.gateway import Gateway, free_port
from loadtest.schedule import NS_PER_SECOND


@pytest.fixture
def nobody(tmp_path: Path) -> Gateway:
    """A gateway that is not there."""
    process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    process.wait()
    return Gateway(process, (free_port(), free_port()), tmp_path)


def test_calls_that_nobody_answers_are_a_result(nobody: Gateway, tmp_path: Path) -> None:
    began_ns = time.monotonic_ns()
    arriving = Bench(tmp_path).arriving(nobody, rate=20, seconds=0.5)
    calls = arriving.results()
    assert len(calls) == 10
    assert not any(call.connected for call in calls)
    assert all("Connection refused" in call.failure for call in calls)
    apart = {b.connect_ns - a.connect_ns for a, b in pairwise(calls)}
    assert apart == {NS_PER_SECOND // 20}
    assert calls[0].connect_ns == arriving.start_ns > began_ns


def test_a_lull_is_the_middle_between_two_connects(nobody: Gateway, tmp_path: Path) -> None:
    arriving = Bench(tmp_path).arriving(nobody, rate=2, seconds=1.5)
    arriving.wait_for_a_lull()
    since_ns = time.monotonic_ns() - arriving.start_ns
    assert since_ns >= NS_PER_SECOND // 4, "not before the middle, however late this machine is"
    arriving.results()


def test_what_a_run_cannot_be_made_of_is_an_error(nobody: Gateway, tmp_path: Path) -> None:
    noise = tmp_path / "noise.wav"
    noise.write_text("hiss")
    traffic = Traffic(nobody, 1, "--audio", str(noise))
    with pytest.raises(LoadTestError, match="not a readable WAV file"):
        traffic.results()
    with pytest.raises(LoadTestError, match="not a readable WAV file"):
        traffic.wait(0)


def test_a_bench_is_brief_or_not(tmp_path: Path) -> None:
    assert Bench(tmp_path).seconds(8, 2) == 8
    assert Bench(tmp_path, brief=True).seconds(8, 2) == 2
