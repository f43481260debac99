"""A whole gateway for tests: the real command, real processes, private ports."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import segments
from tests.ports import free_port

ROOT = Path(__file__).parent.parent.parent
START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 15


@dataclass
class Gateway:
    """A running gateway; ``lines`` are what it printed and logged."""

    process: subprocess.Popen[str]
    port: int
    console_port: int
    data_dir: Path
    lines: list[str] = field(default_factory=list)
    reader: threading.Thread = field(default_factory=threading.Thread)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    def get(self, path: str) -> Any:
        """A console answer, parsed."""
        return json.loads(self.text(path))

    def text(self, path: str) -> str:
        """A console answer."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.console_port}{path}", timeout=5) as r:
            return str(r.read().decode())

    def children(self, kind: str) -> list[dict[str, Any]]:
        return [c for c in self.get("/api/workers")["children"] if c["kind"] == kind]

    def simulate(self, *arguments: str, within_s: int = 50) -> tuple[int, dict[str, Any], str]:
        """Run the load generator; its status, JSON report and output."""
        report = self.data_dir / "report.json"
        command = [sys.executable, "loadtest/twilio_sim.py", "--url", self.url, "--json"]
        run = subprocess.run(
            [*command, str(report), *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )
        found = json.loads(report.read_text()) if report.exists() else {}
        return run.returncode, found, run.stdout + run.stderr

    def end(self, within_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM, when it still runs; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(within_s)
        self.reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status

    def log(self) -> str:
        return "\n".join(self.lines)


def start(tmp_path: Path, *flags: str, **environment: str) -> Gateway:
    port, console_port = free_port(), free_port()
    command = [sys.executable, "-W", "error", "-m", "supervisor", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--console-port", str(console_port), *flags]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"DATA_DIR": str(tmp_path)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    gateway = Gateway(process, port, console_port, tmp_path)
    ready: queue.Queue[bool] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            gateway.lines.append(line.rstrip())
            if line.startswith("Ready."):
                ready.put(item=True)
        ready.put(item=False)

    gateway.reader = threading.Thread(target=read, daemon=True)
    gateway.reader.start()
    try:
        assert ready.get(timeout=START_TIMEOUT_S), gateway.log()
    except BaseException:
        process.kill()
        process.wait()
        gateway.reader.join()
        process.stdout.close()
        raise
    return gateway


@contextmanager
def gateways(folder: Path) -> Iterator[Callable[..., Gateway]]:
    """Starts gateways; afterwards each must end with status 0 and leave nothing behind."""
    before = segments.names()
    started: list[tuple[Gateway, list[psutil.Process]]] = []

    def launch(*flags: str, **environment: str) -> Gateway:
        found = start(folder, *flags, **environment)
        started.append((found, psutil.Process(found.process.pid).children(recursive=True)))
        return found

    yield launch
    for found, children in started:
        status = found.end()
        _, alive = psutil.wait_procs(children, timeout=5)
        assert status == 0, found.log()
        assert alive == [], "orphans"
        assert "Traceback" not in found.log(), found.log()
    assert segments.left_since(before) == set()


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    """For a test that needs gateways of its own."""
    with gateways(tmp_path) as launch:
        yield launch
