"""The development runner restarts the gateway when its source changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.dev import modification_times
from tests.supervisor.conftest import is_running, wait_until

DEV = Path(__file__).parents[2] / "supervisor" / "dev.py"

#: Stands in for the gateway: notes its pid and its arguments, ends like it at the first Ctrl-C.
GATEWAY = """
import os, signal, sys
try:
    with open("runs", "a") as runs:
        print(os.getpid(), *sys.argv[1:], file=runs)
    signal.pause()
except KeyboardInterrupt:
    with open("stops", "a") as stops:
        print(os.getpid(), file=stops)
"""


def test_only_source_and_settings_are_watched(tmp_path: Path) -> None:
    watched = [tmp_path / name for name in ("a.py", ".env", "package/b.py")]
    ignored = [
        tmp_path / name for name in ("a.txt", ".venv/c.py", "__pycache__/d.py", "package/.env")
    ]
    for path in (*watched, *ignored):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert set(modification_times(tmp_path)) == set(watched)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "supervisor").mkdir()
    (tmp_path / "supervisor" / "__main__.py").write_text(GATEWAY)
    return tmp_path


@pytest.fixture
def dev(project: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, str(DEV), "--workers", "2"]
    with subprocess.Popen(command, cwd=project, stderr=subprocess.DEVNULL) as process:
        yield process
        process.kill()
        for pid in pids(project / "runs"):
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)


def pids(path: Path) -> list[int]:
    if not path.exists():
        return []
    return [int(line.split()[0]) for line in path.read_text().splitlines()]


def test_change_restarts_it_and_ctrl_c_ends_it(project: Path, dev: subprocess.Popen[bytes]) -> None:
    runs, stops = project / "runs", project / "stops"
    wait_until(lambda: len(pids(runs)) == 1, "the gateway runs")
    (project / "new.py").touch()
    wait_until(lambda: len(pids(runs)) == 2, "the gateway is restarted")
    assert pids(stops) == pids(runs)[:1]
    assert runs.read_text().splitlines()[1].split()[1:] == ["--workers", "2"]
    dev.send_signal(signal.SIGINT)
    assert dev.wait(20) == 0
    assert pids(stops) == pids(runs)


def test_gateway_that_ended_starts_again_with_the_next_change(
    project: Path, dev: subprocess.Popen[bytes]
) -> None:
    runs = project / "runs"
    wait_until(lambda: len(pids(runs)) == 1, "the gateway runs")
    os.kill(pids(runs)[0], signal.SIGKILL)
    (project / ".env").write_text("WORKERS=1\n")
    wait_until(lambda: len(pids(runs)) == 2, "the gateway is restarted")
    dev.send_signal(signal.SIGTERM)
    assert dev.wait(20) == 0
