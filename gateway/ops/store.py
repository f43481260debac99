"""The database of calls, turns and messages: SQLite in WAL mode, one writer, one thread.

Sequence numbers (see ``records``) order everything, so records may arrive late, twice or in any
order. A call's row is made by whichever of its records comes first; the earliest start and the
latest end hold. An end older than the latest start is that of an earlier part of a resumed call,
so that call is still running.

Which messages are done is kept in a table of its own, made when it is missing: an older release
does not know it and is not disturbed by it.

The file's mode is 0600. A batch is one transaction, on disk before ``write`` returns.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import orjson

from gateway.ops.records import (
    CallEnded,
    CallStarted,
    MessageTaken,
    Record,
    RecordError,
    TurnInterrupted,
    TurnTaken,
    decode,
    locked_file,
)

SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 1.0
IMPORT_BATCH = 500
TURNS_PER_ANSWER_MAX = 2_000

_SCHEMA = """
CREATE TABLE calls (
    call_id TEXT PRIMARY KEY,
    first_sequence INTEGER NOT NULL, last_start INTEGER, last_end INTEGER,
    stream_id TEXT NOT NULL DEFAULT '', wire TEXT NOT NULL DEFAULT '',
    responder TEXT NOT NULL DEFAULT '', caller_number TEXT NOT NULL DEFAULT '',
    called_number TEXT NOT NULL DEFAULT '', language TEXT NOT NULL DEFAULT '',
    started_at_ms INTEGER, ended_at_ms INTEGER, end_reason TEXT, duration_ms INTEGER
);
CREATE INDEX calls_by_sequence ON calls (first_sequence);
CREATE TABLE turns (
    call_id TEXT NOT NULL, sequence INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    role TEXT NOT NULL, text TEXT NOT NULL, heard_text TEXT NOT NULL, language TEXT NOT NULL,
    PRIMARY KEY (call_id, sequence)
) WITHOUT ROWID;
CREATE TABLE interruptions (
    call_id TEXT NOT NULL, sequence INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    heard_text TEXT NOT NULL, PRIMARY KEY (call_id, sequence)
) WITHOUT ROWID;
CREATE TABLE messages (
    call_id TEXT NOT NULL, sequence INTEGER NOT NULL, at_ms INTEGER NOT NULL, fields TEXT NOT NULL,
    PRIMARY KEY (call_id, sequence)
) WITHOUT ROWID;
CREATE INDEX messages_by_sequence ON messages (sequence);
"""

_DONE_TABLE = """CREATE TABLE IF NOT EXISTS messages_done (
    call_id TEXT NOT NULL, sequence INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY (call_id, sequence)
) WITHOUT ROWID"""

_MARK_DONE = """INSERT OR IGNORE INTO messages_done
SELECT call_id, sequence, :at_ms FROM messages WHERE call_id = :call_id AND sequence = :sequence"""

_MARK_OPEN = "DELETE FROM messages_done WHERE call_id = :call_id AND sequence = :sequence"

_IS_MESSAGE = "SELECT 1 FROM messages WHERE call_id = :call_id AND sequence = :sequence"

_SEEN = """INSERT INTO calls (call_id, first_sequence) VALUES (:call_id, :sequence)
ON CONFLICT (call_id) DO UPDATE SET first_sequence = min(first_sequence, excluded.first_sequence)"""

_STARTED_FIRST = """UPDATE calls SET started_at_ms = min(coalesce(started_at_ms, :at_ms), :at_ms)
WHERE call_id = :call_id"""

_STARTED_LAST = """UPDATE calls SET last_start = :sequence, stream_id = :stream_id, wire = :wire,
responder = :responder, caller_number = :caller_number, called_number = :called_number,
language = :language WHERE call_id = :call_id AND coalesce(last_start, 0) <= :sequence"""

_ENDED = """UPDATE calls SET last_end = :sequence, ended_at_ms = :at_ms, end_reason = :reason,
duration_ms = :duration_ms WHERE call_id = :call_id AND coalesce(last_end, 0) <= :sequence"""

_TURN = """INSERT OR IGNORE INTO turns VALUES
(:call_id, :sequence, :at_ms, :role, :text, :heard_text, :language)"""

_INTERRUPTION = (
    "INSERT OR IGNORE INTO interruptions VALUES (:call_id, :sequence, :at_ms, :heard_text)"
)

_MESSAGE = "INSERT OR IGNORE INTO messages VALUES (:call_id, :sequence, :at_ms, :fields)"

_STATEMENTS: dict[type, tuple[str, ...]] = {
    CallStarted: (_SEEN, _STARTED_FIRST, _STARTED_LAST),
    TurnTaken: (_SEEN, _TURN),
    TurnInterrupted: (_SEEN, _INTERRUPTION),
    MessageTaken: (_SEEN, _MESSAGE),
    CallEnded: (_SEEN, _ENDED),
}

_RECENT_CALLS = """SELECT *, coalesce(last_end, 0) > coalesce(last_start, 0) AS has_ended
FROM calls ORDER BY first_sequence DESC LIMIT ?"""

_RECENT_TURNS = """WITH recent AS (
    SELECT call_id FROM calls ORDER BY first_sequence DESC LIMIT :calls
)
SELECT call_id, sequence, at_ms, role, text, heard_text, language
FROM turns WHERE call_id IN recent
UNION ALL SELECT call_id, sequence, at_ms, '', '', heard_text, ''
FROM interruptions WHERE call_id IN recent
ORDER BY sequence DESC LIMIT :turns"""

_RECENT_MESSAGES = """SELECT messages.*, coalesce(calls.caller_number, '') AS caller_number,
messages_done.at_ms AS done_at_ms FROM messages LEFT JOIN calls USING (call_id)
LEFT JOIN messages_done USING (call_id, sequence) ORDER BY messages.sequence DESC LIMIT ?"""


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """One turn of a stored call."""

    at_ms: int
    role: str
    text: str
    heard_text: str
    language: str


@dataclass(frozen=True, slots=True)
class StoredCall:
    """A call with its turns in order; the last four are None while they are not known."""

    call_id: str
    stream_id: str
    wire: str
    responder: str
    caller_number: str
    called_number: str
    language: str
    turns: tuple[StoredTurn, ...]
    started_at_ms: int | None
    ended_at_ms: int | None
    end_reason: str | None
    duration_ms: int | None


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message a caller left; ``sequence`` as text, for it is longer than a number in JSON.

    With ``call_id`` it names the message. ``done_at_ms`` is None while nobody has seen to it.
    """

    call_id: str
    sequence: str
    at_ms: int
    caller_number: str
    fields: Mapping[str, str]
    done_at_ms: int | None


class RecordsStore:
    """The database; made, used and closed in one thread. Every method may raise sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        """Open or create the database; also OSError when the folder cannot be written."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Before SQLite opens it: its companions (-wal, -shm) take over the mode.
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.fchmod(fd, 0o600)
        os.close(fd)
        self._db = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def write(self, records: Iterable[Record]) -> None:
        """Store records, all or none; those already there are left alone."""
        with self._transaction():
            for record in records:
                values = _values(record)
                for statement in _STATEMENTS[type(record.event)]:
                    self._db.execute(statement, values)

    def import_spool(self, path: Path, stopping: Callable[[], bool]) -> tuple[int, int]:
        """Store the records of a spool file, then delete it; counts of records and bad lines.

        ``stopping`` is asked between batches; when it says so the file stays, for another time.
        Raises OSError when it cannot be read, BlockingIOError while a worker appends to it.
        """
        records = bad = 0
        lock = fcntl.LOCK_EX | fcntl.LOCK_NB
        with locked_file(path, os.O_RDONLY, lock) as fd, open(fd, "rb", closefd=False) as lines:
            while not stopping():
                batch = list(islice(lines, IMPORT_BATCH))
                if not batch:
                    path.unlink()
                    break
                good = [record for record in map(_read_line, batch) if record is not None]
                self.write(good)
                records += len(good)
                bad += len(batch) - len(good)
        return records, bad

    def calls(self, limit: int) -> list[StoredCall]:
        """The latest calls, newest first, with at most TURNS_PER_ANSWER_MAX of their turns."""
        found = self._db.execute(
            _RECENT_TURNS, {"calls": limit, "turns": TURNS_PER_ANSWER_MAX}
        ).fetchall()
        turns: dict[str, list[StoredTurn]] = {}
        for row in reversed(found):
            _add_turn(turns.setdefault(row["call_id"], []), row)
        return [
            _call(row, tuple(turns.get(row["call_id"], ())))
            for row in self._db.execute(_RECENT_CALLS, (limit,))
        ]

    def messages(self, limit: int) -> list[StoredMessage]:
        """The latest messages, newest first."""
        return [
            StoredMessage(
                call_id=row["call_id"],
                sequence=str(row["sequence"]),
                at_ms=row["at_ms"],
                caller_number=row["caller_number"],
                fields=orjson.loads(row["fields"]),
                done_at_ms=row["done_at_ms"],
            )
            for row in self._db.execute(_RECENT_MESSAGES, (limit,))
        ]

    def mark(self, call_id: str, sequence: int, done_at_ms: int | None) -> bool:
        """Note that a message is done, or open again (None); False when there is none such."""
        values = {"call_id": call_id, "sequence": sequence, "at_ms": done_at_ms}
        with self._transaction():
            if self._db.execute(_IS_MESSAGE, values).fetchone() is None:
                return False
            self._db.execute(_MARK_OPEN if done_at_ms is None else _MARK_DONE, values)
        return True

    def close(self) -> None:
        """Close the database; what was written is on disk already."""
        self._db.close()

    def _prepare(self) -> None:
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA_VERSION):
                raise sqlite3.DatabaseError(f"its schema version {version} is not ours")
            if version == 0:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            self._db.execute(_DONE_TABLE)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _values(record: Record) -> dict[str, str | int]:
    event = record.event
    values: dict[str, str | int] = {"sequence": record.sequence}
    for name in event.__dataclass_fields__:
        value = getattr(event, name)
        values[name] = orjson.dumps(value).decode() if isinstance(value, dict) else value
    return values


def _read_line(line: bytes) -> Record | None:
    try:
        return decode(line)
    except RecordError:
        return None


def _add_turn(turns: list[StoredTurn], row: sqlite3.Row) -> None:
    """Add a turn, or let an interruption correct what was heard of the assistant's last one."""
    if row["role"]:
        turns.append(
            StoredTurn(
                at_ms=row["at_ms"],
                role=row["role"],
                text=row["text"],
                heard_text=row["heard_text"],
                language=row["language"],
            )
        )
        return
    for place in reversed(range(len(turns))):
        if turns[place].role == "assistant":
            turns[place] = replace(turns[place], heard_text=row["heard_text"])
            return


def _call(row: sqlite3.Row, turns: tuple[StoredTurn, ...]) -> StoredCall:
    ended = bool(row["has_ended"])
    return StoredCall(
        call_id=row["call_id"],
        stream_id=row["stream_id"],
        wire=row["wire"],
        responder=row["responder"],
        caller_number=row["caller_number"],
        called_number=row["called_number"],
        language=row["language"],
        turns=turns,
        started_at_ms=row["started_at_ms"],
        ended_at_ms=row["ended_at_ms"] if ended else None,
        end_reason=row["end_reason"] if ended else None,
        duration_ms=row["duration_ms"] if ended else None,
    )
