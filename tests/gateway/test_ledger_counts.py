"""What a ledger counts of a conversation, and what it tells the console of it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from audio.format import Encoding
from gateway.conversation.timing import TurnTimes
from gateway.ledger import Channels, Ledger
from gateway.ops import live
from gateway.ops.log import get_logger
from gateway.ops.records import PACKET_BYTES_MAX, RecordsSender, TurnAnswered, decode
from gateway.wire.events import StreamStarted
from gateway.wire.plain import PlainWire
from supervisor.scoreboard import Row, RowName, Scoreboard


def _never(*_: object) -> None:
    raise AssertionError("nothing here ends or moves a call")


class Listening:
    """A ledger, its row, and the console's end of its socket."""

    def __init__(self, spool: Path) -> None:
        self.row: Row = Scoreboard([RowName("worker", 0)], 1).row("worker", 0)
        ours, self.console = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.records = RecordsSender(ours.fileno(), spool, self.row)
        ours.close()
        channels = Channels(
            log=get_logger("test"),
            records=self.records,
            row=self.row,
            wire=PlainWire(),
            send=lambda _: None,
            hang_up=lambda _: None,
            end_call=_never,
            transfer=_never,
        )
        self.ledger = Ledger(StreamStarted("MZ1", "CA1", Encoding.PCM16, "", {}), channels)

    def observed(self, histogram: str) -> tuple[int, int]:
        """How many values, and their sum."""
        counts, total = self.row.histogram(histogram)
        return sum(counts), total


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    listening = Listening(tmp_path / "spool.jsonl")
    yield listening
    listening.records.close()
    listening.console.close()


def test_an_answer_is_observed_stage_by_stage(listening: Listening) -> None:
    times = TurnTimes(
        endpoint_ms=400, transcript_ms=520, first_words_ms=-1, first_audio_ms=700, response_ms=710
    )
    listening.ledger.answered(times)
    assert listening.observed("answer_ms/endpoint") == (1, 400)
    assert listening.observed("answer_ms/transcript") == (1, 520)
    assert listening.observed("answer_ms/first_words") == (0, 0)  # a stage that did not happen
    assert listening.observed("answer_ms/first_audio") == (1, 700)
    assert listening.observed("answer_ms/sent") == (1, 710)
    packet = listening.console.recv(PACKET_BYTES_MAX)
    event = decode(packet).event
    assert isinstance(event, TurnAnswered)
    assert (event.call_id, event.response_ms) == ("CA1", 710)


def test_interruptions_are_counted(listening: Listening) -> None:
    listening.ledger.barged_in(180)
    listening.ledger.resumed()
    assert listening.observed("barge_in_ms") == (1, 180)
    assert listening.row.counter("resumed") == 1


def test_a_report_that_nobody_takes_is_dropped_and_counted(listening: Listening) -> None:
    listening.console.close()
    for packet in live.seen([]):
        listening.records.report(packet)
    assert listening.row.counter("live_packets_dropped") == 1
    assert listening.records.spooled == 0
