"""Signals become bytes in a pipe: handlers only enqueue, the loop reads and acts.

``signal.set_wakeup_fd`` writes the number of each signal into the pipe from C, so that the
handler has nothing left to do. The pipe is the queue; when it is full (65,536 unread signals)
further ones are dropped.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Self

#: What the supervisor listens to.
HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_READ_BYTES = 4096


def _enqueued(signum: int, frame: FrameType | None) -> None:
    """The number is in the pipe already."""


class SignalInbox:
    """The signals that arrived, readable through a descriptor. One a process, as a context."""

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for signum in HEARD:
            signal.signal(signum, _enqueued)
        # A parent that ignores SIGCHLD passes that on, and then nobody could be waited for.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for signum in HEARD:
            signal.signal(signum, signal.SIG_IGN)  # late ones must not spoil the exit status
        signal.set_wakeup_fd(-1)
        os.close(self._read_fd)
        os.close(self._write_fd)

    def fileno(self) -> int:
        """Readable when a signal has arrived."""
        return self._read_fd

    def read(self) -> list[int]:
        """Numbers of the signals that have arrived, in order; never blocks."""
        try:
            return list(os.read(self._read_fd, _READ_BYTES))
        except BlockingIOError:
            return []


@contextmanager
def held_back() -> Iterator[None]:
    """Hold signals back around a fork.

    Between the fork and ``reset_in_child`` a child still has our handlers and our pipe: a Ctrl-C
    to the group would be read twice, which means "kill everything".
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def reset_in_child() -> None:
    """Give a new child the signals a program expects, and let those through that were held back.

    SIGINT and SIGHUP come from the terminal to the whole group; the supervisor decides, so
    children ignore them. SIGTERM ends a child until its main handles it.
    """
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
