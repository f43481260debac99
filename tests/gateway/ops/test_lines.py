"""LineQueue against real pipes: nothing waits, nothing is lost silently, order is kept."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from gateway.ops.lines import BATCH_LINES_MAX, LineQueue, write_all


class Disk:
    """A writer that can be held up or made to fail."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.lost = 0
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.fails = False

    def write(self, batch: Sequence[bytes]) -> None:
        self.entered.set()
        self.open.wait()
        if self.fails:
            raise OSError(28, "No space left on device")
        self.lines.extend(batch)

    def count_lost(self, lines: int) -> None:
        self.lost += lines

    def queue(self, lines_max: int = 1_000, bytes_max: int = 1_000_000) -> LineQueue:
        return LineQueue(
            self.write, self.count_lost, name="test", lines_max=lines_max, bytes_max=bytes_max
        )


@given(st.lists(st.binary(max_size=50), max_size=3 * BATCH_LINES_MAX))
def test_every_line_is_written_in_order_before_close_returns(lines: list[bytes]) -> None:
    disk = Disk()
    queue = disk.queue()
    assert all(queue.put(line) for line in lines)
    assert queue.close(30)
    assert disk.lines == lines
    assert disk.lost == 0


def test_a_held_up_writer_bounds_the_lines_including_those_being_written() -> None:
    disk = Disk()
    disk.open.clear()
    queue = disk.queue(lines_max=10)
    taken = [queue.put(b"%d" % n) for n in range(25)]
    assert taken == [True] * 10 + [False] * 15
    assert disk.lost == 15
    disk.open.set()
    assert queue.close(30)
    assert disk.lines == [b"%d" % n for n in range(10)]


def test_bytes_are_bounded_as_well() -> None:
    disk = Disk()
    disk.open.clear()
    queue = disk.queue(bytes_max=100)
    assert [queue.put(b"x" * 40) for _ in range(3)] == [True, True, False]
    disk.open.set()
    assert queue.close(30)
    assert disk.lost == 1


def test_room_comes_back_once_lines_are_written() -> None:
    disk = Disk()
    queue = disk.queue(lines_max=1)
    for _ in range(50):
        while not queue.put(b"line"):
            pass
    assert queue.close(30)
    assert disk.lines == [b"line"] * 50


def test_a_failing_writer_loses_the_batch_counts_it_and_goes_on() -> None:
    disk = Disk()
    disk.fails = True
    disk.open.clear()
    queue = disk.queue()
    queue.put(b"first")
    assert disk.entered.wait(30)
    for _ in range(4):
        queue.put(b"next")
    disk.open.set()
    while disk.lost < 5:
        pass
    disk.fails = False
    assert queue.put(b"last")
    assert queue.close(30)
    assert disk.lines == [b"last"]
    assert disk.lost == 5


def test_close_gives_up_on_a_writer_that_hangs_and_later_lines_are_lost() -> None:
    disk = Disk()
    disk.open.clear()
    queue = disk.queue()
    queue.put(b"line")
    assert not queue.close(0.01)
    assert not queue.put(b"too late")
    assert disk.lost == 1
    disk.open.set()
    assert queue.close(30)


def test_write_all_waits_for_a_reader_also_on_a_descriptor_that_does_not_block() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    data = os.urandom(1_000_000)
    thread = threading.Thread(target=write_all, args=(writer, data))
    thread.start()
    got = bytearray()
    while len(got) < len(data):
        got += os.read(reader, 65_536)
    thread.join()
    os.close(reader)
    os.close(writer)
    assert bytes(got) == data
