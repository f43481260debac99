"""Records of calls: typed events on their way from a worker to the one writer of the database.

A worker's ``RecordsSender`` turns each event into one JSON packet and sends it over its end of a
SOCK_SEQPACKET pair; the console reads the other end and keeps a ``RecordsStore`` (``store``).
Sending never waits. When the socket is full or closed the packet becomes a line of a spool file,
written by a thread, that the console imports later; only when that fails too is a record lost,
and counted.

Every record carries a sequence number: the wall clock's nanoseconds, and always more than the
last one of this sender. So it is unique for a call even when the call moves to another worker or
the worker is replaced, and sorts in the order of time. Storing is idempotent on (call id,
sequence): a record that is imported twice is stored once.

Phone numbers and what was said live in records (that is their purpose) and nowhere else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeGuard

import orjson

from gateway import clock
from gateway.errors import GatewayError
from gateway.ops.lines import LineQueue, write_all
from gateway.ops.log import RateLimited, get_logger
from supervisor.scoreboard import Row

#: Most bytes of one packet; both ends keep to it.
PACKET_BYTES_MAX = 64 * 1024

#: Records waiting for the spool file's disk, and how large that file may grow.
SPOOL_LINES_MAX = 4_096
SPOOL_BYTES_MAX = 64 * 1024 * 1024
FLUSH_TIMEOUT_S = 2.0

#: Texts are cut to the first of these lengths (characters) that makes the packet small enough.
TEXT_CHARS_MAX = (PACKET_BYTES_MAX, 8_192, 1_024, 32)
CUT_MARK = "… [cut]"
FIELDS_MAX = 64

_FILE_MODE = 0o600
_INT64_MAX = 2**63 - 1

log = get_logger(__name__)


class RecordError(GatewayError):
    """A packet or line that is no record; the message quotes nothing of it."""


Role = Literal["caller", "assistant"]
#: A time that was measured, or -1.
Milliseconds = int


@dataclass(frozen=True, slots=True)
class CallStarted:
    """A call's stream began; comes again, for the same call, when the call is resumed."""

    call_id: str
    at_ms: int
    stream_id: str
    wire: str = ""
    responder: str = ""
    caller_number: str = ""
    called_number: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True)
class TurnTaken:
    """A party has spoken. ``heard_text`` is what the caller heard of an assistant's text."""

    call_id: str
    at_ms: int
    role: Role
    text: str
    heard_text: str = ""
    language: str = ""


@dataclass(frozen=True, slots=True)
class TurnInterrupted:
    """The caller cut the assistant's last turn short; this much of it was heard."""

    call_id: str
    at_ms: int
    heard_text: str


@dataclass(frozen=True, slots=True)
class MessageTaken:
    """The caller left a message: field name -> what was understood."""

    call_id: str
    at_ms: int
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConversationStarted:
    """A backend keeps this conversation too, under this id."""

    call_id: str
    at_ms: int
    conversation_id: str


@dataclass(frozen=True, slots=True)
class CallSummarised:
    """What the call is about, as a backend sums it up; the latest holds."""

    call_id: str
    at_ms: int
    summary: str


@dataclass(frozen=True, slots=True)
class ResponderFollowed:
    """Who answered has failed; this one has answered from here on."""

    call_id: str
    at_ms: int
    responder: str


@dataclass(frozen=True, slots=True)
class TurnAnswered:
    """How long the caller waited for the assistant's last turn, stage by stage; -1 = no such."""

    call_id: str
    at_ms: int
    endpoint_ms: Milliseconds
    transcript_ms: Milliseconds
    first_words_ms: Milliseconds
    first_audio_ms: Milliseconds
    response_ms: Milliseconds


@dataclass(frozen=True, slots=True)
class CallTransferred:
    """The caller was to be handed over to a number: ``done``, or what was in the way."""

    call_id: str
    at_ms: int
    to_number: str
    result: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """The call is over; ``reason`` in a few fixed words, ``duration_ms`` by the steady clock."""

    call_id: str
    at_ms: int
    reason: str
    duration_ms: int


Event = (
    CallStarted
    | TurnTaken
    | TurnInterrupted
    | TurnAnswered
    | MessageTaken
    | ConversationStarted
    | CallSummarised
    | ResponderFollowed
    | CallTransferred
    | CallEnded
)


@dataclass(frozen=True, slots=True)
class Record:
    """An event with its place in the order of one sender."""

    sequence: int
    event: Event


_KINDS: dict[str, type[Event]] = {
    "call_started": CallStarted,
    "turn_taken": TurnTaken,
    "turn_interrupted": TurnInterrupted,
    "turn_answered": TurnAnswered,
    "message_taken": MessageTaken,
    "conversation_started": ConversationStarted,
    "call_summarised": CallSummarised,
    "responder_followed": ResponderFollowed,
    "call_transferred": CallTransferred,
    "call_ended": CallEnded,
}
_KIND_OF = {cls: kind for kind, cls in _KINDS.items()}


def spool_path(data_dir: Path, worker: int) -> Path:
    """The file in which a worker's records wait for the console."""
    return data_dir / f"spool-{worker}.jsonl"


def encode(record: Record) -> bytes:
    """A record as one packet of JSON, without a newline, of at most PACKET_BYTES_MAX bytes."""
    packet = b""
    for chars_max in TEXT_CHARS_MAX:
        packet = orjson.dumps(_document(record, chars_max))
        if len(packet) <= PACKET_BYTES_MAX:
            return packet
    raise AssertionError(f"{len(packet)} bytes although every text was cut")


def decode(packet: bytes) -> Record:
    """Read a packet or a line of a spool file; RecordError for anything else."""
    try:
        document = orjson.loads(packet)
    except orjson.JSONDecodeError as error:
        raise RecordError("a record that is not JSON") from error
    if not isinstance(document, dict):
        raise RecordError("a record that is not an object")
    kind, sequence = document.get("kind"), document.get("sequence")
    cls = _KINDS.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise RecordError("a record of an unknown kind")
    if not _is_int(sequence):
        raise RecordError("a record without a sequence number")
    columns = dataclasses.fields(cls)
    for column in columns:
        if not _CHECKS[str(column.type)](document.get(column.name)):
            raise RecordError(f"a {kind} record with a bad or missing {column.name}")
    return Record(sequence, cls(**{column.name: document[column.name] for column in columns}))


def _document(record: Record, chars_max: int) -> dict[str, object]:
    event = record.event
    document: dict[str, object] = {"kind": _KIND_OF[type(event)], "sequence": record.sequence}
    for column in dataclasses.fields(event):
        document[column.name] = _cut(getattr(event, column.name), chars_max)
    return document


def _cut(value: object, chars_max: int) -> object:
    """Texts cut to a length, with a mark; lone surrogates, which no JSON carries, replaced."""
    if isinstance(value, dict):
        items = list(value.items())[:FIELDS_MAX]
        return {str(_cut(name, chars_max)): _cut(item, chars_max) for name, item in items}
    if not isinstance(value, str):
        return value
    text = value if len(value) <= chars_max else value[:chars_max] + CUT_MARK
    return text.encode("utf-8", "replace").decode("utf-8")


def _is_int(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= _INT64_MAX


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_texts(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_text, value.values()))


#: By annotation of a field, whether a decoded value fits it.
_CHECKS: dict[str, Callable[[object], bool]] = {
    "str": _is_text,
    "int": _is_int,
    "Milliseconds": lambda value: value == -1 or _is_int(value),
    "Role": lambda value: value in ("caller", "assistant"),
    "dict[str, str]": _is_texts,
}


class RecordsSender:
    """A worker's end: ``send`` never waits, keeps the order's numbers, loses only as a last resort.

    ``fd`` is the worker's end of a SOCK_SEQPACKET pair (the sender keeps a duplicate); ``row`` is
    the worker's row of the board, where lost records are counted.
    """

    def __init__(self, fd: int, spool: Path, row: Row) -> None:
        self._socket = socket.socket(fileno=os.dup(fd))
        self._spool = spool
        self._row = row
        self._sequence = 0
        self._warnings = RateLimited(1)
        self._queue = LineQueue(
            self._append, self._count_lost, name="spool", lines_max=SPOOL_LINES_MAX
        )
        self.spooled = 0

    def send(self, event: Event) -> None:
        """Send an event to the console, or keep it in the spool file until the console is back."""
        self._sequence = max(self._sequence + 1, time.time_ns())
        packet = encode(Record(self._sequence, event))
        try:
            self._socket.send(packet, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:  # full (EAGAIN, ENOBUFS) or closed
            self._keep(packet, error)

    def report(self, packet: bytes) -> None:
        """Send what is only true now (see ``live``); what the socket does not take is dropped."""
        try:
            self._socket.send(packet, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            self._row.count("live_packets_dropped")

    def close(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Write what is still to be spooled, close; False when the disk did not take it in time."""
        self._socket.close()
        return self._queue.close(timeout_s)

    def _keep(self, packet: bytes, error: OSError) -> None:
        kept = self._queue.put(packet + b"\n")
        self.spooled += kept
        self._row.count("records_spooled", kept)
        more = self._warnings.allow("kept" if kept else "lost", clock.now_ns())
        if more is not None:
            event = "record spooled" if kept else "record lost"
            log.warning(event, reason=os.strerror(error.errno or 0), suppressed=more)

    def _count_lost(self, records: int) -> None:
        """Called with the queue's lock held, which is what makes the count exact."""
        self._row.count("records_dropped", records)

    def _append(self, lines: Sequence[bytes]) -> None:
        append_spool(self._spool, lines)


def append_spool(path: Path, lines: Sequence[bytes]) -> None:
    """Append whole lines to a spool file, made when it is not there; blocks.

    Raises OSError when the file is as large as it may get, or the disk refuses.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked_file(path, os.O_RDWR | os.O_APPEND | os.O_CREAT) as fd:
        size = os.fstat(fd).st_size
        data = b"".join(lines)
        if size + len(data) > SPOOL_BYTES_MAX:
            raise OSError(errno.EFBIG, "the spool file is full")
        if size and os.pread(fd, 1, size - 1) != b"\n":  # a write was cut short by a kill
            data = b"\n" + data
        write_all(fd, data)


@contextlib.contextmanager
def locked_file(path: Path, flags: int, lock: int = fcntl.LOCK_EX) -> Iterator[int]:
    """Open a spool file with its lock held: worker and console exclude each other.

    The console deletes a file that it has imported. Who waited for the lock meanwhile holds a
    file that has no name any more, and opens the path again. Raises OSError, BlockingIOError
    when ``lock`` says not to wait.
    """
    while True:
        fd = os.open(path, flags | os.O_CLOEXEC, _FILE_MODE)
        try:
            fcntl.flock(fd, lock)
            if os.fstat(fd).st_nlink:
                yield fd
                return
        finally:
            os.close(fd)
