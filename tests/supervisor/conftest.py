"""A supervisor as a real process whose board the test shares."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.settings import Settings
from supervisor.kinds import WORKER
from supervisor.scoreboard import Field, Phase, RowName, Scoreboard
from supervisor.signals import SignalInbox
from supervisor.spec import ChildSpec, Crew
from supervisor.tree import Plan, Tree
from tests.ports import free_port

ROOT = Path(__file__).parents[2]

#: Never reached unless something is broken; generous because the machine may be busy.
PATIENCE_S = 20


def free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]


def toy(kind: str, index: int, board: Scoreboard, name: str, **extra: object) -> ChildSpec:
    """The spec of a toy; ``extra`` that is no field of ChildSpec is an argument of its main."""
    fields = {k: extra.pop(k) for k in list(extra) if k in ChildSpec.__dataclass_fields__}
    kwargs = {"row": board.row(kind, index), **extra}
    return ChildSpec(
        kind=kind,
        index=index,
        target=f"tests.supervisor.toys:{name}",
        kwargs=kwargs,
        **fields,  # type: ignore[arg-type]
    )


def crew_of(board: Scoreboard, workers: Sequence[ChildSpec]) -> Crew:
    """A crew of toys: the worker of a listener is the one with that index, at any place."""
    by_index = {spec.index: spec for spec in workers}

    def spec(place: int, listener: int) -> ChildSpec:
        given = by_index[listener]
        kwargs = {**given.kwargs, "row": board.row(WORKER, place)}
        return dataclasses.replace(given, index=place, listener=listener, kwargs=kwargs)

    return Crew(len(workers), spec)


def wait_until(true: Callable[[], bool], what: str) -> None:
    """Return as soon as ``true()``; fail when that never happens."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.005)


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _say_serving() -> None:
    os.write(1, b"serving now\n")


def _say_slow(name: str, waited_ms: int) -> None:
    os.write(1, f"slow {name}: {waited_ms} ms\n".encode())


class RunningTree:
    """A forked process that runs a tree, in a process group of its own."""

    def __init__(self, plan: Plan, output: Path, before: Callable[[], None]) -> None:
        self.plan = plan
        self.board = plan.board
        self._output = output
        output.touch()
        self._before = before
        self._status: int | None = None
        with warnings.catch_warnings():
            # Python 3.12 warns when a library of another test has left a thread in this process.
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            self._run()

    @property
    def output(self) -> str:
        """What the supervisor and its children have written to stdout and stderr."""
        return self._output.read_text()

    def pid_of(self, kind: str, index: int = 0) -> int:
        return self.board.row(kind, index).get(Field.PID)

    def pids(self) -> set[int]:
        return {row.get(Field.PID) for row in self.board.rows()} - {0}

    def wait_ready(self, kind: str, index: int = 0, not_pid: int = 0) -> int:
        """Wait until a child is ready, one that is not ``not_pid``; returns its pid."""
        row = self.board.row(kind, index)

        def is_ready() -> bool:
            """The pid first: what a row says after that is said by that process."""
            is_new = self.pid_of(kind, index) not in (0, not_pid)
            return is_new and row.get(Field.PHASE) == Phase.READY

        wait_until(is_ready, f"{kind}-{index} is ready")
        return self.pid_of(kind, index)

    def wait_output(self, text: str, times: int = 1) -> None:
        wait_until(lambda: self.output.count(text) >= times, f"{text!r} is written")

    def signal(self, signum: int) -> None:
        os.kill(self.pid, signum)

    def end(self) -> int:
        """Wait for the supervisor's end and return its exit status (negative: signal)."""
        if self._status is None:
            wait_until(self._is_over, "the supervisor ends")
        assert self._status is not None
        return self._status

    def destroy(self) -> None:
        """Leave nothing behind, whatever the test did."""
        with suppress(ProcessLookupError):  # the group is empty
            os.killpg(self.pid, signal.SIGKILL)
        self.end()

    def _is_over(self) -> bool:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid:
            self._status = os.waitstatus_to_exitcode(status)
        return pid != 0

    def _run(self) -> None:
        status = 99
        try:
            os.setpgid(0, 0)
            fd = os.open(self._output, os.O_WRONLY | os.O_APPEND)
            for stream in (1, 2):
                os.dup2(fd, stream)
            sys.stdout = os.fdopen(1, "w", closefd=False)
            sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
            log = logging.getLogger("supervisor")
            log.handlers = [logging.StreamHandler(sys.stderr)]
            log.setLevel(logging.INFO)
            log.propagate = False
            with SignalInbox() as inbox:
                self._before()
                status = Tree(self.plan).run(inbox)
        except BaseException:  # noqa: BLE001 - shown in the output, and it must not run pytest on
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(status)


class Forest:
    """Starts trees for a test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.grown: list[RunningTree] = []
        self.fds: list[int] = []

    def board(self, **counts: int) -> Scoreboard:
        """A board with so many rows of each kind, and the spare place."""
        counts[WORKER] = counts.get(WORKER, 0) + 1
        rows = [RowName(kind, i) for kind, count in counts.items() for i in range(count)]
        return Scoreboard(rows, counts[WORKER])

    def event_fds(self, count: int) -> tuple[int, ...]:
        made = tuple(os.eventfd(0, os.EFD_NONBLOCK) for _ in range(count))
        self.fds += made
        return made

    def grow(
        self,
        board: Scoreboard,
        specs: Sequence[ChildSpec],
        *,
        before: Callable[[], None] = lambda: None,
        **extra: object,
    ) -> RunningTree:
        """Fork a supervisor; ``before`` runs in it first, ``extra`` are fields of its plan."""
        workers = [spec for spec in specs if spec.kind == WORKER]
        plan = Plan(
            specs=tuple(spec for spec in specs if spec.kind != WORKER),
            board=board,
            on_serving=_say_serving,
            on_slow=_say_slow,
            **{"crew": crew_of(board, workers), **extra},  # type: ignore[arg-type]
        )
        self.grown.append(RunningTree(plan, self._folder / f"tree-{len(self.grown)}", before))
        return self.grown[-1]


@pytest.fixture
def forest(tmp_path: Path) -> Iterator[Forest]:
    growing = Forest(tmp_path)
    yield growing
    for tree in growing.grown:
        tree.destroy()
    for fd in growing.fds:
        os.close(fd)


@pytest.fixture
def only_what_the_test_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable and no ``.env`` of whoever runs the tests may be read."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
