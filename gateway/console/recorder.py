"""Takes records from the workers' sockets and puts them into the database, a batch at a time.

The loop reads packets as they come and decodes them; every 100 ms what has come is written by the
database's thread. While that fails (disk full, locked) records wait here, up to a limit; then the
sockets are read no more, they fill, and the workers spool to their files. Spool files are imported
at the start and every two seconds. What could not be stored at the end goes to a spool file of the
console's own. So nothing is lost until the disk refuses everything.

A kill loses what was read and not yet written: at most the records of 100 ms.

What comes is shown to a watcher as well: records as they are read, and the reports of live calls
(``gateway.ops.live``), which nobody stores.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from gateway import clock
from gateway.console.database import Database, StoreUnavailableError
from gateway.ops import live
from gateway.ops.log import RateLimited, get_logger
from gateway.ops.records import (
    PACKET_BYTES_MAX,
    Event,
    Record,
    RecordError,
    append_spool,
    decode,
    encode,
)
from gateway.ops.store import RecordsStore
from supervisor.scoreboard import Row

SPOOLS = "spool-*.jsonl"
OWN_SPOOL = "spool-console.jsonl"

BATCH_MS = 100
BATCH_RECORDS_MAX = 2_000
PENDING_MAX = 10_000
PACKETS_PER_WAKE_MAX = 64
DRAIN_PACKETS_MAX = 10_000
IMPORT_EVERY_BATCHES = 20
#: Calls that are deleted at a time once they are too old, as often as spool files are imported.
FORGET_CALLS_MAX = 100
NS_PER_DAY = 24 * 3_600 * 10**9

log = get_logger(__name__)


class Watcher(Protocol):
    """Who is shown what comes, worker by worker."""

    def happened(self, worker: int, event: Event) -> None:
        """A record came."""
        ...

    def stored(self) -> None:
        """The database has something new."""
        ...

    def reported(self, worker: int, report: live.CallsSeen) -> None:
        """A report of live calls came."""
        ...


@dataclass(frozen=True, slots=True)
class _Source:
    worker: int
    socket: socket.socket


class Recorder:
    """Reads the sockets of all workers, writes to ``database``, counts bad packets in ``row``."""

    def __init__(
        self,
        data_dir: Path,
        database: Database,
        fds: Sequence[int],
        row: Row,
        watcher: Watcher,
        keep_days: int = 0,
    ) -> None:
        """``keep_days``: how long calls are kept, 0 = for ever."""
        self._keep_days = keep_days
        self._data_dir = data_dir
        self._database = database
        self._row = row
        self._watcher = watcher
        sockets = [socket.socket(fileno=os.dup(fd)) for fd in fds]
        self._sockets = {sock.fileno(): _Source(n, sock) for n, sock in enumerate(sockets)}
        self._reading: set[int] = set()
        self._pending: deque[Record] = deque()
        self._warnings = RateLimited(1)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Take and store records until ``stop``; then drain the sockets and store the rest."""
        batches = 0
        while not self._stopping.is_set():
            self._read_while_room()
            if batches % IMPORT_EVERY_BATCHES == 0:
                await self._import_spools()
                await self._forget_old()
            await self._flush()
            batches += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), BATCH_MS / 1000)
        await self._finish()

    def stop(self) -> None:
        """Make ``run`` finish."""
        self._stopping.set()

    async def _finish(self) -> None:
        for fd in list(self._reading):
            self._stop_reading(fd)
        for fd in list(self._sockets):
            self._take(fd, DRAIN_PACKETS_MAX)
        while self._pending and await self._flush():
            pass
        if self._pending:
            await asyncio.to_thread(self._keep_for_later)
        for source in self._sockets.values():
            source.socket.close()
        await self._database.close()

    def _read_while_room(self) -> None:
        """Read all sockets again once half of the room is free."""
        if len(self._pending) > PENDING_MAX // 2:
            return
        for fd in self._sockets.keys() - self._reading:
            asyncio.get_running_loop().add_reader(fd, self._on_readable, fd)
            self._reading.add(fd)

    def _stop_reading(self, fd: int) -> None:
        asyncio.get_running_loop().remove_reader(fd)
        self._reading.discard(fd)

    def _on_readable(self, fd: int) -> None:
        if len(self._pending) >= PENDING_MAX:
            self._stop_reading(fd)
        else:
            self._take(fd, PACKETS_PER_WAKE_MAX)

    def _take(self, fd: int, packets_max: int) -> None:
        """Read packets until there are none, or ``packets_max``."""
        source = self._sockets[fd]
        for _ in range(packets_max):
            try:
                packet = source.socket.recv(PACKET_BYTES_MAX + 1, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                log.error("record socket failed", fd=fd, reason=error.strerror)  # noqa: TRY400
                self._forget(fd)
                return
            if not packet and _is_closed(fd):
                self._forget(fd)
                return
            self._accept(source.worker, packet)

    def _accept(self, worker: int, packet: bytes) -> None:
        try:
            if len(packet) > PACKET_BYTES_MAX:
                raise RecordError("a record that is too long")
            if live.is_report(packet):
                self._watcher.reported(worker, live.read(packet))
                return
            record = decode(packet)
            self._pending.append(record)
            self._watcher.happened(worker, record.event)
        except RecordError as error:
            self._refuse(1, str(error))

    def _refuse(self, records: int, reason: str) -> None:
        self._row.count("messages_invalid", records)
        self._warn("record refused", reason)

    def _forget(self, fd: int) -> None:
        if fd in self._reading:
            self._stop_reading(fd)
        self._sockets.pop(fd).socket.close()

    async def _flush(self) -> bool:
        """Store the next batch; False when the database does not take it."""
        batch = list(islice(self._pending, BATCH_RECORDS_MAX))
        if not batch:
            return True
        try:
            await self._database.use(lambda store: store.write(batch))
        except StoreUnavailableError as error:
            self._warn("records wait", str(error))
            return False
        for _ in batch:
            self._pending.popleft()
        self._watcher.stored()
        return True

    async def _import_spools(self) -> None:
        try:
            imported, bad = await self._database.use(self._import_all)
        except StoreUnavailableError as error:
            self._warn("spooled records wait", str(error))
            return
        if imported:
            log.info("spooled records imported", records=imported)
            self._watcher.stored()
        if bad:
            self._refuse(bad, "a bad line in a spool file")

    async def _forget_old(self) -> None:
        """Delete some of the calls that are too old; the others of them next time."""
        if not self._keep_days:
            return
        before = clock.wall_ms() * 1_000_000 - self._keep_days * NS_PER_DAY
        try:
            forgotten = await self._database.use(
                lambda store: store.forget_before(before, FORGET_CALLS_MAX)
            )
        except StoreUnavailableError as error:
            self._warn("old calls wait", str(error))
            return
        if forgotten:
            log.info("old calls deleted", calls=forgotten)

    def _import_all(self, store: RecordsStore) -> tuple[int, int]:
        """Import every spool file that no worker is writing just now (in the store's thread)."""
        imported = bad = 0
        for path in sorted(self._data_dir.glob(SPOOLS)):
            with contextlib.suppress(BlockingIOError):
                records, bad_lines = store.import_spool(path, self._stopping.is_set)
                imported += records
                bad += bad_lines
        return imported, bad

    def _keep_for_later(self) -> None:
        lines = [encode(record) + b"\n" for record in self._pending]
        try:
            append_spool(self._data_dir / OWN_SPOOL, lines)
        except OSError as error:
            self._row.count("records_dropped", len(lines))
            log.error("records lost", records=len(lines), reason=error.strerror)  # noqa: TRY400

    def _warn(self, event: str, reason: str) -> None:
        suppressed = self._warnings.allow(event, clock.now_ns())
        if suppressed is not None:
            log.warning(event, reason=reason, suppressed=suppressed)


def _is_closed(fd: int) -> bool:
    """Whether an empty read meant the end: an empty packet reads the same."""
    poller = select.poll()
    poller.register(fd, select.POLLRDHUP)
    return bool(poller.poll(0))
