"""The tree with real processes and real signals."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from supervisor import fork as fork_module
from supervisor import policy, watch
from supervisor.scoreboard import Field, Phase
from supervisor.spec import NOBODY, RestartPolicy
from tests.supervisor.conftest import Forest, RunningTree, is_running, toy, wait_until

IMPATIENT = RestartPolicy(backoff_first_ms=1, backoff_max_ms=2, restarts_per_window_max=3)
ENDLESS_MS = 600_000


def small_tree(
    forest: Forest,
    worker: str = "serves",
    before: Callable[[], None] = lambda: None,
    **extra: object,
) -> RunningTree:
    """One worker, two DSP processes, a console; everything is ready."""
    board = forest.board(worker=1, dsp=2, console=1)
    tree = forest.grow(
        board,
        [
            *(toy("dsp", i, board, "serves", hung_after_ms=400) for i in range(2)),
            toy("console", 0, board, "serves"),
            toy("worker", 0, board, worker, **extra),
        ],
        dsp_wake_fds=forest.event_fds(2),
        before=before,
    )
    for kind, index in (("dsp", 0), ("dsp", 1), ("console", 0), ("worker", 0)):
        tree.wait_ready(kind, index)
    return tree


def assert_over(tree: RunningTree, pids: set[int], status: int = 0) -> None:
    """It ends with this status, silently, and none of ``pids`` outlives it."""
    assert tree.end() == status
    assert [pid for pid in pids if is_running(pid)] == []
    assert "Traceback" not in tree.output


def assert_rung(event_fd: int, times: int) -> None:
    """An event fd has been written to so often; the board is written just before it."""
    rings = 0

    def all_heard() -> bool:
        nonlocal rings
        with suppress(BlockingIOError):
            rings += os.eventfd_read(event_fd)
        return rings >= times

    wait_until(all_heard, "the DSP process is woken")
    assert rings == times


def test_everything_starts_and_that_is_said_once(forest: Forest) -> None:
    tree = small_tree(forest)
    tree.wait_output("serving now")
    old = tree.pid_of("worker")
    os.kill(old, signal.SIGKILL)
    tree.wait_ready("worker", not_pid=old)
    tree.signal(signal.SIGTERM)
    assert_over(tree, tree.pids())
    assert tree.output.count("serving now") == 1


def test_killed_worker_is_replaced_and_its_counters_go_on(forest: Forest) -> None:
    tree = small_tree(forest)
    others = tree.pids() - {tree.pid_of("worker")}
    row = tree.board.row("worker", 0)
    assert (row.counter("calls"), row.counter("restarts")) == (1, 0)
    old = tree.pid_of("worker")
    os.kill(old, signal.SIGKILL)
    new = tree.wait_ready("worker", not_pid=old)
    assert is_running(new)
    assert (row.counter("calls"), row.counter("restarts")) == (2, 1)
    assert tree.pids() - {new} == others


def test_dead_child_leaves_its_row_but_keeps_its_counters(forest: Forest) -> None:
    board = forest.board(worker=1)
    slow_second = RestartPolicy(backoff_first_ms=30_000)
    tree = forest.grow(board, [toy("worker", 0, board, "serves", restart=slow_second)])
    first = tree.wait_ready("worker")
    os.kill(first, signal.SIGKILL)
    os.kill(tree.wait_ready("worker", not_pid=first), signal.SIGKILL)
    row = board.row("worker", 0)
    wait_until(lambda: row.get(Field.PHASE) == Phase.EXITED, "the worker has left")
    assert (row.get(Field.PID), row.get(Field.CALLS), row.counter("calls")) == (0, 0, 2)
    tree.signal(signal.SIGTERM)
    assert tree.end() == 0


def test_crash_loop_is_parked_and_others_live(forest: Forest) -> None:
    board = forest.board(worker=2)
    specs = [
        toy("worker", 0, board, "crashes", restart=IMPATIENT),
        toy("worker", 1, board, "serves"),
    ]
    tree = forest.grow(board, specs)
    healthy = tree.wait_ready("worker", 1)
    row = board.row("worker", 0)
    wait_until(lambda: row.get(Field.PHASE) == Phase.PARKED, "worker-0 is parked")
    assert row.counter("restarts") == IMPATIENT.restarts_per_window_max
    assert tree.wait_ready("worker", 1) == healthy
    tree.wait_output("RuntimeError: worker fell over", times=4)
    tree.wait_output("serving now")  # degraded, but it serves
    tree.signal(signal.SIGTERM)
    assert tree.end() == 0


def test_all_workers_parked_ends_the_supervisor(forest: Forest) -> None:
    board = forest.board(worker=1, console=1)
    specs = [
        toy("console", 0, board, "serves"),
        toy("worker", 0, board, "crashes", restart=IMPATIENT),
    ]
    tree = forest.grow(board, specs)
    assert tree.end() == 1
    assert "every worker has crashed too often" in tree.output
    assert tree.pids() == set()


def test_silent_child_is_killed_and_replaced(forest: Forest) -> None:
    board = forest.board(worker=1)
    tree = forest.grow(board, [toy("worker", 0, board, "hangs_once", hung_after_ms=300)])
    tree.wait_output("no sign of life")
    wait_until(lambda: board.row("worker", 0).counter("restarts") == 1, "it is replaced")
    assert is_running(tree.wait_ready("worker"))
    assert "status=-9" in tree.output


def test_silent_child_is_reported_and_asked_for_its_stacks_before_it_is_killed(
    forest: Forest,
) -> None:
    board = forest.board(worker=1)
    spec = toy("worker", 0, board, "hangs_once", warn_after_ms=100, dump_after_ms=300)
    tree = forest.grow(board, [dataclasses.replace(spec, hung_after_ms=700)])
    hung = tree.wait_ready("worker")
    tree.wait_output("killing child=worker-0")
    before, _, after = tree.output.partition("note='its stacks follow'")
    assert before.count("silent child=worker-0") == 2
    assert "in hangs_once" in after.partition("killing")[0]
    tree.wait_ready("worker", not_pid=hung)


def test_hung_dsp_process_is_killed_and_the_standby_serves(forest: Forest) -> None:
    tree = small_tree(forest)
    board, hung = tree.board, tree.pid_of("dsp", 0)
    wait_until(lambda: [board.dsp_of(a) for a in range(2)] == [0, 0], "DSP 0 serves")
    os.kill(hung, signal.SIGSTOP)
    wait_until(lambda: [board.dsp_of(a) for a in range(2)] == [1, 1], "the standby serves")
    assert not is_running(hung)
    tree.wait_ready("dsp", 0, not_pid=hung)


def test_cpu_that_was_taken_from_us_is_no_reason_not_to_serve(forest: Forest) -> None:
    board = forest.board(worker=1)
    foreign = max(os.sched_getaffinity(0)) + 1_000
    tree = forest.grow(board, [toy("worker", 0, board, "serves", cpus=frozenset({foreign}))])
    tree.wait_ready("worker")
    assert "worker-0: cannot be pinned" in tree.output


def test_child_that_does_not_get_ready_is_killed_and_replaced(forest: Forest) -> None:
    board = forest.board(worker=1)
    spec = toy("worker", 0, board, "never_ready_once", ready_timeout_ms=200, hung_after_ms=10)
    tree = forest.grow(board, [spec])
    tree.wait_output("killing child=worker-0 reason='not ready after")
    assert is_running(tree.wait_ready("worker"))


def test_stalled_host_is_not_the_childs_fault(forest: Forest) -> None:
    board = forest.board(worker=1)
    tree = forest.grow(board, [toy("worker", 0, board, "serves", hung_after_ms=800)])
    pid = tree.wait_ready("worker")
    os.killpg(tree.pid, signal.SIGSTOP)
    stalled = board.row("worker", 0).get(Field.HEARTBEAT_NS)
    # Longer than hung_after_ms; nobody in the group can notice the time.
    threading.Event().wait(1.2)
    os.killpg(tree.pid, signal.SIGCONT)
    row = board.row("worker", 0)
    wait_until(lambda: row.get(Field.HEARTBEAT_NS) > stalled, "the worker beats again")
    tree.signal(signal.SIGTERM)
    assert_over(tree, {pid})
    assert "killing" not in tree.output
    assert row.counter("restarts") == 0


@pytest.mark.parametrize("kind", ["worker", "dsp", "speech"])
def test_configuration_that_cannot_work_ends_the_supervisor(forest: Forest, kind: str) -> None:
    board = forest.board(**{"console": 1, kind: 1})
    specs = [
        toy("console", 0, board, "serves"),
        toy(kind, 0, board, "exits_with", status=2),
    ]
    tree = forest.grow(board, specs)
    assert_over(tree, tree.pids(), status=2)
    assert tree.output.count("cannot find its model") == 1


@pytest.mark.parametrize(("code", "status"), [(3, 3), (None, 0), ("sorry", 1)])
def test_exit_status_of_a_child_that_raises_system_exit(
    forest: Forest, code: object, status: int
) -> None:
    board = forest.board(worker=1)
    tree = forest.grow(board, [toy("worker", 0, board, "raises_exit", code=code)])
    tree.wait_output(f"status={status}\n")
    if isinstance(code, str):
        assert code in tree.output


def test_main_without_an_exit_status_is_a_crash(forest: Forest) -> None:
    board = forest.board(worker=1)
    tree = forest.grow(board, [toy("worker", 0, board, "returns_nothing")])
    tree.wait_output("status=1\n")
    assert "returned None, which is no exit status" in tree.output


def test_reader_of_stdout_that_went_away_stops_nothing(forest: Forest) -> None:
    def break_stdout() -> None:
        reader, writer = os.pipe()
        os.close(reader)
        sys.stdout = os.fdopen(writer, "w")
        sys.stdout.write("nobody will read this")

    board = forest.board(worker=1)
    tree = forest.grow(board, [toy("worker", 0, board, "serves")], before=break_stdout)
    tree.wait_ready("worker")


def test_arenas_of_a_dead_dsp_process_go_to_the_standby(forest: Forest) -> None:
    tree = small_tree(forest)
    board = tree.board
    wait_until(lambda: [board.dsp_of(a) for a in range(2)] == [0, 0], "DSP 0 serves")
    wakes = tree.plan.dsp_wake_fds
    assert_rung(wakes[0], times=2)
    for dead, alive in ((0, 1), (1, 0)):  # the replacement is the new standby
        old = tree.wait_ready("dsp", dead)
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: {board.dsp_of(a) for a in range(2)} == {alive}, "the standby serves")  # noqa: B023
        assert_rung(wakes[alive], times=2)
        tree.wait_ready("dsp", dead, not_pid=old)
    tree.signal(signal.SIGTERM)
    assert_over(tree, tree.pids())


def test_nobody_serves_an_arena_while_no_dsp_process_is_ready(forest: Forest) -> None:
    board = forest.board(worker=1, dsp=2)
    board.assign(0, 1)
    late = {"ready_timeout_ms": 600_000}
    specs = [toy("dsp", i, board, "never_ready_once", **late) for i in range(2)]
    tree = forest.grow(board, specs, dsp_wake_fds=forest.event_fds(2))
    tree.wait_output("started child=dsp-1")
    assert [board.dsp_of(a) for a in range(2)] == [NOBODY, NOBODY]


def test_sigterm_drains_the_workers_before_anything_else_ends(forest: Forest) -> None:
    tree = small_tree(forest, drains_s=0.5)
    pids = tree.pids()
    tree.signal(signal.SIGTERM)
    row = tree.board.row("worker", 0)
    wait_until(lambda: row.get(Field.PHASE) == Phase.DRAINING, "the worker drains")
    assert all(is_running(pid) for pid in pids)
    assert_over(tree, pids)
    exits = [line.split()[1] for line in tree.output.splitlines() if line.startswith("exited")]
    assert exits[0] == "child=worker-0"
    assert len(exits) == 4


def test_nothing_is_restarted_while_draining(forest: Forest) -> None:
    tree = small_tree(forest, stop_timeout_ms=ENDLESS_MS, drains_s=600)
    tree.signal(signal.SIGTERM)
    tree.wait_output("stopping")
    victims = {tree.pid_of("console"), tree.pid_of("dsp", 0)}
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    tree.wait_output("exited", times=2)
    wait_until(lambda: {tree.board.dsp_of(a) for a in range(2)} == {1}, "the standby serves")
    os.kill(tree.pid_of("worker"), signal.SIGKILL)
    assert_over(tree, tree.pids())
    assert tree.output.count("started") == 4


def test_child_that_ignores_sigterm_is_killed_at_its_deadline(forest: Forest) -> None:
    tree = small_tree(forest, "ignores_sigterm", stop_timeout_ms=100)
    pids = tree.pids()
    tree.signal(signal.SIGTERM)
    assert_over(tree, pids)
    assert "killing child=worker-0 reason='did not end in time'" in tree.output


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_asking_twice_ends_at_once(forest: Forest, second: int) -> None:
    tree = small_tree(forest, "ignores_sigterm", stop_timeout_ms=ENDLESS_MS)
    pids = tree.pids()
    tree.signal(signal.SIGTERM)
    tree.wait_output("stopping")
    tree.signal(second)
    assert_over(tree, pids)
    assert "asked to stop twice" in tree.output


def test_ctrl_c_reaches_the_whole_group_and_ends_it_quietly(forest: Forest) -> None:
    tree = small_tree(forest, drains_s=0.2)
    pids = tree.pids()
    os.killpg(tree.pid, signal.SIGINT)
    assert_over(tree, pids)
    assert "killing" not in tree.output
    assert "KeyboardInterrupt" not in tree.output


def test_sigint_has_little_patience(forest: Forest) -> None:
    tree = small_tree(
        forest,
        "ignores_sigterm",
        before=lambda: setattr(policy, "FAST_TIMEOUT_MS", 100),
        stop_timeout_ms=ENDLESS_MS,
    )
    pids = tree.pids()
    tree.signal(signal.SIGINT)
    assert_over(tree, pids)
    assert "killing child=worker-0 reason='did not end in time'" in tree.output


def test_signal_before_the_start_starts_nothing(forest: Forest) -> None:
    board = forest.board(worker=1)
    specs = [toy("worker", 0, board, "serves")]
    tree = forest.grow(board, specs, before=lambda: os.kill(os.getpid(), signal.SIGINT))
    assert tree.end() == 0
    assert "started" not in tree.output
    assert board.dsp_of(0) == NOBODY


def test_child_is_born_with_what_its_spec_names_and_nothing_else(
    forest: Forest, tmp_path: Path
) -> None:
    facts = tmp_path / "facts"
    board = forest.board(worker=2)
    kept, secret = socket.socketpair()
    with kept, secret:
        spec = toy(
            "worker",
            0,
            board,
            "describes_itself",
            path=str(facts),
            keep_fds=frozenset({kept.fileno()}),
            nice=3,
            cpus=frozenset({min(os.sched_getaffinity(0))}),
            environment={"COLOUR": "green"},
        )
        tree = forest.grow(board, [toy("worker", 1, board, "serves"), spec])
        tree.wait_ready("worker", 0)
        born = json.loads(facts.read_text())
        assert born == {
            "fds": [0, 1, 2, kept.fileno()],
            "nice": os.nice(0) + 3,
            "cpus": [min(os.sched_getaffinity(0))],
            "colour": "green",
            "ignores": sorted({signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ}),
            "blocked": [],
        }


def test_killed_supervisor_takes_workers_and_then_the_rest_with_it(forest: Forest) -> None:
    board = forest.board(worker=1, dsp=1)
    alive_read, alive_write = os.pipe()
    specs = [
        toy(
            "dsp", 0, board, "serves_while_needed",
            alive_fd=alive_read, keep_fds=frozenset({alive_read}),
        ),
        toy(
            "worker", 0, board, "serves",
            drains_s=0.3, dies_with_parent=True, keep_fds=frozenset({alive_write}),
        ),
    ]  # fmt: skip
    tree = forest.grow(board, specs, dsp_wake_fds=forest.event_fds(1))
    os.close(alive_write)
    worker, dsp = tree.wait_ready("worker"), tree.wait_ready("dsp")
    tree.signal(signal.SIGKILL)
    assert tree.end() == -signal.SIGKILL
    row = board.row("worker", 0)
    wait_until(lambda: row.get(Field.PHASE) == Phase.DRAINING, "the worker drains")
    assert is_running(dsp)
    wait_until(lambda: not is_running(worker), "the worker ends")
    wait_until(lambda: not is_running(dsp), "the DSP process ends after it")
    os.close(alive_read)


def test_nonsense_on_the_board_harms_nobody(forest: Forest) -> None:
    board = forest.board(worker=1)
    tree = forest.grow(board, [toy("worker", 0, board, "writes_nonsense")])
    tree.wait_ready("worker")
    tree.signal(signal.SIGTERM)
    assert tree.end() == 0


def test_failed_fork_is_tried_again(forest: Forest) -> None:
    failures = [OSError(11, "no room"), OSError(11, "no room")]
    really_fork = os.fork

    def fork() -> int:
        if failures:
            raise failures.pop()
        return really_fork()

    board = forest.board(worker=1)
    quick = RestartPolicy(backoff_first_ms=1)
    tree = forest.grow(
        board,
        [toy("worker", 0, board, "serves", restart=quick)],
        before=lambda: setattr(os, "fork", fork),
    )
    tree.wait_ready("worker")
    assert tree.output.count("cannot_fork") == 2
    tree.signal(signal.SIGTERM)
    assert tree.end() == 0


def test_ignored_sigchld_is_not_inherited(forest: Forest) -> None:
    board = forest.board(worker=1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        tree = forest.grow(board, [toy("worker", 0, board, "serves")])
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    old = tree.wait_ready("worker")
    os.kill(old, signal.SIGKILL)
    tree.wait_ready("worker", not_pid=old)
    tree.signal(signal.SIGTERM)
    assert tree.end() == 0


def test_second_thread_forbids_the_fork(forest: Forest) -> None:
    board = forest.board(worker=1)
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match=r"threads: a fork could deadlock"):
            fork_module.fork(toy("worker", 0, board, "serves"), board.row("worker", 0))
    finally:
        release.set()
        thread.join()
    assert board.row("worker", 0).get(Field.PID) == 0


def test_slow_start_is_said(forest: Forest) -> None:
    board = forest.board(worker=1)
    tree = forest.grow(
        board,
        [toy("worker", 0, board, "never_ready_once")],
        before=lambda: setattr(watch, "SLOW_START_MS", 50),
    )
    tree.wait_output("slow worker-0")
