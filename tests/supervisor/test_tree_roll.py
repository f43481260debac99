"""Workers are replaced and stood in for, with real processes, signals and sockets."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest

from supervisor.handover import hand_over, socket_pair
from supervisor.scoreboard import Field, Phase, Scoreboard
from supervisor.sockets import open_listener
from supervisor.spec import ChildSpec, Crew, ReloadError, RestartPolicy
from tests.supervisor.conftest import (
    PATIENCE_S,
    Forest,
    RunningTree,
    crew_of,
    is_running,
    toy,
    wait_until,
)

PARKS_SOON = RestartPolicy(backoff_first_ms=1, backoff_max_ms=2, restarts_per_window_max=1)
SLOW_SECOND = RestartPolicy(backoff_first_ms=30_000)


def phases(board: Scoreboard) -> list[int]:
    return [row.get(Field.PHASE) for row in board.rows("worker")]


def listeners(board: Scoreboard) -> list[int]:
    return [row.get(Field.LISTENER) for row in board.rows("worker")]


def grow(
    forest: Forest, reloads: Sequence[Crew | ReloadError], board: Scoreboard, crew: Crew
) -> RunningTree:
    """Two workers whose settings are the next of ``reloads`` with each SIGHUP."""
    answers = list(reloads)

    def reload() -> Crew:
        answer = answers.pop(0)
        if isinstance(answer, ReloadError):
            raise answer
        return answer

    tree = forest.grow(board, [], crew=crew, reload=reload)
    for place in range(crew.workers):
        tree.wait_ready("worker", place)
    tree.wait_output("serving now")
    return tree


def coloured(board: Scoreboard, colour: str, **extra: object) -> Crew:
    """Two workers of a colour, which stands for the settings they were given."""
    specs = [toy("worker", i, board, "serves_as", colour=colour, **extra) for i in range(2)]
    return crew_of(board, specs)


def test_sighup_replaces_every_worker_and_leaves_the_rest(forest: Forest) -> None:
    board = forest.board(worker=2)
    crew = coloured(board, "red")
    tree = grow(forest, [coloured(board, "blue")], board, crew)
    old = tree.pids()
    assert (phases(board), listeners(board)) == (
        [Phase.READY, Phase.READY, Phase.SPARE],
        [0, 1, -1],
    )
    tree.signal(signal.SIGHUP)
    tree.wait_output("rolled took_ms")
    assert old.isdisjoint(tree.pids())
    assert not any(is_running(pid) for pid in old)
    assert (phases(board), listeners(board)) == (
        [Phase.READY, Phase.SPARE, Phase.READY],
        [1, -1, 0],
    )
    assert all(row.counter("restarts") == 0 for row in board.rows())
    tree.signal(signal.SIGTERM)
    assert tree.end() == 0


def test_sighup_twice_within_a_roll_is_safe(forest: Forest) -> None:
    board = forest.board(worker=2)
    crews = [coloured(board, colour) for colour in ("red", "blue", "green")]
    tree = grow(forest, crews[1:], board, crews[0])
    tree.signal(signal.SIGHUP)
    tree.wait_output("replacing")
    tree.signal(signal.SIGHUP)
    tree.wait_output("rolled took_ms")
    assert tree.output.count("rolled took_ms") == 1
    assert sorted(phases(board)) == [Phase.READY, Phase.READY, Phase.SPARE]
    assert tree.output.count("status=0") == tree.output.count("signal=SIGUSR2")


def test_refused_settings_change_nothing_and_are_one_error_line(forest: Forest) -> None:
    board = forest.board(worker=2)
    tree = grow(forest, [ReloadError("WORKERS=0: no")], board, coloured(board, "red"))
    before, lines = tree.pids(), tree.output.count("\n")
    tree.signal(signal.SIGHUP)
    tree.wait_output("reload_refused reason='WORKERS=0: no'")
    assert tree.pids() == before
    assert tree.output.count("\n") == lines + 1


def test_settings_with_which_a_worker_cannot_start_end_the_roll(forest: Forest) -> None:
    board = forest.board(worker=2)
    broken = coloured(board, "blue", gone_at="blue")
    tree = grow(forest, [broken, coloured(board, "green")], board, coloured(board, "red"))
    before = tree.pids()
    tree.signal(signal.SIGHUP)
    tree.wait_output("roll_ended kept=2")
    assert "not_replaced old=worker-0 reason='worker-2 did not get ready'" in tree.output
    assert tree.pids() == before
    assert phases(board) == [Phase.READY, Phase.READY, Phase.SPARE]
    tree.signal(signal.SIGHUP)
    tree.wait_output("rolled took_ms")
    assert before.isdisjoint(tree.pids())


def test_sigterm_within_a_roll_ends_everybody(forest: Forest) -> None:
    board = forest.board(worker=2)
    late = crew_of(board, [toy("worker", i, board, "never_ready_once") for i in range(2)])
    tree = grow(forest, [late], board, coloured(board, "red"))
    tree.signal(signal.SIGHUP)
    tree.wait_output("started child=worker-2")
    pids = tree.pids()
    tree.signal(signal.SIGTERM)
    assert tree.end() == 0
    assert not any(is_running(pid) for pid in pids)


def test_sighup_while_stopping_is_ignored(forest: Forest) -> None:
    board = forest.board(worker=1)
    specs = [toy("worker", 0, board, "serves", drains_s=0.3)]
    tree = grow(forest, [], board, crew_of(board, specs))
    tree.signal(signal.SIGTERM)
    tree.wait_output("stopping")
    tree.signal(signal.SIGHUP)
    assert tree.end() == 0
    assert "ignored signal=SIGHUP" in tree.output


def test_draining_worker_beyond_its_deadline_is_killed_and_the_roll_goes_on(
    forest: Forest,
) -> None:
    board = forest.board(worker=1)
    stubborn = crew_of(board, [toy("worker", 0, board, "ignores_sigterm", retire_timeout_ms=100)])
    tree = grow(forest, [coloured(board, "blue")], board, dataclasses.replace(stubborn))
    tree.signal(signal.SIGHUP)
    tree.wait_output("rolled took_ms")
    assert "killing child=worker-0 reason='did not end in time'" in tree.output


def test_worker_that_holds_too_much_memory_is_replaced(forest: Forest) -> None:
    board = forest.board(worker=1)
    healthy_soon = RestartPolicy(healthy_after_ms=1)
    crew = crew_of(
        board, [toy("worker", 0, board, "serves", rss_bytes_max=1, restart=healthy_soon)]
    )
    tree = grow(forest, [], board, crew)
    old = tree.pid_of("worker", 0)
    tree.wait_output("replacing old=worker-0 new=worker-1 reason='it holds too much memory'")
    tree.wait_ready("worker", 1)
    wait_until(lambda: not is_running(old), "the old one ends")


class Doors:
    """What callers need: a listener a worker, a hand-over socket a place."""

    def __init__(self, workers: int, held: ExitStack) -> None:
        self.listeners = [held.enter_context(open_listener("127.0.0.1", 0)) for _ in range(workers)]
        self.handovers = [socket_pair() for _ in range(workers + 1)]
        for pair in self.handovers:
            for end in pair:
                held.enter_context(end)

    def crew(self, board: Scoreboard, **extra: dict[str, object]) -> Crew:
        """Workers that answer; ``extra`` by listener (``w0``) changes one."""

        def spec(place: int, listener: int) -> ChildSpec:
            ends = {"listener": self.listeners[listener], "handover_rx": self.handovers[place][0]}
            given = {"board": board, **ends}
            changes = {"name": "answers", **extra.get(f"w{listener}", {})}
            name = str(changes.pop("name"))
            made = toy("worker", place, board, name, **changes)
            return dataclasses.replace(
                made,
                kwargs={**made.kwargs, **(given if name == "answers" else {})},
                keep_fds=frozenset(end.fileno() for end in ends.values()),
                listener=listener,
            )

        return Crew(len(self.listeners), spec)

    def call(self, listener: int) -> socket.socket:
        return socket.create_connection(self.listeners[listener].getsockname(), timeout=PATIENCE_S)

    def ask(self, listener: int) -> str:
        """The place of the worker that answers a call to this listener."""
        with self.call(listener) as caller:
            return caller.recv(10).decode()


@pytest.fixture
def doors() -> Iterator[Doors]:
    with ExitStack() as held:
        yield Doors(2, held)


Grow = Callable[..., RunningTree]


@pytest.fixture
def grow_with_doors(forest: Forest, doors: Doors) -> Grow:
    def make(**extra: dict[str, object]) -> RunningTree:
        board = forest.board(worker=2)
        crew = doors.crew(board, **extra)
        return forest.grow(
            board,
            [],
            crew=crew,
            listeners=tuple(doors.listeners),
            handovers=tuple(doors.handovers),
            reload=lambda: dataclasses.replace(crew),
        )

    return make


def test_callers_of_a_stopped_worker_are_answered_by_the_other(
    doors: Doors, grow_with_doors: Grow
) -> None:
    tree = grow_with_doors()
    for place in range(2):
        tree.wait_ready("worker", place)
        assert doors.ask(place) == str(place)
    stopped = tree.pid_of("worker", 0)
    os.kill(stopped, signal.SIGSTOP)
    assert [doors.ask(0) for _ in range(5)] == ["1"] * 5
    assert doors.ask(1) == "1"
    os.kill(stopped, signal.SIGCONT)
    wait_until(lambda: doors.ask(0) == "0", "it serves its own callers again")
    board = tree.board
    wait_until(lambda: [board.in_flight(p) for p in range(3)] == [0] * 3, "all is accounted for")


def test_callers_of_a_parked_worker_are_answered_by_the_other(
    doors: Doors, grow_with_doors: Grow
) -> None:
    tree = grow_with_doors(w0={"name": "crashes", "restart": PARKS_SOON})
    tree.wait_ready("worker", 1)
    tree.wait_output("parked child=worker-0")
    assert [doors.ask(0) for _ in range(3)] == ["1"] * 3
    tree.wait_output("stood_in connections=")


def test_connection_on_its_way_to_a_worker_that_dies_is_answered_by_another(
    doors: Doors, grow_with_doors: Grow
) -> None:
    tree = grow_with_doors(w0={"restart": SLOW_SECOND})
    for place in range(2):
        tree.wait_ready("worker", place)
    board, victim = tree.board, tree.pid_of("worker", 0)
    os.kill(victim, signal.SIGSTOP)
    caller, called = socket.socketpair()
    board.count_sent(1, 0)
    assert hand_over(doors.handovers[0][1], called.detach())
    os.kill(victim, signal.SIGKILL)
    with caller:
        caller.settimeout(PATIENCE_S)
        assert caller.recv(10) in (b"0", b"1")  # its successor may be faster than anybody
    wait_until(lambda: [board.in_flight(p) for p in range(3)] == [0] * 3, "all is accounted for")


def test_no_caller_is_refused_while_workers_are_replaced(
    doors: Doors, grow_with_doors: Grow
) -> None:
    tree = grow_with_doors()
    tree.wait_output("serving now")
    tree.signal(signal.SIGHUP)
    answers: list[str] = []
    while "rolled took_ms" not in tree.output:
        answers += [doors.ask(len(answers) % 2)]
    assert "" not in answers
    assert set(answers) <= {"0", "1", "2"}
    assert (doors.ask(0), doors.ask(1)) == ("2", "0")
