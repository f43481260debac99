"""The log of a child process: structured lines on stderr, written so that no loop ever waits.

``configure`` is called once, first thing in a child's main; ``get_logger`` may be called before
(modules do so when imported). A line is JSON, or readable ``key=value`` when stderr is a terminal::

    {"ts":"2025-01-31T12:00:00.123Z","level":"info","event":"call started","process":"worker-0",
     "logger":"session","call":"CA1","stream":"MZ1"}

structlog's bound loggers carry the context (``log.bind(call=..., stream=...)``) and render stack
traces; levels, redaction and output are ours. Lines go through a bounded queue to one daemon
thread (see ``lines``): when the reader of stderr is stuck, lines are dropped, counted, and one
line says how many once it reads again. Children leave by ``os._exit``, which runs no exit
handlers, so their mains call ``shutdown``. Warnings and errors that libraries send to the
standard ``logging`` module take the same way. Before ``configure`` lines are written directly.

Reserved field names, overwritten when given: ts, level, event, process, logger.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections import deque
from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import orjson
import structlog
from structlog.processors import format_exc_info
from typing_extensions import override

from gateway import clock
from gateway.limits import WARNINGS_PER_SECOND_MAX
from gateway.ops.lines import LineQueue, write_all
from gateway.ops.redaction import Redactor

LEVELS = {"trace": 5, "debug": 10, "info": 20, "warn": 30, "error": 40, "fatal": 50}
LINES_MAX = 10_000
FLUSH_TIMEOUT_S = 1.0
SECRET_CHARS_MIN = 8
KEYS_MAX = 1_024
NS_PER_SECOND = 1_000_000_000
_STDERR = 2

ExcInfo = (
    bool
    | BaseException
    | tuple[type[BaseException], BaseException, TracebackType | None]
    | tuple[None, None, None]
    | None
)


@dataclass(slots=True)
class _Output:
    """Where the lines of this process go, and how they look; there is one of it."""

    process: str = ""
    threshold: int = LEVELS["info"]
    fd: int = _STDERR
    readable: bool = True
    redactor: Redactor = field(default_factory=Redactor)
    queue: LineQueue | None = None
    lost: int = 0
    lost_reported: int = 0

    def write(self, line: bytes) -> None:
        """Hand a line on; before ``configure`` and after ``shutdown`` without the queue."""
        if self.queue is not None:
            self.queue.put(line)
            return
        try:
            write_all(self.fd, line)
        except OSError:
            self.count_lost(1)

    def count_lost(self, lines: int) -> None:
        """Remember lines that nobody will read."""
        self.lost += lines

    def write_batch(self, batch: Sequence[bytes]) -> None:
        """The queue's writer: first say what was lost, then write (in the queue's thread)."""
        data = b"".join(batch)
        lost = self.lost - self.lost_reported
        if lost:
            data = self.render("warn", "log lines dropped", {"dropped": lost}) + data
        write_all(self.fd, data)
        self.lost_reported += lost

    def render(self, level: str, event: str, fields: Mapping[str, object]) -> bytes:
        """One finished line, redacted, with its newline."""
        now = datetime.fromtimestamp(clock.wall_ms() / 1000, UTC)
        line: dict[str, object] = {
            "ts": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": level,
            "event": self.redactor.text(event),
            "process": self.process,
        }
        line |= {k: v for k, v in self.redactor.fields(fields).items() if k not in line}
        return (_readable(line) if self.readable else _json(line)) + b"\n"


_output = _Output()


def _finish(_: object, method: str, fields: MutableMapping[str, Any]) -> bytes:
    """The last structlog processor: fields to a line."""
    event = str(fields.pop("event", ""))
    return _output.render(method, event, fields)


class Log(structlog.BoundLoggerBase):
    """A logger with context. Every method: an event in a few fixed words, then fields."""

    def trace(self, event: str, **fields: object) -> None:
        """For every message and frame; read by developers only."""
        self._emit("trace", event, fields)

    def debug(self, event: str, **fields: object) -> None:
        """For every step of a call."""
        self._emit("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """For what an operator wants to see in normal running."""
        self._emit("info", event, fields)

    def warning(self, event: str, *, exc_info: ExcInfo = None, **fields: object) -> None:
        """For what went wrong and was handled; rate-limited where a peer can cause it."""
        self._emit("warn", event, fields, exc_info)

    def error(self, event: str, *, exc_info: ExcInfo = None, **fields: object) -> None:
        """For what went wrong and cost a caller something."""
        self._emit("error", event, fields, exc_info)

    def exception(self, event: str, **fields: object) -> None:
        """An error with the exception that is being handled."""
        self._emit("error", event, fields, exc_info=True)

    def fatal(self, event: str, *, exc_info: ExcInfo = None, **fields: object) -> None:
        """For what ends the process."""
        self._emit("fatal", event, fields, exc_info)

    def enabled(self, level: str) -> bool:
        """Whether lines of this level are written; asked where fields are costly to make."""
        return LEVELS[level] >= _output.threshold

    def _emit(
        self, level: str, event: str, fields: dict[str, object], exc_info: ExcInfo = None
    ) -> None:
        if LEVELS[level] < _output.threshold:
            return
        if exc_info:
            fields["exc_info"] = exc_info
        (line,), _ = self._process_event(level, event, fields)
        _output.write(line)


class _LibraryHandler(logging.Handler):
    """Sends what libraries log to our output, with the name of the library."""

    @override
    def emit(self, record: logging.LogRecord) -> None:
        """Log one record at the nearest of our levels."""
        log = get_logger(record.name)
        write = {logging.ERROR: log.error, logging.CRITICAL: log.fatal}.get(
            record.levelno, log.warning
        )
        try:
            event = record.getMessage()
        except (TypeError, ValueError):  # a library's format and arguments that do not match
            event = str(record.msg)
        write(event, exc_info=record.exc_info)


def get_logger(name: str) -> Log:
    """A logger for a module; ``name`` becomes the field ``logger``."""
    context = {"logger": name.removeprefix("gateway.")}
    return Log(_output, [format_exc_info, _finish], context)


def configure(
    level: str,
    process: str,
    *,
    log_transcripts: bool = False,
    secrets: Iterable[str] = (),
    fd: int = _STDERR,
) -> None:
    """Set up the log of this process; call it after the fork, once.

    ``level`` is a key of LEVELS, ``process`` a child's name (``worker-0``). ``secrets`` are values
    (keys, tokens) removed from every line; those too short to be one are ignored.
    """
    shutdown()
    known = [secret for secret in secrets if len(secret) >= SECRET_CHARS_MIN]
    _output.process = process
    _output.threshold = LEVELS[level]
    _output.fd = fd
    _output.readable = os.isatty(fd)
    _output.redactor = Redactor(log_transcripts, tuple(known))
    _output.lost = _output.lost_reported = 0
    _output.queue = LineQueue(
        _output.write_batch, _output.count_lost, name="log", lines_max=LINES_MAX
    )
    root = logging.getLogger()
    if not any(isinstance(handler, _LibraryHandler) for handler in root.handlers):
        root.addHandler(_LibraryHandler(logging.WARNING))
    atexit.unregister(shutdown)
    atexit.register(shutdown)


def shutdown(timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
    """Write what is queued and stop; False when the reader of stderr did not take it in time."""
    queue, _output.queue = _output.queue, None
    return queue is None or queue.close(timeout_s)


class RateLimited:
    """Lets at most ``per_second`` events of a key through in any second, counts the others.

    Pure: it is told the time. Bounded: beyond ``keys_max`` keys the oldest is forgotten.
    """

    def __init__(
        self, per_second: int = WARNINGS_PER_SECOND_MAX, *, keys_max: int = KEYS_MAX
    ) -> None:
        assert per_second > 0
        assert keys_max > 0
        self._per_second = per_second
        self._keys_max = keys_max
        self._passed_ns: dict[str, deque[int]] = {}
        self._suppressed: dict[str, int] = {}

    def allow(self, key: str, now_ns: int) -> int | None:
        """None: say nothing. Otherwise how many of this key were suppressed since the last one."""
        passed_ns = self._passed_ns.get(key)
        if passed_ns is None:
            passed_ns = self._admit(key)
        if len(passed_ns) == self._per_second and now_ns - passed_ns[0] < NS_PER_SECOND:
            self._suppressed[key] = self._suppressed.get(key, 0) + 1
            return None
        passed_ns.append(now_ns)
        return self._suppressed.pop(key, 0)

    def unreported(self) -> dict[str, int]:
        """Suppressed events that no later one has reported, by key; they count as reported now."""
        suppressed, self._suppressed = self._suppressed, {}
        return suppressed

    def _admit(self, key: str) -> deque[int]:
        if len(self._passed_ns) == self._keys_max:
            oldest = next(iter(self._passed_ns))
            del self._passed_ns[oldest]
            self._suppressed.pop(oldest, None)
        self._passed_ns[key] = deque(maxlen=self._per_second)
        return self._passed_ns[key]


def _json(line: Mapping[str, object]) -> bytes:
    try:
        return orjson.dumps(line)
    except TypeError:  # a lone surrogate, an integer beyond 64 bits
        return orjson.dumps({ascii(name): ascii(value) for name, value in line.items()})


def _readable(line: dict[str, object]) -> bytes:
    """``12:00:00.123 info  worker-0 call started logger=session call=CA1``, then the trace."""
    rest = dict(line)
    day_and_time, level, event, process = (
        str(rest.pop(k)) for k in ("ts", "level", "event", "process")
    )
    trace = str(rest.pop("exception", ""))
    words = [day_and_time[11:-1], f"{level:5}", process, _visible(event)]
    words += [f"{_visible(name)}={_quoted(value)}" for name, value in rest.items()]
    lines = [" ".join(words), *map(_visible, trace.splitlines())]
    return "\n".join(lines).encode("utf-8", "backslashreplace")


def _quoted(value: object) -> str:
    if not isinstance(value, str):
        return _visible(str(value))
    return value if value.isprintable() and value and " " not in value else repr(value)


def _visible(text: str) -> str:
    """No control characters: what a peer sent must not move the cursor of a terminal."""
    return (
        text
        if text.isprintable()
        else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    )
