"""The recorder while its database refuses: it waits, bounded, and loses nothing it need not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway import clock
from gateway.console import recorder as module
from gateway.console.database import Database
from gateway.console.recorder import Recorder
from gateway.console.view import View
from gateway.ops import live
from gateway.ops import store as store_module
from gateway.ops.records import Record, TurnTaken, encode
from gateway.ops.store import RecordsStore
from supervisor.scoreboard import RowName, Scoreboard

WAITS_MAX = 1_500


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(WAITS_MAX):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("waited in vain")


def turns(numbers: range) -> list[bytes]:
    return [encode(Record(n + 1, TurnTaken("CA1", n, "caller", "text"))) for n in numbers]


@dataclass
class Setup:
    """A recorder, the worker's end of its socket, and a stranger who can lock the database."""

    data_dir: Path
    pair: tuple[socket.socket, socket.socket] = field(
        default_factory=lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    )
    board: Scoreboard = field(default_factory=lambda: Scoreboard([RowName("console", 0)], 1))
    view: View = field(default_factory=View)

    @contextlib.asynccontextmanager
    async def running(self, keep_days: int = 0) -> AsyncIterator[Recorder]:
        database = Database(self.data_dir / "records.db")
        row = self.board.row("console", 0)
        fds = [self.pair[1].fileno()]
        recorder = Recorder(self.data_dir, database, fds, row, self.view, keep_days)
        task = asyncio.create_task(recorder.run())
        try:
            yield recorder
        finally:
            recorder.stop()
            await task

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        RecordsStore(self.data_dir / "records.db").close()
        other = sqlite3.connect(self.data_dir / "records.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.close()

    def stored(self) -> list[int]:
        """What is committed, read as a stranger would, who never waits for a writer."""
        uri = f"file:{self.data_dir / 'records.db'}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
            return [n for (n,) in database.execute("SELECT at_ms FROM turns ORDER BY sequence")]

    def send(self, packets: list[bytes]) -> int:
        """Send until the socket is full; how many it took."""
        for n, packet in enumerate(packets):
            try:
                self.pair[0].send(packet, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return n
        return len(packets)


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    monkeypatch.setattr(store_module, "BUSY_TIMEOUT_S", 0.01)
    setup = Setup(tmp_path / "data")
    yield setup
    for end in setup.pair:
        end.close()


def test_while_the_database_is_locked_reading_stops_at_a_limit(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PENDING_MAX", 100)

    async def run() -> None:
        async with setup.running() as recorder:
            with setup.locked():
                sent = 0
                while sent < 1_000:
                    took = setup.send(turns(range(sent, 1_000)))
                    sent += took
                    if not took and not recorder._reading:
                        break
                    await asyncio.sleep(0.01)
                assert 0 < sent < 1_000, "the socket must fill"
                assert len(recorder._pending) < 100 + module.PACKETS_PER_WAKE_MAX
            await until(lambda: len(setup.stored()) == sent)
            assert setup.send(turns(range(sent, sent + 1))) == 1
            await until(lambda: len(setup.stored()) == sent + 1)
        assert setup.stored() == list(range(sent + 1))

    asyncio.run(run())


def test_what_cannot_be_stored_at_the_end_waits_in_a_file(setup: Setup) -> None:
    async def run() -> None:
        with setup.locked():
            async with setup.running() as recorder:
                setup.send(turns(range(50)))
                await until(lambda: len(recorder._pending) == 50)
        assert setup.stored() == []
        async with setup.running():
            await until(lambda: len(setup.stored()) == 50)
        assert not list(setup.data_dir.glob("spool-*"))

    asyncio.run(run())


def test_what_not_even_the_file_takes_is_counted(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OWN_SPOOL", "records.db/file")

    async def run() -> None:
        with setup.locked():
            async with setup.running() as recorder:
                setup.send(turns(range(7)))
                await until(lambda: len(recorder._pending) == 7)

    asyncio.run(run())
    assert setup.board.row("console", 0).counter("records_dropped") == 7


def test_what_is_in_the_socket_when_told_to_stop_is_stored(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PENDING_MAX", 0)  # nothing is read before

    async def run() -> int:
        async with setup.running():
            return setup.send(turns(range(1_000)))

    sent = asyncio.run(run())
    assert sent > 100
    assert setup.stored() == list(range(sent))


def test_bad_lines_of_a_spool_file_are_counted(setup: Setup) -> None:
    setup.data_dir.mkdir()
    (setup.data_dir / "spool-0.jsonl").write_bytes(b"x\n" + turns(range(1))[0] + b"\n{}\n")

    async def run() -> None:
        async with setup.running():
            await until(lambda: not list(setup.data_dir.glob("spool-*")))

    asyncio.run(run())
    assert setup.stored() == [0]
    assert setup.board.row("console", 0).counter("messages_invalid") == 2


def test_reports_are_shown_and_not_stored(setup: Setup) -> None:
    seen = live.CallSeen("CA1", -20, -90, caller_speaks=True, assistant_speaks=False)

    async def run() -> None:
        async with setup.running():
            setup.send([*turns(range(1)), *live.seen([seen]), b'{"live":"seen","calls":[1]}'])
            await until(lambda: len(setup.view.live) == 1)

    asyncio.run(run())
    assert setup.stored() == [0]
    (call,) = setup.view.live
    assert setup.view.version == 1
    assert (call.call_id, call.state, call.caller_dbfs) == ("CA1", "caller", -20)
    assert setup.board.row("console", 0).counter("messages_invalid") == 1


def test_old_calls_are_deleted_bit_by_bit_while_it_runs(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IMPORT_EVERY_BATCHES", 1)
    monkeypatch.setattr(module, "FORGET_CALLS_MAX", 2)
    now_ns = clock.wall_ms() * 1_000_000
    store = RecordsStore(setup.data_dir / "records.db")
    for age in (9, 8, 7, 6, 5, 1, 0):
        at_ns = now_ns - age * module.NS_PER_DAY
        store.write([Record(at_ns, TurnTaken(f"CA{age}", age, "caller", "text"))])
    store.close()

    async def run() -> None:
        async with setup.running():
            pass
        assert len(setup.stored()) == 7, "for ever is the default"
        async with setup.running(keep_days=3):
            await until(lambda: sorted(setup.stored()) == [0, 1])

    asyncio.run(run())
