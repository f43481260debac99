"""One fault of each kind at small size; all of them, with their figures, in `make verify`.

Beside other work on the same machine only counts and orders are judged: which calls ended, what
was lost, who was served, what is left. How fast all that was is measured by the full rows.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from loadtest.fault_rows.bench import Bench
from loadtest.fault_rows.gateway import until
from loadtest.faults import EXIT_INTERRUPTED, ROWS, measure

#: Drains and orphans are tested in test_worker_duties.
SMALL = ("kill-worker", "stop-worker", "kill-dsp", "reload")


def failures(name: str, bench: Bench, *, timed: bool) -> list[str]:
    """What does not hold; what was measured beside it may tell why."""
    found = measure(ROWS[name], bench)
    assert found
    failed = [check.text for check in found if not check.holds and (timed or not check.timed)]
    return [*failed, "beside it:", *(check.text for check in found)] if failed else []


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", SMALL)
def test_the_calls_survive(name: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, calls=12, workers=2, dsp_processes=2, brief=True)
    found = failures(name, bench, timed=False)
    assert not found, "; ".join(found)


@pytest.mark.timeout(120)
def test_who_ends_the_command_ends_its_gateways_too() -> None:
    """With SIGTERM, as a CI does that has waited enough; they are in sessions of their own."""
    command = [sys.executable, "-m", "loadtest.faults", "--quick", "--rows", "churn"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        process = psutil.Process(running.pid)
        assert until(lambda: len(process.children(recursive=True)) > 3, 60)
        started = process.children(recursive=True)
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == EXIT_INTERRUPTED
    left = psutil.wait_procs(started, timeout=10)[1]
    assert left == []


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ROWS)
def test_the_figures_hold(name: str, tmp_path: Path) -> None:
    found = failures(name, Bench(tmp_path), timed=True)
    assert not found, "; ".join(found)
