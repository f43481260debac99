"""Signals are read from a pipe, in order, and a child starts with clean ones."""

from __future__ import annotations

import os
import select
import signal
import threading
from collections.abc import Iterator

import pytest

from supervisor.signals import HEARD, SignalInbox, held_back, reset_in_child


@pytest.fixture(autouse=True)
def _handlers_are_put_back() -> Iterator[None]:
    before = {signum: signal.getsignal(signum) for signum in (*HEARD, signal.SIGCHLD)}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def test_signals_are_read_in_order_and_only_once() -> None:
    with SignalInbox() as inbox:
        assert inbox.read() == []
        for signum in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), signum)
        assert select.select([inbox.fileno()], [], [], 10)[0]
        assert inbox.read() == [
            signal.SIGHUP,
            signal.SIGTERM,
            signal.SIGINT,
            signal.SIGTERM,
        ]
        assert inbox.read() == []


def test_late_signals_are_ignored() -> None:
    with SignalInbox():
        pass
    os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_signal_that_is_held_back_arrives_afterwards() -> None:
    with SignalInbox() as inbox:
        with held_back():
            # To this thread: other tests may have left threads that do not hold it back.
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            assert inbox.read() == []
        assert inbox.read() == [signal.SIGINT]


def test_signals_to_a_new_child_do_not_reach_its_parent() -> None:
    with SignalInbox() as inbox:
        with held_back():
            pid = os.fork()
            if pid == 0:
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getpid(), signal.SIGHUP)
                reset_in_child()
                os.kill(os.getpid(), signal.SIGTERM)
                os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
        assert inbox.read() == []
