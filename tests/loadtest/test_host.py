"""A server's cost is that of its whole process tree, the dead included."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from loadtest.errors import UsageError
from loadtest.host import (
    SAMPLE_NS,
    ServerCost,
    ServerUsage,
    ServerWatch,
    TreeMeter,
    host_facts,
    library_versions,
    server_cost,
)

BURN = "import time\nwhile time.process_time() < 0.1: pass\n"
CHILD = BURN + "print('burnt', flush=True)\ninput()\n"
PARENT = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {CHILD!r}], stdin=subprocess.PIPE)
input()
child.communicate(b"x")
print("reaped", flush=True)
input()
"""


@pytest.fixture
def tree() -> Iterator[subprocess.Popen[str]]:
    """A parent that idles and a child that has used 0.1 s of CPU; a line ends the child."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "burnt\n"
        yield process
        for child in psutil.Process(process.pid).children():
            child.kill()
        process.kill()


def end_child(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("x\n")
    process.stdin.flush()
    assert process.stdout.readline() == "reaped\n"


def test_the_dead_are_counted_and_memory_is_that_of_the_living(
    tree: subprocess.Popen[str],
) -> None:
    meter = TreeMeter(tree.pid)
    assert meter.processes() == 2
    used, memory = meter.cpu_seconds(), meter.pss_mb()
    assert used >= 0.09  # ten ticks of the kernel's clock
    assert memory is not None
    end_child(tree)
    assert meter.processes() == 1
    assert meter.cpu_seconds() >= used
    after = meter.pss_mb()
    assert after is not None
    assert 0 < after < memory


def test_a_watch_reads_at_the_edges_of_the_window(tree: subprocess.Popen[str]) -> None:
    watch = ServerWatch(tree.pid, SAMPLE_NS // 2, 3 * SAMPLE_NS)
    assert watch.look(0) == SAMPLE_NS // 2
    assert watch.look(SAMPLE_NS // 2) == SAMPLE_NS
    assert watch.look(2 * SAMPLE_NS + SAMPLE_NS // 2) == SAMPLE_NS // 2
    watch.look(3 * SAMPLE_NS)
    usage = watch.finish()
    assert usage.processes == 2
    end_child(tree)
    assert watch.finish() is usage  # the window is over


def test_a_run_that_ends_before_its_window_is_measured_too(tree: subprocess.Popen[str]) -> None:
    watch = ServerWatch(tree.pid, 0, 100 * SAMPLE_NS)
    watch.look(0)
    assert watch.finish().cpu_seconds >= 0
    assert ServerWatch(tree.pid, SAMPLE_NS, SAMPLE_NS).finish().cpu_seconds == 0


def test_no_such_process() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(UsageError, match=str(process.pid)):
        TreeMeter(process.pid)


def test_the_machine_has_a_name() -> None:
    facts = host_facts()
    assert facts.keys() == {"cpu", "cores", "kernel", "python"}
    assert all(facts.values())
    assert set(library_versions()) >= {"numpy", "picows", "uvloop"}


def test_the_cost_of_a_server() -> None:
    cost = server_cost(ServerUsage(5.0, 60.0, 100.0, 3), calls=400, call_seconds=4000)
    assert cost == ServerCost(1.25, 800.0, 100.0, 0.1, 3)


def test_a_server_that_cannot_be_read_has_no_cost() -> None:
    cost = server_cost(ServerUsage(0.0, None, None, 0), calls=1, call_seconds=0)
    assert cost == ServerCost(None, None, None, None, 0)
