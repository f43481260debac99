"""The database of calls, turns and messages: SQLite in WAL mode, one writer, one thread.

Sequence numbers (see ``records``) order everything, so records may arrive late, twice or in any
order. A call's row is made by whichever of its records comes first; the earliest start and the
latest end hold. An end older than the latest start is that of an earlier part of a resumed call,
so that call is still running.

A release adds tables and changes none: an older database gets those that it lacks, and an older
release is not disturbed by those that it does not know.

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
    CallSummarised,
    CallTransferred,
    ConversationStarted,
    MessageTaken,
    Record,
    RecordError,
    ResponderFollowed,
    TurnAnswered,
    TurnInterrupted,
    TurnTaken,
    decode,
    locked_file,
)

SCHEMA_VERSION = 1
#: Pages that the database keeps in memory: enough for the last day, where SQLite would take 2 MB.
_CACHE_KIB = 256
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

_ADDED = """
CREATE TABLE IF NOT EXISTS answers (
    call_id TEXT NOT NULL, sequence INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    endpoint_ms INTEGER NOT NULL, transcript_ms INTEGER NOT NULL, first_words_ms INTEGER NOT NULL,
    first_audio_ms INTEGER NOT NULL, response_ms INTEGER NOT NULL, PRIMARY KEY (call_id, sequence)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS followers (
    call_id TEXT NOT NULL, sequence INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    responder TEXT NOT NULL, PRIMARY KEY (call_id, sequence)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS transfers (
    call_id TEXT NOT NULL, sequence INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    to_number TEXT NOT NULL, result TEXT NOT NULL, PRIMARY KEY (call_id, sequence)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS conversations (
    call_id TEXT PRIMARY KEY, conversation_id TEXT NOT NULL DEFAULT '',
    started_sequence INTEGER NOT NULL DEFAULT 0, summary TEXT NOT NULL DEFAULT '',
    summary_sequence INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS messages_done (
    call_id TEXT NOT NULL, sequence INTEGER NOT NULL, at_ms INTEGER NOT NULL,
    PRIMARY KEY (call_id, sequence)
) WITHOUT ROWID;
"""

_MARK_DONE = """INSERT OR IGNORE INTO messages_done
SELECT call_id, sequence, :at_ms FROM messages WHERE call_id = :call_id AND sequence = :sequence"""

_MARK_OPEN = "DELETE FROM messages_done WHERE call_id = :call_id AND sequence = :sequence"

_ANSWERS_SINCE = """SELECT answers.at_ms, response_ms FROM calls JOIN answers USING (call_id)
WHERE first_sequence >= :sequence AND answers.at_ms >= :at_ms AND response_ms >= 0
ORDER BY answers.at_ms"""

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

_ANSWER = """INSERT OR IGNORE INTO answers VALUES (:call_id, :sequence, :at_ms, :endpoint_ms,
:transcript_ms, :first_words_ms, :first_audio_ms, :response_ms)"""

_FOLLOWER = "INSERT OR IGNORE INTO followers VALUES (:call_id, :sequence, :at_ms, :responder)"

_TRANSFER = (
    "INSERT OR IGNORE INTO transfers VALUES (:call_id, :sequence, :at_ms, :to_number, :result)"
)

_CONVERSATION = """INSERT INTO conversations (call_id, conversation_id, started_sequence)
VALUES (:call_id, :conversation_id, :sequence) ON CONFLICT (call_id) DO UPDATE SET
conversation_id = excluded.conversation_id, started_sequence = excluded.started_sequence
WHERE started_sequence < excluded.started_sequence"""

_SUMMARY = """INSERT INTO conversations (call_id, summary, summary_sequence)
VALUES (:call_id, :summary, :sequence) ON CONFLICT (call_id) DO UPDATE SET
summary = excluded.summary, summary_sequence = excluded.summary_sequence
WHERE summary_sequence < excluded.summary_sequence"""

_STATEMENTS: dict[type, tuple[str, ...]] = {
    CallStarted: (_SEEN, _STARTED_FIRST, _STARTED_LAST),
    TurnTaken: (_SEEN, _TURN),
    TurnInterrupted: (_SEEN, _INTERRUPTION),
    MessageTaken: (_SEEN, _MESSAGE),
    TurnAnswered: (_SEEN, _ANSWER),
    ConversationStarted: (_SEEN, _CONVERSATION),
    CallSummarised: (_SEEN, _SUMMARY),
    ResponderFollowed: (_SEEN, _FOLLOWER),
    CallTransferred: (_SEEN, _TRANSFER),
    CallEnded: (_SEEN, _ENDED),
}

_RECENT_CALLS = """SELECT calls.*, coalesce(last_end, 0) > coalesce(last_start, 0) AS has_ended,
coalesce(conversation_id, '') AS conversation_id, coalesce(summary, '') AS summary
FROM calls LEFT JOIN conversations USING (call_id) ORDER BY first_sequence DESC LIMIT ?"""

_RECENT_TURNS = """WITH recent AS (
    SELECT call_id FROM calls ORDER BY first_sequence DESC LIMIT :calls
)
SELECT call_id, sequence, at_ms, role, text, heard_text, language
FROM turns WHERE call_id IN recent
UNION ALL SELECT call_id, sequence, at_ms, '', '', heard_text, ''
FROM interruptions WHERE call_id IN recent
ORDER BY sequence DESC LIMIT :turns"""

#: What else is known of those calls; of each table its rows in order.
_RECENT_OTHER = """WITH recent AS (
    SELECT call_id FROM calls ORDER BY first_sequence DESC LIMIT :calls
)
SELECT * FROM {table} WHERE call_id IN recent ORDER BY sequence DESC LIMIT :turns"""

#: Every table that keeps something of a call, those of later releases included.
_TABLES = """SELECT tables.name FROM sqlite_master AS tables
JOIN pragma_table_info(tables.name) AS columns
WHERE tables.type = 'table' AND columns.name = 'call_id'"""

_OLD_CALLS = """SELECT call_id FROM calls WHERE first_sequence < :sequence
AND coalesce(last_start, 0) < :sequence AND coalesce(last_end, 0) < :sequence
ORDER BY first_sequence LIMIT :calls"""

_RECENT_MESSAGES = """SELECT messages.*, coalesce(calls.caller_number, '') AS caller_number,
messages_done.at_ms AS done_at_ms FROM messages LEFT JOIN calls USING (call_id)
LEFT JOIN messages_done USING (call_id, sequence) ORDER BY messages.sequence DESC LIMIT ?"""


@dataclass(frozen=True, slots=True)
class AnswerTimes:
    """How long the caller waited for an answer, stage by stage; -1 where there was no such."""

    endpoint_ms: int
    transcript_ms: int
    first_words_ms: int
    first_audio_ms: int
    response_ms: int


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """One turn of a stored call; ``responder`` said it, ``times`` if it began an answer."""

    at_ms: int
    role: str
    text: str
    heard_text: str
    language: str
    responder: str = ""
    times: AnswerTimes | None = None


@dataclass(frozen=True, slots=True)
class StoredTransfer:
    """An attempt to hand a call over."""

    at_ms: int
    to_number: str
    result: str


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
    conversation_id: str
    summary: str
    turns: tuple[StoredTurn, ...]
    transfers: tuple[StoredTransfer, ...]
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
        bounds = {"calls": limit, "turns": TURNS_PER_ANSWER_MAX}
        rows = self._db.execute(_RECENT_TURNS, bounds).fetchall()
        for table in ("answers", "followers", "transfers"):
            rows += self._db.execute(_RECENT_OTHER.format(table=table), bounds).fetchall()
        rows.sort(key=lambda row: int(row["sequence"]))
        stories: dict[str, _Story] = {}
        for row in self._db.execute(_RECENT_CALLS, (limit,)):
            stories[row["call_id"]] = _Story(row)
        for row in rows:
            stories[row["call_id"]].add(row)
        return [story.call() for story in stories.values()]

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

    def answers_since(self, at_ms: int, calls_since_ms: int) -> list[tuple[int, int]]:
        """When answers began and how long their callers had waited, of calls not older than that.

        By the start of their calls, for answers have no index by time.
        """
        bounds = {"at_ms": at_ms, "sequence": calls_since_ms * 1_000_000}
        return [(row[0], row[1]) for row in self._db.execute(_ANSWERS_SINCE, bounds)]

    def forget_before(self, sequence: int, calls_max: int) -> int:
        """Delete the oldest calls of which everything is older; returns how many (a batch)."""
        bounds = {"sequence": sequence, "calls": calls_max}
        with self._transaction():
            old = [(row[0],) for row in self._db.execute(_OLD_CALLS, bounds)]
            if old:
                for table in self._db.execute(_TABLES).fetchall():
                    self._db.executemany(f"DELETE FROM {table[0]} WHERE call_id = ?", old)
        return len(old)

    def close(self) -> None:
        """Close the database; what was written is on disk already."""
        self._db.close()

    def _prepare(self) -> None:
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._db.execute("PRAGMA secure_delete = ON")  # what is forgotten is not in the file either
        with self._transaction():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA_VERSION):
                raise sqlite3.DatabaseError(f"its schema version {version} is not ours")
            if version == 0:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            for statement in filter(str.strip, _ADDED.split(";")):
                self._db.execute(statement)

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


class _Story:
    """One call, told by its rows in their order."""

    def __init__(self, row: sqlite3.Row) -> None:
        self._row = row
        self._responder = row["responder"].partition(",")[0]
        self._turns: list[StoredTurn] = []
        self._transfers: list[StoredTransfer] = []

    def add(self, row: sqlite3.Row) -> None:
        """The next row, of whichever table: its columns tell which."""
        columns = row.keys()
        if "role" in columns:
            self._spoke(row)
        elif "response_ms" in columns:
            self._answered(row)
        elif "responder" in columns:
            self._responder = row["responder"]
        else:
            self._transfers.append(StoredTransfer(row["at_ms"], row["to_number"], row["result"]))

    def call(self) -> StoredCall:
        """The whole of it."""
        row, ended = self._row, bool(self._row["has_ended"])
        return StoredCall(
            call_id=row["call_id"],
            stream_id=row["stream_id"],
            wire=row["wire"],
            responder=row["responder"],
            caller_number=row["caller_number"],
            called_number=row["called_number"],
            language=row["language"],
            conversation_id=row["conversation_id"],
            summary=row["summary"],
            turns=tuple(self._turns),
            transfers=tuple(self._transfers),
            started_at_ms=row["started_at_ms"],
            ended_at_ms=row["ended_at_ms"] if ended else None,
            end_reason=row["end_reason"] if ended else None,
            duration_ms=row["duration_ms"] if ended else None,
        )

    def _spoke(self, row: sqlite3.Row) -> None:
        """A turn, or an interruption, which corrects what was heard of the assistant's last one."""
        if row["role"]:
            responder = self._responder if row["role"] == "assistant" else ""
            self._turns.append(
                StoredTurn(
                    at_ms=row["at_ms"],
                    role=row["role"],
                    text=row["text"],
                    heard_text=row["heard_text"],
                    language=row["language"],
                    responder=responder,
                )
            )
            return
        for place in reversed(range(len(self._turns))):
            if self._turns[place].role == "assistant":
                self._turns[place] = replace(self._turns[place], heard_text=row["heard_text"])
                return

    def _answered(self, row: sqlite3.Row) -> None:
        """The times of an answer belong to its first turn, which follows the caller's last one."""
        place = len(self._turns)
        while place and self._turns[place - 1].role == "assistant":
            place -= 1
        if place < len(self._turns) and self._turns[place].times is None:
            times = AnswerTimes(*(row[name] for name in AnswerTimes.__dataclass_fields__))
            self._turns[place] = replace(self._turns[place], times=times)
