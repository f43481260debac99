"""The log through real descriptors and real processes."""

from __future__ import annotations

import logging
import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ops import log as gateway_log
from gateway.ops.log import LEVELS, RateLimited, configure, get_logger, shutdown

ROOT = Path(__file__).parents[3]
SECOND_NS = 1_000_000_000
log = get_logger("gateway.tests")


class Sink:
    """The read end of the pipe that the log writes to."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def lines(self) -> list[dict[str, object]]:
        assert shutdown(30)
        os.close(self.writer)
        with open(self.reader, "rb") as stream:
            return [orjson.loads(line) for line in stream]


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    shutdown(30)
    configure("info", "test")
    shutdown(30)


def test_a_line_has_the_agreed_fields(sink: Sink) -> None:
    configure("info", "worker-0", fd=sink.writer)
    log.bind(call="CA1", stream="MZ1").info("call started", frames=3)
    (line,) = sink.lines()
    ts = str(line.pop("ts"))
    assert ts[10] == "T"
    assert ts[-1] == "Z"
    assert len(ts) == len("2025-01-31T12:00:00.123Z")
    assert line == {
        "level": "info",
        "event": "call started",
        "process": "worker-0",
        "logger": "tests",
        "call": "CA1",
        "stream": "MZ1",
        "frames": 3,
    }


@pytest.mark.parametrize("level", list(LEVELS))
def test_levels_below_the_threshold_are_silent(sink: Sink, level: str) -> None:
    configure(level, "p", fd=sink.writer)
    for write in (log.trace, log.debug, log.info, log.warning, log.error, log.fatal):
        write("event")
    names = list(LEVELS)
    assert [line["level"] for line in sink.lines()] == names[names.index(level) :]
    assert log.enabled(level)
    assert log.enabled("trace") == (level == "trace")


def test_an_error_brings_its_stack_trace(sink: Sink) -> None:
    configure("info", "p", fd=sink.writer)
    try:
        raise LookupError("no such slot")
    except LookupError as error:
        log.exception("slot lost")
        kept = error
    log.error("slot lost", exc_info=kept)
    for line in sink.lines():
        text = str(line["exception"])
        assert text.startswith("Traceback (most recent call last)")
        assert text.endswith("LookupError: no such slot")


def test_reserved_names_cannot_be_forged(sink: Sink) -> None:
    configure("info", "worker-0", fd=sink.writer)
    forged: dict[str, object] = {"level": "fatal", "process": "x", "ts": 0, "method_name": "kept"}
    log.info("event", **forged)
    (line,) = sink.lines()
    assert line["level"] == "info"
    assert line["process"] == "worker-0"
    assert line["ts"] != 0
    assert line["method_name"] == "kept"


def test_what_json_cannot_hold_is_still_logged(sink: Sink) -> None:
    configure("info", "p", fd=sink.writer)
    log.info("odd", surrogate="\ud800", big=2**80, obj=Path("/x"), raw=b"\xff")
    (line,) = sink.lines()
    assert len(line) == len(("ts", "level", "event", "process", "logger")) + 4


def test_canaries_never_appear_at_info(sink: Sink) -> None:
    key, number, words = "sk-canary-123456", "+4915112345642", "the safe code is nine"
    configure("info", "p", secrets=[key], fd=sink.writer)
    bound = log.bind(caller_number=number, api_key=key)
    bound.info("call started", to=number, text=words, nested={"from": number, "transcript": words})
    bound.trace("media", text=words)
    try:
        raise ValueError(f"401 for {key} while calling {number}")
    except ValueError as error:
        bound.error(f"failed for {number}", exc_info=error, message=f"Bearer {key}")
    text = orjson.dumps(sink.lines()).decode()
    assert "…42" in text
    for canary in (key, number, number[1:], words):
        assert canary not in text


def test_transcripts_appear_when_asked_for(sink: Sink) -> None:
    configure("info", "p", log_transcripts=True, fd=sink.writer)
    log.info("caller said", text="hello there", caller_number="+4915112345642")
    (line,) = sink.lines()
    assert line["text"] == "hello there"
    assert line["caller_number"] == "…42"


def test_libraries_that_use_logging_are_heard(sink: Sink) -> None:
    configure("info", "p", fd=sink.writer)
    library = logging.getLogger("some.library")
    library.info("silent")
    library.warning("it is %s", "late")
    library.critical("gone")
    lines = sink.lines()
    assert [(line["level"], line["event"]) for line in lines] == [
        ("warn", "it is late"),
        ("fatal", "gone"),
    ]
    assert {line["logger"] for line in lines} == {"some.library"}


def test_a_library_whose_format_does_not_match_is_heard_all_the_same(sink: Sink) -> None:
    configure("info", "p", fd=sink.writer)
    record = logging.LogRecord("lib", logging.ERROR, "lib.py", 1, "%d %d", (1,), None)
    gateway_log._LibraryHandler().emit(record)
    (line,) = sink.lines()
    assert (line["level"], line["event"]) == ("error", "%d %d")


def test_a_terminal_gets_readable_lines_without_control_characters() -> None:
    master, slave = pty.openpty()
    configure("info", "worker-0", fd=slave)
    log.info("call started", call="CA1", note="two words", evil="\x1b[2J\n12:00 forged")
    assert shutdown(30)
    text = os.read(master, 4096).decode()
    os.close(slave)
    os.close(master)
    configure("info", "test")
    shutdown(30)
    assert text.count("\n") == 1
    assert "\x1b" not in text
    assert "info  worker-0 call started logger=tests call=CA1 note='two words'" in text


def test_before_configure_and_after_shutdown_lines_are_written_directly() -> None:
    code = (
        "from gateway.ops.log import *\n"
        "log = get_logger('x')\n"
        "log.error('early')\n"
        "configure('info', 'p'); log.info('middle'); shutdown()\n"
        "log.error('late')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, check=True
    )
    events = [word for word in ("early", "middle", "late") if word.encode() in done.stderr]
    assert events == ["early", "middle", "late"]
    assert len(done.stderr.splitlines()) == 3


def test_leaving_normally_writes_what_is_queued() -> None:
    code = (
        "from gateway.ops.log import *\n"
        "configure('info', 'p')\n"
        "for n in range(5000): get_logger('x').info('line', n=n)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, check=True
    )
    numbers = [orjson.loads(line)["n"] for line in done.stderr.splitlines()]
    assert numbers == list(range(5000))


STUCK = """
import os, sys
from gateway.ops.log import LINES_MAX, configure, get_logger, shutdown
configure("info", "worker-0")
log = get_logger("x")
for n in range(LINES_MAX + 5_000):
    log.info("line", n=n)
os.write(1, b"not blocked\\n")
sys.stdin.readline()
log.info("after")
while not shutdown(1): pass
os._exit(0)
"""


def test_a_stuck_reader_of_stderr_blocks_nothing_and_drops_are_reported() -> None:
    """The reader reads nothing until the writer says that it has got past its last line."""
    child = subprocess.Popen(
        [sys.executable, "-c", STUCK],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            assert select.select([child.stdout], [], [], 30)[0], "the log blocked its process"
            assert child.stdout.readline() == b"not blocked\n"
            first = orjson.loads(child.stderr.readline())
            child.stdin.write(b"go on\n")
            child.stdin.flush()
            lines = [first, *(orjson.loads(line) for line in child.stderr)]
        finally:
            child.kill()
    written = [line["n"] for line in lines if line["event"] == "line"]
    dropped = sum(line["dropped"] for line in lines if line["event"] == "log lines dropped")
    after = sum(line["event"] == "after" for line in lines)
    assert written == sorted(set(written))
    assert dropped >= 4_000
    assert len(written) + after + dropped == gateway_log.LINES_MAX + 5_001


def test_a_closed_stderr_is_no_reason_to_stop() -> None:
    code = (
        "import os\n"
        "from gateway.ops.log import *\n"
        "reader, writer = os.pipe(); os.close(reader)\n"
        "configure('info', 'p', fd=writer)\n"
        "for n in range(1000): get_logger('x').info('line')\n"
        "assert shutdown(30)\n"
        "get_logger('x').info('direct')\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@given(
    st.lists(st.integers(0, 700_000_000), max_size=60),
    st.integers(1, 5),
    st.lists(st.sampled_from("ab"), min_size=60, max_size=60),
)
def test_no_second_sees_more_than_allowed_and_every_event_is_accounted_for(
    gaps_ns: list[int], per_second: int, keys: list[str]
) -> None:
    limited = RateLimited(per_second)
    passed: dict[str, list[int]] = {"a": [], "b": []}
    reported = now_ns = 0
    for gap_ns, key in zip(gaps_ns, keys, strict=False):
        now_ns += gap_ns
        suppressed = limited.allow(key, now_ns)
        if suppressed is not None:
            passed[key].append(now_ns)
            reported += suppressed
    for times in passed.values():
        for first, beyond in zip(times, times[per_second:], strict=False):
            assert beyond - first >= SECOND_NS
    rest = sum(limited.unreported().values())
    assert len(passed["a"]) + len(passed["b"]) + reported + rest == len(gaps_ns)
    assert limited.unreported() == {}


def test_an_event_is_let_through_again_after_a_second() -> None:
    limited = RateLimited(2)
    assert [limited.allow("k", n) for n in range(4)] == [0, 0, None, None]
    assert limited.allow("k", SECOND_NS) == 2
    assert limited.allow("other", SECOND_NS) == 0


def test_keys_are_bounded() -> None:
    limited = RateLimited(1, keys_max=2)
    for key in "abcabc":
        assert limited.allow(key, 0) == 0
    assert len(limited._passed_ns) == 2
