"""Two gateways over one data directory: orphans of a killed supervisor, and their successors.

Both consoles write one database and import one another's spool files, workers of both append to
the same file. Nothing may be lost and nothing stored twice.
"""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from gateway.ops.records import MessageTaken, Record, append_spool, encode, spool_path
from gateway.ops.store import RecordsStore

LINES = 300
LINES_A_TIME = 3
PATIENCE_S = 20


def record(writer: int, n: int) -> Record:
    sequence = 1 + writer * 1_000_000 + n
    return Record(sequence, MessageTaken(f"CA{writer}", sequence, {"n": str(n)}))


def work(folder: Path, writer: int) -> None:
    """A worker whose console takes nothing: everything goes to the spool file of its place."""
    for begin in range(0, LINES, LINES_A_TIME):
        lines = [encode(record(writer, begin + n)) + b"\n" for n in range(LINES_A_TIME)]
        append_spool(spool_path(folder, 0), lines)


def console(folder: Path, writer: int) -> None:
    """A console: stores records of its own workers, imports what is spooled, until it is killed."""
    store = opened(folder)
    for n in range(LINES):
        write(store, record(writer, n))
        import_spool(store, folder)
    while True:
        import_spool(store, folder)
        time.sleep(0.01)


def opened(folder: Path) -> RecordsStore:
    while True:
        with suppress(sqlite3.OperationalError):  # as the console does, which tries again
            return RecordsStore(folder / "records.db")


def write(store: RecordsStore, one: Record) -> None:
    while True:
        with suppress(sqlite3.OperationalError):  # the other one writes for longer than we wait
            store.write([one])
            return


def import_spool(store: RecordsStore, folder: Path) -> None:
    with suppress(FileNotFoundError, BlockingIOError, sqlite3.OperationalError):
        store.import_spool(spool_path(folder, 0), lambda: False)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[BaseProcess]]:
    context = multiprocessing.get_context("fork")
    made: list[BaseProcess] = [
        context.Process(target=console, args=(tmp_path, 0)),
        context.Process(target=console, args=(tmp_path, 1)),
        context.Process(target=work, args=(tmp_path, 2)),
        context.Process(target=work, args=(tmp_path, 3)),
    ]
    for process in made:
        process.start()
    yield made
    for process in made:
        process.kill()
        process.join()
        process.close()


def test_what_both_write_is_there_once(tmp_path: Path, processes: list[BaseProcess]) -> None:
    for worker in processes[2:]:
        worker.join(PATIENCE_S)
        assert worker.exitcode == 0
    expected = sorted((f"CA{writer}", n) for writer in range(4) for n in range(LINES))
    end = time.monotonic() + PATIENCE_S
    while (found := stored(tmp_path)) != expected:
        assert time.monotonic() < end, f"{len(found)} of {len(expected)} records"
        time.sleep(0.05)
    assert not spool_path(tmp_path, 0).exists()


def stored(folder: Path) -> list[tuple[str, int]]:
    store = opened(folder)
    try:
        return sorted((m.call_id, int(m.fields["n"])) for m in store.messages(10 * LINES))
    finally:
        store.close()
