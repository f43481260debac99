"""Records over real socket pairs and real spool files."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ops import records
from gateway.ops.records import (
    CUT_MARK,
    PACKET_BYTES_MAX,
    CallEnded,
    CallStarted,
    CallSummarised,
    CallTransferred,
    ConversationStarted,
    Event,
    MessageTaken,
    Record,
    RecordError,
    RecordsSender,
    ResponderFollowed,
    TurnAnswered,
    TurnInterrupted,
    TurnTaken,
    append_spool,
    decode,
    encode,
    locked_file,
    spool_path,
)
from supervisor.scoreboard import Row, RowName, Scoreboard

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
numbers = st.integers(0, 2**63 - 1)
events: st.SearchStrategy[Event] = st.one_of(
    st.builds(CallStarted, texts, numbers, texts, texts, texts, texts, texts, texts),
    st.builds(TurnTaken, texts, numbers, st.sampled_from(["caller", "assistant"]), texts, texts),
    st.builds(TurnInterrupted, texts, numbers, texts),
    st.builds(MessageTaken, texts, numbers, st.dictionaries(texts, texts, max_size=5)),
    st.builds(TurnAnswered, texts, numbers, *[numbers | st.just(-1)] * 5),
    st.builds(ConversationStarted, texts, numbers, texts),
    st.builds(CallSummarised, texts, numbers, texts),
    st.builds(ResponderFollowed, texts, numbers, texts),
    st.builds(CallTransferred, texts, numbers, texts, texts),
    st.builds(CallEnded, texts, numbers, texts, numbers),
)
records_ = st.builds(Record, numbers, events)


@given(records_)
def test_what_is_encoded_is_decoded(record: Record) -> None:
    assert decode(encode(record)) == record


@given(st.binary(max_size=200) | records_.map(encode))
def test_garbage_is_refused_and_nothing_else_happens(packet: bytes) -> None:
    for cut in (packet, packet[: len(packet) // 2], packet[1:], packet + b"}"):
        try:
            found = decode(cut)
        except RecordError:
            continue
        assert decode(encode(found)) == found


@given(records_, st.data())
def test_a_record_with_one_wrong_value_is_refused(record: Record, data: st.DataObject) -> None:
    document = orjson.loads(encode(record))
    name = data.draw(st.sampled_from(sorted(document)))
    wrong = data.draw(st.sampled_from([None, -2, 1.5, True, [], [1], {"a": 1}, 2**63]))
    for changed in ({**document, name: wrong}, {k: v for k, v in document.items() if k != name}):
        with pytest.raises(RecordError):
            decode(orjson.dumps(changed))


@given(records_)
def test_fields_of_a_later_version_are_ignored(record: Record) -> None:
    document = orjson.loads(encode(record))
    assert decode(orjson.dumps({**document, "mood": "good"})) == record


@pytest.mark.parametrize("letter", ["a", "я", "\x00", "😀"])
def test_long_texts_are_cut_to_one_packet(letter: str) -> None:
    long = letter * 100_000
    turn = TurnTaken("CA1", 1, "assistant", long, long)
    message = MessageTaken("CA1", 1, {f"{n}{letter * 500}": long for n in range(500)})
    for event in (turn, message):
        packet = encode(Record(1, event))
        assert len(packet) <= PACKET_BYTES_MAX
        assert CUT_MARK in repr(decode(packet))
    short = TurnTaken("CA1", 1, "caller", letter * 1000)
    assert decode(encode(Record(1, short))).event == short


def test_lone_surrogates_do_not_hurt() -> None:
    found = decode(encode(Record(1, TurnTaken("CA1", 1, "caller", "a\ud800b"))))
    assert found.event == TurnTaken("CA1", 1, "caller", "a?b")


@dataclass
class Link:
    """A worker's sender and the console's end of its socket."""

    sender: RecordsSender
    console: socket.socket
    row: Row
    spool: Path

    def received(self) -> list[Record]:
        found = []
        while True:
            try:
                found.append(decode(self.console.recv(PACKET_BYTES_MAX + 1, socket.MSG_DONTWAIT)))
            except BlockingIOError:
                return found

    def spooled(self) -> list[Record]:
        assert self.sender.close(30)
        return [decode(line) for line in self.spool.read_bytes().splitlines()]

    def send(self, count: int) -> None:
        for n in range(count):
            self.sender.send(TurnTaken("CA1", n, "caller", f"text {n}"))


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    worker, console = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    row = Scoreboard([RowName("worker", 3)], 1).row("worker", 3)
    spool = spool_path(tmp_path / "data", 3)
    fd = worker.detach()
    sender = RecordsSender(fd, spool, row)
    os.close(fd)
    yield Link(sender, console, row, spool)
    sender.close(30)
    console.close()


def test_events_arrive_in_order_with_rising_numbers(link: Link) -> None:
    sent: list[Event] = [
        CallStarted("CA1", 1, "MZ1", caller_number="+49123456789"),
        TurnTaken("CA1", 2, "caller", "hello"),
        CallEnded("CA1", 3, "stop", 2),
    ]
    for event in sent:
        link.sender.send(event)
    found = link.received()
    assert [record.event for record in found] == sent
    assert [r.sequence for r in found] == sorted({r.sequence for r in found})
    assert not link.spool.exists()
    assert link.sender.spooled == 0


def test_a_full_socket_spools_and_nothing_is_lost(link: Link) -> None:
    count = 3_000
    link.send(count)
    received, spooled = link.received(), link.spooled()
    assert link.sender.spooled == len(spooled) > 0
    assert link.row.counter("records_dropped") == 0
    assert [r.event.at_ms for r in (*received, *spooled)] == list(range(count))
    assert stat.S_IMODE(link.spool.stat().st_mode) == 0o600


def test_the_socket_is_used_again_once_there_is_room(link: Link) -> None:
    link.send(3_000)
    link.received()
    link.sender.send(CallEnded("CA1", 9, "stop", 1))
    (record,) = link.received()
    assert record.event == CallEnded("CA1", 9, "stop", 1)


def test_a_closed_socket_spools(link: Link) -> None:
    link.console.close()
    link.send(10)
    assert [record.event.at_ms for record in link.spooled()] == list(range(10))


def test_a_disk_that_refuses_is_counted(link: Link) -> None:
    link.console.close()
    link.spool.parent.write_text("a file where the folder should be")
    link.send(10)
    assert link.sender.close(30)
    assert link.row.counter("records_dropped") == 10


def test_a_disk_that_hangs_stops_nothing_and_is_bounded(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, entered = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        entered.set()
        released.wait()

    monkeypatch.setattr(records, "append_spool", hang)
    link.console.close()
    link.send(records.SPOOL_LINES_MAX + 100)
    assert entered.wait(30)
    assert link.row.counter("records_dropped") == 100
    assert link.sender.spooled == records.SPOOL_LINES_MAX
    released.set()


def test_what_is_sent_after_close_is_counted_as_lost(link: Link) -> None:
    link.sender.close(30)
    link.send(1)
    assert link.row.counter("records_dropped") == 1


def test_a_spool_file_does_not_grow_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "SPOOL_BYTES_MAX", 100)
    path = tmp_path / "spool-0.jsonl"
    append_spool(path, [b"x" * 60 + b"\n"])
    with pytest.raises(OSError, match="full"):
        append_spool(path, [b"x" * 60 + b"\n"])
    assert path.stat().st_size == 61


def test_a_line_cut_short_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "spool-0.jsonl"
    path.write_bytes(b'{"kind":"turn_ta')
    append_spool(path, [b"whole\n"])
    append_spool(path, [b"next\n"])
    assert path.read_bytes().splitlines()[1:] == [b"whole", b"next"]


def test_who_waited_for_the_lock_of_a_deleted_file_opens_the_path_again(tmp_path: Path) -> None:
    path = tmp_path / "spool-0.jsonl"
    path.write_bytes(b"imported\n")
    with locked_file(path, os.O_RDONLY):
        inode = path.stat().st_ino
        waiter = threading.Thread(target=append_spool, args=(path, [b"new\n"]))
        waiter.start()
        while not _is_waited_for(inode):
            pass
        path.unlink()
    waiter.join()
    assert path.read_bytes() == b"new\n"


def _is_waited_for(inode: int) -> bool:
    """Whether somebody is blocked on the file's lock; see proc_locks(5)."""
    locks = Path("/proc/locks").read_text().splitlines()
    return any("->" in lock and f":{inode} " in lock for lock in locks)
