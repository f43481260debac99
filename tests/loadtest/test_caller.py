"""One simulated call against a peer that only takes note, at times the test makes up."""

from __future__ import annotations

import asyncio
import json
import time
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from typing_extensions import override

from loadtest.behaviour import Behaviour
from loadtest.caller import Caller, Line
from loadtest.errors import UsageError
from loadtest.heard import heard, make_folder, save_heard
from loadtest.options import DEFAULT_AUDIO
from loadtest.peer import Peer
from loadtest.scenario import EchoScenario
from loadtest.schedule import NS_PER_MS, NS_PER_SECOND, make_schedule
from loadtest.wires import PLAIN, TWILIO, Wire, payload_of

Message: TypeAlias = dict[str, dict[str, str]]
PLAN = make_schedule(1, 1, 1).calls[0]
HOUR_NS = 3600 * NS_PER_SECOND


class Notes(Peer):
    """A peer without a connection."""

    sent: list[str]
    hung_up = False

    @override
    def send(self, text: bytes) -> None:
        self.sent.append(text.decode())

    @override
    def close(self) -> None:
        self.hung_up = True

    def events(self, name: str) -> list[Message]:
        return [found for text in self.sent if (found := json.loads(text)).get("event") == name]


class Call:
    """A call that begins in an hour, so that nothing is due but by the test's own clock."""

    def __init__(self, wire: Wire = TWILIO) -> None:
        self.start_ns = time.monotonic_ns() + HOUR_NS
        scenario = EchoScenario(wire, DEFAULT_AUDIO / "cards-001.wav", 1)
        line = Line("ws://nowhere/", wire, wire.open_stream(PLAN, {}), echoes=True)
        self.caller = Caller(PLAN, self.start_ns, line, scenario.behaviour(PLAN))
        self.peer = Notes(self.caller)
        self.peer.sent = []

    def until(self, frame: int) -> bool:
        """Let the time of that frame come."""
        return self.caller.send_due(self.start_ns + PLAN.due_ns(frame))

    def hears(self, event: str, **body: object) -> None:
        message = {"event": event, "streamSid": PLAN.stream_sid, **body}
        self.caller.message(json.dumps(message).encode())

    def hears_audio(self, audio: bytes) -> None:
        self.hears("media", media={"payload": payload_of(audio).decode()})

    def timestamps(self) -> list[int]:
        return [int(message["media"]["timestamp"]) for message in self.peer.events("media")]


class Content(Behaviour):
    """Says nothing; whether all it called for was measured is the test's choice."""

    def __init__(self, *, content: bool) -> None:
        self._content = content

    @override
    def payload(self, frame: int, due_ns: int) -> bytes | None:
        return b"fw=="

    @override
    def content(self) -> bool:
        return self._content


def in_a_loop(body: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await body()

    asyncio.run(run())


def test_a_late_call_sends_what_was_due_and_keeps_its_schedule() -> None:
    async def body() -> None:
        call = Call()
        assert call.until(3)
        assert call.peer.sent == []  # not connected yet
        call.caller.opened(call.peer)
        assert [json.loads(text)["event"] for text in call.peer.sent] == ["connected", "start"]
        call.until(3)
        assert call.timestamps() == [0, 20, 40, 60]
        call.caller.send_due(call.start_ns + PLAN.due_ns(4) - 1)
        assert len(call.timestamps()) == 4
        call.until(4)
        assert call.timestamps()[-1] == 80
        assert len(call.caller.record.lateness_ns) == 5

    in_a_loop(body)


@pytest.mark.parametrize(
    ("reason", "content", "failure"),
    [
        ("closed with 1000", True, ""),
        ("closed with 1000: goodbye", True, ""),
        ("closed with 1000", False, "closed with 1000"),
        ("closed with 1001: going away", True, "closed with 1001: going away"),
        ("closed with 10000", True, "closed with 10000"),
        ("connection lost", True, "connection lost"),
    ],
)
def test_a_server_may_hang_up_politely_on_a_caller_who_is_content(
    reason: str, *, content: bool, failure: str
) -> None:
    async def body() -> None:
        call = Call()
        call.caller.behaviour = Content(content=content)
        call.caller.opened(call.peer)
        call.until(3)
        call.caller.closed(reason)
        record = call.caller.record
        assert (record.failure, record.left) == (failure, not failure)
        assert record.closed_ns
        assert not call.until(4)

    in_a_loop(body)


def test_a_server_that_does_not_read_gets_no_more_frames() -> None:
    async def body() -> None:
        call = Call()
        call.caller.opened(call.peer)
        call.until(1)
        call.peer.pause_writing()
        call.until(4)
        call.peer.resume_writing()
        call.until(6)
        assert call.timestamps() == [0, 20, 100, 120]
        assert list(call.caller.record.withheld) == [2, 3, 4]
        assert call.caller.record.sent == 7

    in_a_loop(body)


def test_the_caller_hangs_up_when_everything_has_come_back() -> None:
    async def body() -> None:
        call = Call()
        call.caller.opened(call.peer)
        assert not call.until(PLAN.frames)
        assert not call.peer.hung_up
        call.hears_audio(b"\xff" * 160 * (PLAN.frames - 1))
        assert not call.peer.hung_up
        call.hears_audio(b"\xff" * 160)
        assert call.peer.hung_up
        assert len(call.peer.events("stop")) == 1
        call.hears_audio(b"\xff" * 160)  # nobody hears that
        assert len(call.caller.record.audio) == 160 * PLAN.frames
        call.caller.closed("closed with 1000")
        assert call.caller.record.failure == ""

    in_a_loop(body)


def test_a_server_that_hangs_up_first_is_a_failure() -> None:
    async def body() -> None:
        call = Call()
        call.caller.opened(call.peer)
        call.until(10)
        call.caller.closed("closed with 1011")
        assert call.caller.record.failure == "closed with 1011"
        assert not call.until(20)
        assert call.caller.record.sent == 11

    in_a_loop(body)


def test_marks_come_back_when_they_are_played_or_cleared() -> None:
    async def body() -> None:
        call = Call()
        call.caller.opened(call.peer)
        call.hears("mark", mark={"name": "nothing queued"})
        call.hears_audio(b"\x20" * 800)  # 100 ms
        call.hears("mark", mark={"name": "played"})
        call.hears_audio(b"\x20" * 80_000)
        call.hears("mark", mark={"name": "cleared"})
        names = [m["mark"]["name"] for m in call.peer.events("mark")]
        assert names == ["nothing queued"]
        await asyncio.sleep(0.15)  # the mark's timer is due before this one
        assert call.caller.playout.next_mark_ns() is not None
        call.hears("clear")
        names = [m["mark"]["name"] for m in call.peer.events("mark")]
        assert names == ["nothing queued", "played", "cleared"]
        assert len(call.caller.record.clears) == 1
        call.caller.closed("")

    in_a_loop(body)


def test_mistakes_are_counted_and_the_call_goes_on() -> None:
    async def body() -> None:
        call = Call()
        call.caller.opened(call.peer)
        for text in (b"{", b"[]", b'{"event":"media"}'):
            call.caller.message(text)
        call.caller.malformed("binary message")
        call.hears_audio(b"\xff" * 160)
        record = call.caller.record
        assert record.malformed == len(record.complaints) == 4
        assert len(record.audio) == 160

    in_a_loop(body)


def test_a_carrier_does_not_queue_more_than_ten_minutes() -> None:
    async def body() -> None:
        call = Call()
        call.caller.opened(call.peer)
        for _ in range(13):
            call.hears_audio(b"\x20" * 8000 * 50)
        assert call.caller.record.malformed == 0
        call.hears_audio(b"\x20" * 160)
        assert call.caller.record.malformed == 1
        assert len(call.caller.record.audio) == 13 * 8000 * 50

    in_a_loop(body)


def test_the_plain_wire_waits_until_the_server_is_ready() -> None:
    async def body() -> None:
        call = Call(PLAIN)
        call.caller.opened(call.peer)
        call.until(5)
        assert [json.loads(text)["type"] for text in call.peer.sent] == ["init"]
        call.caller.message(json.dumps({"type": "ready", "callId": PLAN.call_sid}).encode())
        call.until(5)
        assert [json.loads(text)["type"] for text in call.peer.sent[1:]] == ["audio"] * 6

    in_a_loop(body)


def listened() -> Caller:
    """A call of a second in which 100 ms were heard after 250 ms, cut after 60 ms."""
    caller = Call().caller
    record, playout = caller.record, caller.playout
    record.opened_ns, record.closed_ns = NS_PER_SECOND, 2 * NS_PER_SECOND
    audio = TWILIO.caller.encode(np.full(800, 4000, np.int16))
    record.media(NS_PER_SECOND + 250 * NS_PER_MS, audio)
    playout.media(NS_PER_SECOND + 250 * NS_PER_MS, len(audio))
    playout.clear(NS_PER_SECOND + 310 * NS_PER_MS)
    record.transcript(NS_PER_SECOND + 5 * NS_PER_MS, "caller", "ten of clubs")
    return caller


def test_what_was_heard_lies_on_the_calls_own_time_line() -> None:
    line = heard(listened(), TWILIO)
    assert len(line) == 8000
    loud = np.flatnonzero(line)
    assert (loud[0], loud[-1], len(loud)) == (2000, 2479, 480)


def test_audio_queued_at_the_end_of_the_call_is_not_heard() -> None:
    caller = listened()
    audio = TWILIO.caller.encode(np.full(8000, 4000, np.int16))
    caller.record.media(2 * NS_PER_SECOND - 20 * NS_PER_MS, audio)
    caller.playout.media(2 * NS_PER_SECOND - 20 * NS_PER_MS, len(audio))
    assert np.count_nonzero(heard(caller, TWILIO)) == 480 + 160


def test_what_was_heard_is_saved(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "heard"
    make_folder(folder)
    save_heard(folder, listened(), TWILIO)
    assert [path.name for path in folder.iterdir()] == ["call-000.wav"]
    with wave.open(str(folder / "call-000.wav"), "rb") as reader:
        assert reader.getparams()[:4] == (1, 2, 8000, 8000)


def test_the_plain_wire_also_gives_transcripts(tmp_path: Path) -> None:
    caller = Call(PLAIN).caller
    record = caller.record
    record.opened_ns, record.closed_ns = NS_PER_SECOND, 2 * NS_PER_SECOND
    audio = PLAIN.caller.encode(np.full(3200, 4000, np.int16))  # 200 ms at 16 kHz
    record.media(NS_PER_SECOND, audio)
    caller.playout.media(NS_PER_SECOND, len(audio))
    record.transcript(NS_PER_SECOND + 5 * NS_PER_MS, "caller", "ten of clubs")
    save_heard(tmp_path, caller, PLAIN)
    said = json.loads((tmp_path / "call-000.json").read_bytes())
    assert said == [{"at_ms": 5, "role": "caller", "text": "ten of clubs"}]
    with wave.open(str(tmp_path / "call-000.wav"), "rb") as reader:
        assert reader.getframerate() == 8000
        samples = np.frombuffer(reader.readframes(8000), "<i2")
    assert np.count_nonzero(np.abs(samples) > 2000) == pytest.approx(1600, abs=4)


def test_a_call_that_never_was_leaves_no_file(tmp_path: Path) -> None:
    save_heard(tmp_path, Call().caller, TWILIO)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="save-heard"):
        make_folder(tmp_path / "file" / "folder")
