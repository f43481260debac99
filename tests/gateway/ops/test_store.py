"""The database: a real SQLite file."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ops import store as store_module
from gateway.ops.records import (
    CallEnded,
    CallStarted,
    CallSummarised,
    CallTransferred,
    ConversationStarted,
    Event,
    MessageTaken,
    Record,
    ResponderFollowed,
    TurnAnswered,
    TurnInterrupted,
    TurnTaken,
    encode,
    locked_file,
)
from gateway.ops.store import (
    AnswerTimes,
    RecordsStore,
    StoredCall,
    StoredMessage,
    StoredTransfer,
)

ROOT = Path(__file__).parents[3]
NUMBER = "+4915112345642"


def never() -> bool:
    return False


def numbered(*events: Event) -> list[Record]:
    return [Record(100 + n, event) for n, event in enumerate(events)]


CALL = numbered(
    CallStarted("CA1", 1_000, "MZ1", "twilio", "message_taker", NUMBER, "+4930123456", "en"),
    TurnTaken("CA1", 2_000, "assistant", "Good day. How are you?", "Good day. How are you?", "en"),
    TurnInterrupted("CA1", 2_500, "Good day."),
    TurnTaken("CA1", 3_000, "caller", "Fine", "", "en"),
    TurnTaken("CA1", 4_000, "assistant", "Bye", "Bye", "en"),
    MessageTaken("CA1", 4_500, {"name": "Ann", "reason": "to say fine"}),
    CallEnded("CA1", 5_000, "hang-up", 4_000),
)
#: The sequence number of its message.
CALL_MESSAGE = CALL[5].sequence


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "records.db"


@pytest.fixture
def store(path: Path) -> Iterator[RecordsStore]:
    store = RecordsStore(path)
    yield store
    store.close()


def check_call(call: StoredCall) -> None:
    assert (call.call_id, call.stream_id, call.wire) == ("CA1", "MZ1", "twilio")
    assert (call.responder, call.language) == ("message_taker", "en")
    assert (call.caller_number, call.called_number) == (NUMBER, "+4930123456")
    assert (call.started_at_ms, call.ended_at_ms) == (1_000, 5_000)
    assert (call.end_reason, call.duration_ms) == ("hang-up", 4_000)
    assert [(t.role, t.text, t.heard_text) for t in call.turns] == [
        ("assistant", "Good day. How are you?", "Good day."),
        ("caller", "Fine", ""),
        ("assistant", "Bye", "Bye"),
    ]


def test_a_call_is_stored(store: RecordsStore) -> None:
    store.write(CALL)
    (call,) = store.calls(10)
    check_call(call)
    assert store.messages(10) == [
        StoredMessage(
            call_id="CA1",
            sequence=str(CALL_MESSAGE),
            at_ms=4_500,
            caller_number=NUMBER,
            fields={"name": "Ann", "reason": "to say fine"},
            done_at_ms=None,
        )
    ]


def test_a_message_is_done_until_it_is_open_again(store: RecordsStore) -> None:
    store.write(CALL)
    assert not store.mark("CA1", CALL_MESSAGE + 1, 9_000)
    assert not store.mark("CA2", CALL_MESSAGE, 9_000)
    assert store.messages(1)[0].done_at_ms is None
    assert store.mark("CA1", CALL_MESSAGE, 9_000)
    assert store.mark("CA1", CALL_MESSAGE, 9_500)  # done is done: the first time holds
    assert store.messages(1)[0].done_at_ms == 9_000
    store.write(CALL)  # a record that comes again does not open it
    assert store.messages(1)[0].done_at_ms == 9_000
    assert store.mark("CA1", CALL_MESSAGE, None)
    assert store.messages(1)[0].done_at_ms is None


@given(st.permutations(CALL), st.lists(st.sampled_from(CALL), max_size=5), st.integers(1, 7))
def test_order_and_repetition_do_not_matter(
    records: list[Record], again: list[Record], batch: int
) -> None:
    arriving = [*records, *again]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        store = RecordsStore(Path(folder) / "records.db")
        for at in range(0, len(arriving), batch):
            store.write(arriving[at : at + batch])
        (call,) = store.calls(10)
        check_call(call)
        assert len(store.messages(10)) == 1
        store.close()


@given(
    st.permutations(
        numbered(
            CallStarted("CA1", 1, "MZ1"),
            CallEnded("CA1", 2, "moved", 1),
            CallStarted("CA1", 3, "MZ2"),
            CallEnded("CA1", 4, "stop", 1),
        )
    )
)
def test_the_first_start_and_the_last_end_hold_in_any_order(records: list[Record]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        store = RecordsStore(Path(folder) / "records.db")
        store.write(records)
        (call,) = store.calls(1)
        assert (call.stream_id, call.end_reason) == ("MZ2", "stop")
        assert (call.started_at_ms, call.ended_at_ms) == (1, 4)
        store.close()


def test_a_resumed_call_runs_again_until_its_next_end(store: RecordsStore) -> None:
    store.write(CALL)
    store.write([Record(200, CallStarted("CA1", 6_000, "MZ2"))])
    (call,) = store.calls(10)
    assert (call.stream_id, call.started_at_ms, call.ended_at_ms) == ("MZ2", 1_000, None)
    assert (call.end_reason, call.duration_ms) == (None, None)
    store.write([Record(201, CallEnded("CA1", 9_000, "stop", 3_000))])
    (call,) = store.calls(10)
    assert (call.ended_at_ms, call.end_reason, call.duration_ms) == (9_000, "stop", 3_000)


def test_a_call_is_shown_though_its_start_was_lost(store: RecordsStore) -> None:
    store.write([Record(1, TurnTaken("CA9", 5, "caller", "hello"))])
    (call,) = store.calls(10)
    assert (call.call_id, call.started_at_ms, call.turns[0].text) == ("CA9", None, "hello")
    store.write([Record(2, MessageTaken("CA8", 6, {"name": "Bo"}))])
    assert store.messages(1)[0].caller_number == ""


def test_the_latest_come_first_and_answers_are_bounded(
    store: RecordsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(10):
        store.write(
            [
                Record(10 * n, CallStarted(f"CA{n}", n, f"MZ{n}")),
                *(Record(10 * n + k, TurnTaken(f"CA{n}", n, "caller", "a")) for k in range(1, 4)),
                Record(10 * n + 5, MessageTaken(f"CA{n}", n, {})),
            ]
        )
    assert [call.call_id for call in store.calls(3)] == ["CA9", "CA8", "CA7"]
    assert [message.call_id for message in store.messages(2)] == ["CA9", "CA8"]
    monkeypatch.setattr(store_module, "TURNS_PER_ANSWER_MAX", 4)
    assert [len(call.turns) for call in store.calls(10)] == [3, 1] + [0] * 8


def test_only_the_owner_may_read_the_files(path: Path) -> None:
    path.parent.mkdir()
    path.touch(0o644)
    store = RecordsStore(path)
    store.write(CALL)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["records.db", "records.db-shm", "records.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    store.close()


def test_records_are_there_after_the_process_is_gone(path: Path) -> None:
    code = (
        "import os, pathlib, sys\n"
        "from gateway.ops.records import *\n"
        "from gateway.ops.store import RecordsStore\n"
        "store = RecordsStore(pathlib.Path(sys.argv[1]))\n"
        "store.write([Record(1, CallEnded('CA1', 1, 'stop', 2))])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
    assert done.returncode == -9
    store = RecordsStore(path)
    assert store.calls(1)[0].end_reason == "stop"
    store.close()


def test_a_batch_is_stored_whole_or_not_at_all(store: RecordsStore) -> None:
    bad = Record(2**70, TurnTaken("CA1", 1, "caller", "text"))
    with pytest.raises(OverflowError):
        store.write([*CALL, bad])
    assert store.calls(10) == []
    store.write(CALL)
    assert len(store.calls(10)) == 1


def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"my diary" * 1_000)
    with pytest.raises(sqlite3.DatabaseError):
        RecordsStore(path)
    assert path.read_bytes() == b"my diary" * 1_000


def test_a_database_of_a_later_version_is_refused(path: Path) -> None:
    RecordsStore(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(sqlite3.DatabaseError, match="99"):
        RecordsStore(path)


def test_a_spool_file_is_imported_once_and_deleted(store: RecordsStore, tmp_path: Path) -> None:
    spool = tmp_path / "spool-0.jsonl"
    lines = [encode(record) for record in CALL]
    spool.write_bytes(b"\n".join([*lines, b"garbage", b"", lines[0], lines[1][:20]]))
    assert store.import_spool(spool, never) == (len(CALL) + 1, 3)
    assert not spool.exists()
    check_call(store.calls(1)[0])


def test_an_import_that_is_told_to_stop_leaves_the_file(
    store: RecordsStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "IMPORT_BATCH", 2)
    spool = tmp_path / "spool-0.jsonl"
    spool.write_bytes(b"".join(encode(record) + b"\n" for record in CALL))
    answers = iter([False, False, True])
    assert store.import_spool(spool, lambda: next(answers)) == (4, 0)
    assert spool.exists()
    assert store.import_spool(spool, never) == (len(CALL), 0)
    check_call(store.calls(1)[0])


def test_a_spool_file_being_written_is_left_for_later(store: RecordsStore, tmp_path: Path) -> None:
    spool = tmp_path / "spool-0.jsonl"
    spool.write_bytes(encode(CALL[0]) + b"\n")
    with locked_file(spool, os.O_RDWR), pytest.raises(BlockingIOError):
        store.import_spool(spool, never)
    assert store.import_spool(spool, never) == (1, 0)


def test_a_spool_file_stays_while_the_database_is_locked(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "BUSY_TIMEOUT_S", 0.01)
    store = RecordsStore(path)
    spool = tmp_path / "spool-0.jsonl"
    spool.write_bytes(encode(CALL[0]) + b"\n")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError):
        store.import_spool(spool, never)
    assert spool.exists()
    other.execute("ROLLBACK")
    other.close()
    assert store.import_spool(spool, never) == (1, 0)
    store.close()


def test_the_store_belongs_to_one_thread(store: RecordsStore) -> None:
    errors: list[BaseException] = []

    def use() -> None:
        try:
            store.write(CALL)
        except sqlite3.ProgrammingError as error:
            errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert len(errors) == 1


WHOLE = numbered(
    CallStarted("CA1", 1_000, "MZ1", "twilio", "backend,message_taker", NUMBER),
    TurnTaken("CA1", 1_100, "assistant", "Hello."),
    ConversationStarted("CA1", 1_200, "conv-1"),
    TurnTaken("CA1", 1_300, "caller", "I am ill"),
    TurnTaken("CA1", 1_400, "assistant", "One moment."),
    TurnAnswered("CA1", 1_500, 500, 700, 900, -1, 1_100),
    CallSummarised("CA1", 1_600, "somebody is ill"),
    CallSummarised("CA1", 1_700, "the caller is ill"),
    TurnTaken("CA1", 1_800, "caller", "my head"),
    ResponderFollowed("CA1", 1_900, "message_taker"),
    TurnTaken("CA1", 2_000, "assistant", "I am sorry."),
    TurnTaken("CA1", 2_100, "assistant", "May I have your name?"),
    TurnAnswered("CA1", 2_200, 400, 500, 600, 700, 800),
    CallTransferred("CA1", 2_300, "+15550001111", "done"),
)


def check_whole(store: RecordsStore) -> None:
    (call,) = store.calls(10)
    assert (call.conversation_id, call.summary) == ("conv-1", "the caller is ill")
    assert call.transfers == (StoredTransfer(2_300, "+15550001111", "done"),)
    assert [(turn.text, turn.responder, turn.times) for turn in call.turns] == [
        ("Hello.", "backend", None),
        ("I am ill", "", None),
        ("One moment.", "backend", AnswerTimes(500, 700, 900, -1, 1_100)),
        ("my head", "", None),
        ("I am sorry.", "message_taker", AnswerTimes(400, 500, 600, 700, 800)),
        ("May I have your name?", "message_taker", None),
    ]


@given(st.permutations(WHOLE), st.integers(1, 7))
def test_who_answered_how_fast_and_what_became_of_it_in_any_order(
    records: list[Record], batch: int
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        store = RecordsStore(Path(folder) / "records.db")
        for at in range(0, len(records), batch):
            store.write(records[at : at + batch])
            store.write(records[at : at + 1])
        check_whole(store)
        store.close()


def test_a_database_of_the_first_release_is_read_and_goes_on(path: Path) -> None:
    store = RecordsStore(path)
    store.write(CALL)
    for table in ("answers", "followers", "transfers", "conversations"):
        store._db.execute(f"DROP TABLE {table}")
    store.close()
    store = RecordsStore(path)
    check_call(store.calls(1)[0])
    store.write([Record(900, TurnAnswered("CA1", 9, 1, 2, 3, 4, 5))])
    assert store.calls(1)[0].turns[-1].times == AnswerTimes(1, 2, 3, 4, 5)
    store.close()


def test_old_calls_are_forgotten_whole_and_a_few_at_a_time(store: RecordsStore, path: Path) -> None:
    def call(name: str, start: int) -> list[Record]:
        secret = f"secret of {name} "
        return [
            Record(start, CallStarted(name, 1, "MZ")),
            Record(start + 1, TurnTaken(name, 1, "caller", secret * 50)),
            Record(start + 2, MessageTaken(name, 1, {"reason": secret})),
            Record(start + 3, CallSummarised(name, 1, secret)),
            Record(start + 4, TurnAnswered(name, 1, 1, 1, 1, 1, 1)),
        ]

    for n, start in enumerate((10, 20, 30, 100)):
        store.write(call(f"CA{n}", start))
    store.write([Record(101, CallEnded("CA2", 9, "stop", 1))])  # it went on for long
    assert [store.forget_before(100, 1) for _ in range(3)] == [1, 1, 0]
    assert [found.call_id for found in store.calls(10)] == ["CA3", "CA2"]
    assert [message.call_id for message in store.messages(10)] == ["CA3", "CA2"]
    store.close()
    assert b"secret of CA0" not in path.read_bytes(), "nor is it in the file"
    assert b"secret of CA3" in path.read_bytes()
