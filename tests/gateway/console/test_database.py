"""The database behind its thread: faults are told, and forgotten once they are over."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from gateway.console.database import Database, StoreUnavailableError
from gateway.ops.records import CallEnded, Record
from gateway.ops.store import RecordsStore

RECORD = Record(1, CallEnded("CA1", 1, "stop", 1))


def test_a_fault_is_told_and_the_next_use_tries_again(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.write_text("a file where the folder should be")

    async def run() -> None:
        database = Database(folder / "records.db")
        with pytest.raises(StoreUnavailableError, match="cannot be used"):
            await database.use(lambda store: store.write([RECORD]))
        assert "cannot be used" in database.fault
        folder.unlink()
        await database.use(lambda store: store.write([RECORD]))
        assert database.fault == ""
        assert len(await database.use(lambda store: store.calls(1))) == 1
        await database.close()

    asyncio.run(run())


def test_after_a_failure_the_file_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "records.db"

    def fail(_: RecordsStore) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    async def run() -> None:
        database = Database(path)
        await database.use(lambda store: store.write([RECORD]))
        with pytest.raises(StoreUnavailableError, match="malformed"):
            await database.use(fail)
        path.unlink()
        await database.use(lambda store: store.write([RECORD]))
        assert path.exists()
        await database.close()

    asyncio.run(run())


def test_all_work_is_done_in_one_thread_that_is_not_the_loops(tmp_path: Path) -> None:
    async def run() -> None:
        database = Database(tmp_path / "records.db")

        def where(_: RecordsStore) -> int:
            return threading.get_ident()

        threads = set(await asyncio.gather(*(database.use(where) for _ in range(20))))
        assert len(threads) == 1
        assert threads != {threading.get_ident()}
        await database.close()

    asyncio.run(run())


def test_an_error_of_ours_is_not_taken_for_the_disks(tmp_path: Path) -> None:
    async def run() -> None:
        database = Database(tmp_path / "records.db")

        def fail(_: RecordsStore) -> None:
            raise KeyError("bug")

        with pytest.raises(KeyError):
            await database.use(fail)
        assert database.fault == ""
        await database.close()

    asyncio.run(run())
