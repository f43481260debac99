"""The console as a process: what it serves, how it ends, what survives its end."""

from __future__ import annotations

import os
import signal

from prometheus_client.parser import text_string_to_metric_families

from gateway.ops.records import (
    PACKET_BYTES_MAX,
    CallEnded,
    CallStarted,
    MessageTaken,
    RecordsSender,
    TurnTaken,
)
from tests.gateway.console.process import Console, until


def send_turns(sender: RecordsSender, call_id: str, numbers: range) -> None:
    for n in numbers:
        sender.send(TurnTaken(call_id, n, "caller", f"text {n}"))


def turns(console: Console) -> dict[str, list[int]]:
    return {call.call_id: [turn.at_ms for turn in call.turns] for call in console.stored()[0]}


def metric(console: Console, name: str, kind: str) -> float:
    text = console.get("/metrics").body.decode()
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and sample.labels["kind"] == kind
    )


def test_it_serves_and_ends_cleanly(console: Console) -> None:
    console.start()
    assert console.get("/healthz").json() == {"status": "ok"}
    children = console.get("/api/workers").json()["children"]
    assert [(child["kind"], child["slot"]) for child in children] == [
        ("worker", 0),
        ("dsp", 0),
        ("console", 0),
    ]
    assert console.process is not None
    assert children[2]["state"] == "ready"
    assert children[2]["pid"] == console.process.pid
    assert children[2]["rss_mb"] > 1
    assert metric(console, "voice_gateway_up", "console") == 1
    page = console.get("/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert console.get("/api/calls").json() == {"calls": []}
    log = console.stop()
    assert "Traceback" not in log
    assert "Uvicorn" not in log
    assert "GET " not in log


def test_what_workers_send_is_shown(console: Console) -> None:
    console.start()
    console.sender(0).send(CallStarted("CA1", 1_000, "MZ1", caller_number="+4915112345642"))
    console.sender(1).send(MessageTaken("CA1", 2_000, {"name": "Ann"}))
    until(lambda: bool(console.get("/api/messages").json()["messages"]))
    until(lambda: console.get("/api/calls").json()["calls"][0]["started_at_ms"] == 1_000)
    (message,) = console.get("/api/messages?limit=1").json()["messages"]
    assert message == {
        "call_id": "CA1",
        "at_ms": 2_000,
        "caller_number": "+4915112345642",
        "fields": {"name": "Ann"},
        "sequence": message["sequence"],
        "done_at_ms": None,
    }
    console.stop()


def test_sigterm_commits_everything_that_was_sent(console: Console) -> None:
    console.start()
    console.get("/healthz")
    for worker in (0, 1):
        sender = console.sender(worker)
        send_turns(sender, f"CA{worker}", range(100))
        assert sender.spooled == 0
    console.stop()
    assert turns(console) == {"CA0": list(range(100)), "CA1": list(range(100))}


def test_it_ends_when_supervisor_and_workers_are_gone(console: Console) -> None:
    console.start()
    console.get("/healthz")
    send_turns(console.sender(0), "CA0", range(50))
    os.close(console.alive[1])
    console.alive = (console.alive[0], -1)
    status, _ = console.wait()
    assert status == 0
    assert turns(console) == {"CA0": list(range(50))}


def test_a_ctrl_c_is_left_to_the_supervisor(console: Console) -> None:
    console.start()
    console.get("/healthz")
    console.kill(signal.SIGINT)
    assert console.get("/healthz").status == 200
    assert "KeyboardInterrupt" not in console.stop()


def test_a_kill_loses_at_most_what_was_in_flight(console: Console) -> None:
    console.start()
    sender = console.sender(0)
    send_turns(sender, "before", range(200))
    until(lambda: len(_turns_shown(console, "before")) == 200)
    send_turns(sender, "during", range(100))
    console.kill(signal.SIGKILL)
    assert console.wait()[0] == -signal.SIGKILL
    send_turns(sender, "after", range(100))
    assert sender.close(30)
    console.start()
    console.stop()
    stored = turns(console)
    assert stored["before"] == list(range(200))
    assert stored["after"] == list(range(100))
    during = stored.get("during", [])
    lost = sorted(set(range(100)) - set(during))
    assert during == sorted(set(during))
    assert not lost or lost == list(range(lost[0], lost[-1] + 1)), "one hole at most"


def _turns_shown(console: Console, call_id: str) -> list[object]:
    calls = console.get("/api/calls").json()["calls"]
    return [turn for call in calls if call["call_id"] == call_id for turn in call["turns"]]


def test_what_was_spooled_while_nobody_read_is_imported(console: Console) -> None:
    sender = console.sender(0)
    send_turns(sender, "CA0", range(1_500))
    assert sender.close(30)
    assert sender.spooled > 0
    console.start()
    until(lambda: not list(console.data_dir.glob("spool-*")))
    console.stop()
    assert turns(console) == {"CA0": list(range(1_500))}


def test_what_is_spooled_while_it_runs_is_imported(console: Console) -> None:
    console.start()
    console.get("/healthz")
    console.kill(signal.SIGSTOP)
    sender = console.sender(0)
    send_turns(sender, "CA0", range(1_500))
    assert sender.close(30)
    assert sender.spooled > 0
    console.kill(signal.SIGCONT)
    until(lambda: not list(console.data_dir.glob("spool-*")))
    console.stop()
    assert turns(console) == {"CA0": list(range(1_500))}


def test_garbage_is_counted_and_skipped(console: Console) -> None:
    console.start()
    raw = console.workers[0][0]
    sender = console.sender(0)
    sender.send(CallStarted("CA0", 1, "MZ0"))
    for packet in (
        b"garbage",
        b"",
        b"[1]",
        b'{"kind":"turn_taken"}',
        b" " * (PACKET_BYTES_MAX + 1),
    ):
        raw.send(packet)
    sender.send(CallEnded("CA0", 2, "stop", 1))
    until(lambda: metric(console, "voice_gateway_messages_invalid_total", "console") == 5)
    console.stop()
    ((call,), _) = console.stored()
    assert (call.call_id, call.end_reason) == ("CA0", "stop")


def test_a_worker_whose_socket_is_gone_does_not_stop_the_others(console: Console) -> None:
    console.start()
    console.get("/healthz")
    console.workers[0][0].close()
    send_turns(console.sender(1), "CA1", range(10))
    until(lambda: len(_turns_shown(console, "CA1")) == 10)
    console.stop()


def test_it_serves_without_a_database_and_keeps_the_records(console: Console) -> None:
    console.data_dir.mkdir()
    database = console.data_dir / "records.db"
    database.write_bytes(b"my diary" * 1_000)
    console.start()
    send_turns(console.sender(0), "CA0", range(10))
    until(lambda: "cannot be used" in console.get("/readyz").body.decode())
    answer = console.get("/api/calls")
    assert answer.status == 503
    assert "records.db" in answer.body.decode()
    log = console.stop()
    assert "records wait" in log
    assert database.read_bytes() == b"my diary" * 1_000
    assert (console.data_dir / "spool-console.jsonl").exists()
    database.rename(console.data_dir / "diary")
    console.start()
    until(lambda: not list(console.data_dir.glob("spool-*")))
    console.stop()
    assert turns(console) == {"CA0": list(range(10))}


def test_nothing_personal_or_secret_is_logged(console: Console) -> None:
    key, number, words = "sk-canary-123456", "+4915112345642", "the safe code is nine"
    console.start(openai_api_key=key)
    sender = console.sender(0)
    sender.send(CallStarted("CA1", 1, "MZ1", caller_number=number))
    sender.send(TurnTaken("CA1", 2, "caller", words))
    sender.send(MessageTaken("CA1", 3, {"number": number, "reason": words}))
    console.workers[0][0].send(f'{{"kind":"turn_taken","text":"{words} {number}"}}'.encode())
    until(lambda: len(_turns_shown(console, "CA1")) == 1)
    console.get(f"/api/calls?limit={number}&token={key}")
    console.get("/nowhere/" + key)
    log = console.stop()
    assert "record refused" in log
    for canary in (key, number, number[1:], words):
        assert canary not in log


def test_a_secret_within_another_text_is_not_logged(console: Console) -> None:
    key = "sk-canary-123456"
    console.data_dir = console.data_dir.with_name(key)
    console.data_dir.write_text("a file where the folder should be")
    console.start(openai_api_key=key)
    until(lambda: "cannot be used" in console.get("/readyz").body.decode())
    log = console.stop()
    assert "cannot be used" in log
    assert key not in log


def test_what_cannot_work_is_said_and_ends_it(console: Console) -> None:
    console.start(console.alive[0])
    status, log = console.wait()
    assert status == 1
    assert "console failed" in log
