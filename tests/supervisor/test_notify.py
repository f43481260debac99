"""What systemd hears, through a real datagram socket."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor.notify import READY, STOPPING, WATCHDOG, Notifier
from supervisor.spec import Crew, ReloadError
from tests.supervisor.conftest import Forest, crew_of, toy, wait_until


@contextmanager
def listening(address: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as ear:
        ear.bind(address)
        yield ear


def heard(ear: socket.socket) -> list[str]:
    """Lines of every datagram that has arrived."""
    lines: list[str] = []
    while True:
        try:
            lines += ear.recv(4096).decode().split("\n")
        except BlockingIOError:
            return lines


@pytest.mark.parametrize("abstract", [True, False])
def test_states_arrive_at_abstract_names_and_paths(tmp_path: Path, *, abstract: bool) -> None:
    path = str(tmp_path / "notify")
    bound = "\0" + path if abstract else path
    environment = {"NOTIFY_SOCKET": "@" + path if abstract else path, "OTHER": "1"}
    with listening(bound) as ear, Notifier.from_environment(environment) as notifier:
        notifier.tell(READY, status="Serving")
        notifier.reloading(1_234_567)
        notifier.tell(STOPPING)
        assert heard(ear) == [
            "READY=1", "STATUS=Serving", "RELOADING=1", "MONOTONIC_USEC=1234", "STOPPING=1",
        ]  # fmt: skip
    assert environment == {"OTHER": "1"}  # no child speaks for us


def test_sign_of_life_comes_at_half_the_time(tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "10000000"}
    with listening(str(tmp_path / "n")) as ear, Notifier.from_environment(environment) as notifier:
        sent = []
        for tenth in range(120):
            notifier.alive(tenth * 100_000_000)
            sent += [tenth] * heard(ear).count(WATCHDOG)
        assert sent == [0, 50, 100]
    assert environment == {}


@pytest.mark.parametrize(
    ("pid", "period"), [("1", "1000000"), ("", "soon"), ("", "")]
)
def test_watchdog_of_somebody_else_or_none_is_no_watchdog(
    tmp_path: Path, pid: str, period: str
) -> None:
    environment = {
        "NOTIFY_SOCKET": str(tmp_path / "n"),
        "WATCHDOG_USEC": period,
        "WATCHDOG_PID": pid,
    }
    with listening(str(tmp_path / "n")) as ear, Notifier.from_environment(environment) as notifier:
        notifier.alive(10**12)
        assert heard(ear) == []


def test_our_own_watchdog_is_heard(tmp_path: Path) -> None:
    environment = {
        "NOTIFY_SOCKET": str(tmp_path / "n"),
        "WATCHDOG_USEC": "1000000",
        "WATCHDOG_PID": str(os.getpid()),
    }
    with listening(str(tmp_path / "n")) as ear, Notifier.from_environment(environment) as notifier:
        notifier.alive(1)
        assert heard(ear) == [WATCHDOG]


def test_nobody_who_listens_is_no_fault(tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "1"}
    with Notifier.from_environment(environment) as notifier:
        notifier.tell(READY)
        notifier.alive(10**9)
    with Notifier.from_environment({}) as silent:
        silent.tell(READY)
        silent.alive(10**9)
    assert environment == {}


def test_full_queue_does_not_block(tmp_path: Path) -> None:
    with listening(str(tmp_path / "n")) as ear, Notifier(str(tmp_path / "n")) as notifier:
        for _ in range(5_000):
            notifier.tell(READY)
        assert 0 < len(heard(ear)) < 5_000


def test_tree_tells_all_its_life(forest: Forest, tmp_path: Path) -> None:
    board = forest.board(worker=1)
    specs = [toy("worker", 0, board, "serves")]
    answers: list[Crew | ReloadError] = [ReloadError("no"), crew_of(board, specs)]

    def reload() -> Crew:
        answer = answers.pop(0)
        if isinstance(answer, ReloadError):
            raise answer
        return answer

    lines: list[str] = []

    def told(line: str, times: int = 1) -> bool:
        lines.extend(heard(ear))
        return sum(found.startswith(line) for found in lines) >= times

    address = str(tmp_path / "n")
    with listening(address) as ear, Notifier(address, watchdog_us=200_000) as notifier:
        tree = forest.grow(board, specs, notifier=notifier, reload=reload)
        wait_until(lambda: told("READY=1"), "READY is told")
        wait_until(lambda: told("WATCHDOG=1", 3), "signs of life are told")
        tree.signal(signal.SIGHUP)
        wait_until(lambda: told("READY=1", 2), "the refused reload is over")
        tree.signal(signal.SIGHUP)
        wait_until(lambda: told("READY=1", 3), "the roll is over")
        tree.signal(signal.SIGTERM)
        assert tree.end() == 0
        assert told("STOPPING=1")
    order = [line.split("=")[0] for line in lines if not line.startswith(("WATCHDOG", "STATUS"))]
    assert order == [
        "READY", "RELOADING", "MONOTONIC_USEC", "READY", "RELOADING", "MONOTONIC_USEC", "READY",
        "STOPPING",
    ]  # fmt: skip
