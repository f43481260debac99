"""The command line of the speech server run by hand."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent.parent
COMMAND = [sys.executable, "-m", "gateway.speech_server"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_help_teaches() -> None:
    done = run("--help")
    assert done.returncode == 0
    for words in ("STT_BASE_URL", "curl", "--port", "make espeak"):
        assert words in done.stdout


@pytest.mark.parametrize("arguments", [["--port", "x"], ["--log-level", "loud"], ["surplus"]])
def test_bad_arguments_are_usage_errors(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_it_cannot_have_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments in (["--port", port], ["--port", "99999"], ["--host", "nowhere.invalid"]):
            done = run(*arguments)
            assert done.returncode == 2
            assert done.stderr.startswith("cannot listen on ")
            assert done.stderr.count("\n") == 1


def test_it_says_where_it_serves_and_ctrl_c_stops_it() -> None:
    command = [*COMMAND, "--port", "0", "--host", "::1"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        found = re.search(r"http://\[::1\]:(\d+)/v1", process.stdout.readline())
        assert found is not None
        with socket.create_connection(("::1", int(found.group(1)))):
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "Traceback" not in errors
