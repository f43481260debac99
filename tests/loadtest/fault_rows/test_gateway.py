"""What is told of a gateway without asking it: processes of a session, ports, answers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from loadtest.errors import LoadTestError
from loadtest.fault_rows import gateway as gateways
from loadtest.fault_rows.gateway import (
    Gateway,
    free_port,
    knock,
    running_gateway,
    until,
    write_settings,
)

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
"""


def test_processes_are_told_by_their_session_even_without_their_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT + "child.wait()"],
        start_new_session=True,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
    gateway = Gateway(parent, (1, 2), tmp_path)
    assert gateway.members() == {parent.pid, child}
    parent.kill()
    parent.wait()
    assert gateway.members() == {child}
    gateway.destroy()
    assert until(lambda: gateway.members() == set(), 5)
    (tmp_path / "log").write_text("bye\n")
    assert gateway.gone("killed", ended=True).text == "killed, 0 orphans, 0 segments left"
    assert not gateway.gone("killed", ended=False).holds
    (tmp_path / "log").write_text("Traceback (most recent call last):\n")
    assert not gateway.gone("killed", ended=True).holds


def test_settings_are_added_and_the_last_counts(tmp_path: Path) -> None:
    write_settings(tmp_path, {"A": "1", "B": "2"})
    write_settings(tmp_path, {"A": "3"})
    assert (tmp_path / "env").read_text() == "A=1\nB=2\nA=3\n"


def answered(reply: bytes) -> str:
    """What a knock says of a server that gives this reply."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            peer, _ = server.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(reply)

        thread = threading.Thread(target=answer)
        thread.start()
        found = knock(server.getsockname()[1])
        thread.join()
    return found


def test_a_knock_tells_what_was_answered() -> None:
    assert answered(b"HTTP/1.1 101 Switching Protocols\r\n\r\n") == "101"
    full = b"HTTP/1.1 503 Service Unavailable\r\n"
    assert answered(full + b"Retry-After: 5\r\n\r\n") == "503"
    assert answered(full + b"\r\n") == "503, not when"
    assert answered(b"") == "hung up"
    assert knock(free_port()) == "connection refused"


def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateways, "HTTP_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert knock(server.getsockname()[1]) == "no answer"


def test_a_console_that_is_not_there(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    process.wait()
    gateway = Gateway(process, (free_port(), free_port()), tmp_path)
    assert gateway.ask("/readyz") == (0, "")
    assert gateway.children("worker") == []
    assert gateway.counter("calls_active", "worker") == {}
    assert gateway.connections() == {}
    assert gateway.held_by(process.pid) == []


def test_refusals_are_named_by_their_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = """# TYPE voice_gateway_refusals_total counter
voice_gateway_refusals_total{kind="worker",index="0",reason="full"} 0.0
voice_gateway_refusals_total{kind="worker",index="0",reason="late"} 2.0
voice_gateway_refusals_total{kind="worker",index="1",reason="late"} 1.0
voice_gateway_refusals_total{kind="worker",index="1",reason="dsp_late"} 1.0
voice_gateway_handovers_total{kind="worker",index="1",event="sent"} 1.0
"""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    gateway = Gateway(process, (1, 2), tmp_path)
    monkeypatch.setattr(gateway, "ask", lambda path: (200, metrics if path == "/metrics" else ""))
    assert gateway.refusals() == ["dsp_late", "late"]


def test_a_gateway_that_does_not_start_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(LoadTestError, match=r"did not start: .*VAD='loud'"),
        running_gateway(tmp_path / "gateway", (), {"VAD": "loud"}),
    ):
        pass
    assert os.listdir(tmp_path / "gateway") != []
