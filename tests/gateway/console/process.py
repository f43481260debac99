"""A real console process on a private port, with the sockets that a supervisor would give it."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from gateway.ops.records import RecordsSender, spool_path
from gateway.ops.store import RecordsStore, StoredCall, StoredMessage
from supervisor.scoreboard import RowName, Scoreboard

ROOT = Path(__file__).parents[3]
DEADLINE_S = 30

#: What the supervisor's child wrapper does: makes up a board, runs main, leaves by os._exit.
CHILD = """
import os, socket, sys
from gateway.console.app import main
from gateway.settings import load_settings
from supervisor.scoreboard import Field, RowName, Scoreboard
import time

listener_fd, alive_fd, *records_fds = map(int, sys.argv[1].split(","))
flags = dict(pair.split("=", 1) for pair in sys.argv[2:])
board = Scoreboard([RowName("worker", 0), RowName("dsp", 0), RowName("console", 0)], 1)
for row in board.rows():
    row.take(os.getpid(), time.monotonic_ns())
status = main(
    row=board.row("console", 0),
    board=board,
    settings=load_settings(None, **flags),
    listener=socket.socket(fileno=listener_fd),
    records_fds=tuple(records_fds),
    alive_fd=alive_fd,
)
if "numpy" in sys.modules:
    status = 70
os._exit(status)
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Console:
    """The supervisor's side of one console, which may be started several times."""

    data_dir: Path
    listener: socket.socket = field(
        default_factory=lambda: socket.create_server(("127.0.0.1", 0), backlog=64)
    )
    workers: list[tuple[socket.socket, socket.socket]] = field(
        default_factory=lambda: [
            socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
            for _ in range(2)
        ]
    )
    alive: tuple[int, int] = field(default_factory=lambda: os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
    process: subprocess.Popen[bytes] | None = None
    senders: list[RecordsSender] = field(default_factory=list)

    def start(self, *more_records_fds: int, **settings: object) -> None:
        records_fds = [*(theirs.fileno() for _, theirs in self.workers), *more_records_fds]
        fds = [self.listener.fileno(), self.alive[0], *records_fds]
        flags = {"responder": "echo", "data_dir": self.data_dir, **settings}
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                CHILD,
                ",".join(map(str, fds)),
                *(f"{name}={value}" for name, value in flags.items()),
            ],
            cwd=ROOT,
            pass_fds=fds,
            stderr=subprocess.PIPE,
        )

    def sender(self, worker: int) -> RecordsSender:
        row = Scoreboard([RowName("worker", worker)], 1).row("worker", worker)
        fd = self.workers[worker][0].fileno()
        sender = RecordsSender(fd, spool_path(self.data_dir, worker), row)
        self.senders.append(sender)
        return sender

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Ask; a console that is still starting is waited for, its socket listens already."""
        port = self.listener.getsockname()[1]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
        try:
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, body)
        finally:
            connection.close()

    def kill(self, signal_number: int) -> None:
        assert self.process is not None
        self.process.send_signal(signal_number)

    def wait(self) -> tuple[int, str]:
        """Exit status and everything that was logged."""
        assert self.process is not None
        _, errors = self.process.communicate(timeout=DEADLINE_S)
        status = self.process.returncode
        self.process = None
        return status, errors.decode()

    def stop(self) -> str:
        """End it by SIGTERM, as the supervisor does; gives the log."""
        self.get("/healthz")
        self.kill(signal.SIGTERM)
        status, log = self.wait()
        assert status == 0, log
        return log

    def stored(self) -> tuple[list[StoredCall], list[StoredMessage]]:
        """What the database holds."""
        store = RecordsStore(self.data_dir / "records.db")
        try:
            return store.calls(10_000), store.messages(10_000)
        finally:
            store.close()

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        for sender in self.senders:
            sender.close(DEADLINE_S)
        for ours, theirs in self.workers:
            ours.close()
            theirs.close()
        self.listener.close()
        for fd in self.alive:
            if fd >= 0:
                os.close(fd)


def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
