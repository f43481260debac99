"""A bounded queue of lines that one daemon thread writes, so that an event loop never waits.

The log goes to a pipe whose reader may be stuck, spooled records go to a disk that may be full or
hang: either would stop every call of the process if its event loop wrote them. So the loop only
appends to a list; the thread takes a batch and blocks in the write as long as it must. It is woken
for the first line and then lets others gather: each waking takes the interpreter from the loop for
longer than a line takes to make. The list
is bounded in lines and in bytes (lines being written count). Full is an answer: ``put`` returns
False and the loss is reported through ``on_lost``, always with the queue's lock held, so that
the callback may raise a counter without a lock of its own.

One thread for each queue, not a shared pool: a disk that hangs must not silence the log.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Sequence

#: Most lines handed to one ``write`` call, so that a failed write loses no more than these.
BATCH_LINES_MAX = 256

#: How long the first line of a batch waits for others.
GATHER_S = 0.02

#: Bytes the queue may hold, whatever the number of lines.
BYTES_MAX = 8 * 1024 * 1024


class LineQueue:
    """Lines on their way to ``write``, which runs in a thread and may block or raise OSError."""

    def __init__(
        self,
        write: Callable[[Sequence[bytes]], None],
        on_lost: Callable[[int], None],
        *,
        name: str,
        lines_max: int,
        bytes_max: int = BYTES_MAX,
    ) -> None:
        assert lines_max > 0
        assert bytes_max > 0
        self._write = write
        self._on_lost = on_lost
        self._lines_max = lines_max
        self._bytes_max = bytes_max
        self._batch_lines_max = min(BATCH_LINES_MAX, lines_max)
        self._changed = threading.Condition()
        self._lines: list[bytes] = []
        self._lines_held = 0
        self._bytes_held = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def put(self, line: bytes) -> bool:
        """Queue a line; False when it was lost because the queue is full or closed."""
        with self._changed:
            full = (
                self._lines_held >= self._lines_max
                or self._bytes_held + len(line) > self._bytes_max
            )
            if full or self._closing:
                self._on_lost(1)
                return False
            self._lines.append(line)
            self._lines_held += 1
            self._bytes_held += len(line)
            if len(self._lines) in (1, self._batch_lines_max):
                self._changed.notify()
            return True

    def close(self, timeout_s: float) -> bool:
        """Take no more lines, wait until those queued are written; False when time ran out."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while batch := self._take():
            try:
                self._write(batch)
            except OSError:
                self._release(batch, lost=len(batch))
            else:
                self._release(batch, lost=0)

    def _take(self) -> list[bytes]:
        """The next lines to write; none means that the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._closing)
            self._changed.wait_for(self._is_batch, GATHER_S)
            batch = self._lines[:BATCH_LINES_MAX]
            del self._lines[:BATCH_LINES_MAX]
            return batch

    def _is_batch(self) -> bool:
        return len(self._lines) >= self._batch_lines_max or self._closing

    def _release(self, batch: Sequence[bytes], *, lost: int) -> None:
        with self._changed:
            self._lines_held -= len(batch)
            self._bytes_held -= sum(map(len, batch))
            if lost:
                self._on_lost(lost)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte, waiting as long as it takes, also where the descriptor does not block.

    Raises OSError when the reader is gone or the disk is full.
    """
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            poller = select.poll()
            poller.register(fd, select.POLLOUT)
            poller.poll()
