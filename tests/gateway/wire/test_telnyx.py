"""The Telnyx codec: no certain order, two directions in two encodings, errors that concern us."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audio.format import Encoding
from gateway import limits
from gateway.errors import LocalWireError, RemoteWireError, WireFault
from gateway.wire.base import StreamState, Wire
from gateway.wire.events import (
    CallerAudio,
    CarrierError,
    Digit,
    MarkPlayed,
    StreamStarted,
    StreamStopped,
)
from gateway.wire.in_order import WINDOW
from gateway.wire.telnyx import ORDER, Codec, L16Order, TelnyxWire

SID, CALL = "7B3E-ab", "v3:call"
FRAME = bytes(range(160))
KINDS = ("connected", "start", "media", "mark", "dtmf", "error", "stop")
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def message(event: str, stream: str | None = SID, /, **body: object) -> str:
    named = {} if stream is None else {"stream_id": stream}
    return json.dumps({"event": event, "sequence_number": "1", **named, event: body})


def start(encoding: str = "PCMU", rate: object = 8000, **body: object) -> str:
    form = {"encoding": encoding, "sample_rate": rate, "channels": 1}
    return message("start", **{"call_control_id": CALL, "media_format": form, **body})


def media(chunk: object, payload: bytes = FRAME, **body: object) -> str:
    text = base64.b64encode(payload).decode()
    timestamp = 20 * chunk if isinstance(chunk, int) else None
    return message(
        "media",
        **{"track": "inbound", "chunk": chunk, "timestamp": timestamp, "payload": text, **body},
    )


def live(encoding: str = "PCMU", rate: object = 8000) -> TelnyxWire:
    wire = TelnyxWire()
    wire.receive(start(encoding, rate))
    return wire


def chunks(wire: TelnyxWire, *numbers: int) -> list[int]:
    """Which chunks are heard when these come."""
    events = [event for n in numbers for event in wire.receive(media(n))]
    return [event.timestamp_ms // 20 for event in events if isinstance(event, CallerAudio)]


def expect_fault(wire: TelnyxWire, text: str, kind: WireFault) -> None:
    with pytest.raises(RemoteWireError) as caught:
        wire.receive(text)
    assert caught.value.kind == kind


# The stream begins


def test_start_tells_everything_about_the_call() -> None:
    told = {"from": "+15550100", "to": "+15550199", "custom_parameters": {"language": "ru"}}
    parameters = {"from": "+15550100", "to": "+15550199", "language": "ru"}
    expected = StreamStarted(SID, CALL, Encoding.ALAW, "ru", parameters, Encoding.MULAW)
    assert TelnyxWire().receive(start("PCMA", **told)) == [expected]


def test_custom_parameters_may_be_a_list_of_names_and_values() -> None:
    pairs = [{"name": "language", "value": "ar"}, {"value": "x"}, 5, {"name": "none"}]
    (event,) = TelnyxWire().receive(start(custom_parameters=pairs))
    assert isinstance(event, StreamStarted)
    assert (event.parameters, event.language_hint) == ({"language": "ar"}, "ar")


@pytest.mark.parametrize(
    ("name", "rate", "order", "encoding"),
    [
        ("PCMU", 8000, "big", Encoding.MULAW),
        ("audio/x-mulaw", "8000", "big", Encoding.MULAW),
        ("pcma", 8000, "big", Encoding.ALAW),
        ("G722", 8000, "big", Encoding.G722),
        ("G722", 16000, "little", Encoding.G722),
        ("L16", 16000, "big", Encoding.PCM16_BE),
        ("L16", 16000, "little", Encoding.PCM16),
        ("L16", 8000, "big", Encoding.PCM16_8K_BE),
        ("L16", 8000, "little", Encoding.PCM16_8K),
    ],
)
def test_the_media_format_is_honoured(
    name: str, rate: object, order: L16Order, encoding: Encoding
) -> None:
    (event,) = TelnyxWire("PCMU", order).receive(start(name, rate))
    assert isinstance(event, StreamStarted)
    assert event.encoding is encoding
    assert event.assistant_encoding is (None if encoding is Encoding.MULAW else Encoding.MULAW)


@pytest.mark.parametrize(
    ("codec", "order", "encoding", "frame_bytes"),
    [
        ("PCMA", "big", Encoding.ALAW, 160),
        ("G722", "big", Encoding.G722, 160),
        ("L16/8000", "big", Encoding.PCM16_8K_BE, 320),
        ("L16/16000", "little", Encoding.PCM16, 640),
    ],
)
def test_the_answer_is_in_what_the_stream_was_asked_for_and_never_shorter_than_20_ms(
    codec: Codec, order: L16Order, encoding: Encoding, frame_bytes: int
) -> None:
    wire = TelnyxWire(codec, order)
    (event,) = wire.receive(start())
    assert isinstance(event, StreamStarted)
    assert event.assistant_encoding is encoding
    assert wire.media(SID, bytes(frame_bytes))
    with pytest.raises(LocalWireError):
        wire.media(SID, bytes(frame_bytes - 1))


@pytest.mark.parametrize(
    "media_format",
    [
        {"encoding": "OPUS"},
        {"encoding": "AMR-WB", "sample_rate": 16000},
        {"encoding": "PCMU", "sample_rate": 16000},
        {"encoding": "L16", "sample_rate": 24000},
        {"encoding": 5},
        {"channels": 2},
        "PCMU",
    ],
)
def test_other_media_formats_are_refused(media_format: object) -> None:
    wire = TelnyxWire()
    expect_fault(wire, start(media_format=media_format), "unsupported-format")
    assert wire.receive(start(media_format=None)) != []


def test_ids_are_compared_without_case_and_never_switched() -> None:
    wire = live()
    assert wire.receive(message("dtmf", SID.upper(), digit="a")) == [Digit(SID, "A")]
    assert wire.receive(message("dtmf", None, digit="1")) == [Digit(SID, "1")]
    assert wire.receive(start().replace(SID, SID.lower())) == [], "a repetition"
    expect_fault(wire, message("dtmf", "other", digit="1"), "wrong-stream")
    expect_fault(wire, start().replace(SID, "other"), "second-start")


# The order of messages


def test_the_order_table_is_total() -> None:
    assert set(ORDER) == {(state, kind) for state in StreamState for kind in KINDS}
    for (state, _kind), step in ORDER.items():
        assert step.state in StreamState
        if step.fault is not None or step.ignored:
            assert step.state is state, "what is refused or ignored changes nothing"


@pytest.mark.parametrize(("state", "kind"), list(ORDER))
def test_the_codec_obeys_the_order_table(state: StreamState, kind: str) -> None:
    wire = TelnyxWire() if state is StreamState.NEW else live()
    if state is StreamState.ENDED:
        wire.receive(message("stop"))
    step = ORDER[state, kind]
    stream = "other" if kind == "start" else SID  # of the same it would be a repetition
    text = message(kind, stream, name="m", digit="7", payload="AAAA", chunk=1)
    if step.fault is not None:
        expect_fault(wire, text, step.fault)
    else:
        is_kept = (state, kind) == (StreamState.NEW, "media")
        assert (wire.receive(text) == []) == (step.ignored or is_kept)
    assert wire._state is step.state


def test_unknown_events_are_counted_and_ignored() -> None:
    wire = TelnyxWire()
    assert wire.receive(message("hold")) == []
    assert wire.messages_unknown == 1
    for text in ("{}", '{"event":5}'):
        expect_fault(wire, text, "no-event")


# Media


def test_media_come_in_order_of_their_chunks() -> None:
    wire = live()
    assert chunks(wire, 1, 3, 2, 6, 5, 4, 7) == [1, 2, 3, 4, 5, 6, 7]
    assert (wire.media_gaps, wire.media_late) == (0, 0)


def test_what_is_lost_is_counted_and_not_waited_for() -> None:
    wire = live()
    assert chunks(wire, 1, 2, 5, 6, 7, 8) == [1, 2]
    assert chunks(wire, 9) == [5, 6, 7, 8, 9]
    assert (wire.media_gaps, wire.media_gap_ms) == (1, 40)
    assert chunks(wire, 3, 9, 10) == [10]
    assert wire.media_late == 2


@unhurried
@given(lost=st.sets(st.integers(2, 60), max_size=30))
def test_whatever_is_lost_the_rest_is_heard_once_and_in_order(lost: set[int]) -> None:
    wire = live()
    came = [n for n in range(1, 62) if n not in lost]
    heard = chunks(wire, *came)
    rest = [e.timestamp_ms // 20 for e in wire.receive(message("stop")) if type(e) is CallerAudio]
    assert heard + rest == came
    assert wire.media_gap_ms == 20 * len(lost)


def test_the_length_of_a_gap_is_counted_in_chunks_without_timestamps() -> None:
    wire = live()
    for n in (1, 4, 5, 6, 7, 8):
        wire.receive(media(n, timestamp=None))
    assert (wire.media_gaps, wire.media_gap_ms) == (1, 40)


def test_the_end_of_the_stream_waits_for_nothing() -> None:
    wire = live()
    assert chunks(wire, 1, 3, 4) == [1]
    events = wire.receive(message("stop"))
    assert [type(event) for event in events] == [CallerAudio, CallerAudio, StreamStopped]
    assert wire.receive(media(2)) == []


def test_media_may_overtake_the_start() -> None:
    wire = TelnyxWire()
    assert chunks(wire, 2, 1) == []
    assert wire.receive(media(3).replace(SID, "other")) == []
    events = wire.receive(start())
    assert [type(event) for event in events] == [StreamStarted, CallerAudio, CallerAudio]
    assert chunks(wire, 3) == [3]


def test_only_a_few_may_overtake_the_start() -> None:
    wire = TelnyxWire()
    chunks(wire, *range(1, WINDOW + 1))
    expect_fault(wire, media(WINDOW + 1), "media-before-start")
    assert len(wire.receive(start())) == WINDOW + 1


def test_the_other_track_is_neither_heard_nor_counted() -> None:
    wire = live()
    assert chunks(wire, 1) == [1]
    assert wire.receive(media(2, track="outbound")) == []
    heard = [event for n in (2, 3) for event in wire.receive(media(n, track="inbound_track"))]
    assert [event.timestamp_ms for event in heard if isinstance(event, CallerAudio)] == [40, 60]


def test_an_empty_chunk_is_nothing_but_has_its_place() -> None:
    wire = live()
    assert wire.receive(media(1, b"")) == []
    assert chunks(wire, 2) == [2]
    assert wire.media_gaps == 0


def test_a_chunk_without_a_number_is_heard_as_it_comes() -> None:
    wire = live()
    odds: list[object] = [None, "x", -5, []]
    for odd in odds:
        assert wire.receive(media(odd)) == [CallerAudio(SID, FRAME, -1)]
    assert chunks(wire, 1, 2) == [1, 2]


def test_linear_audio_is_whole_samples() -> None:
    expect_fault(live("L16", 16000), media(1, b"123"), "odd-payload")
    assert live("G722").receive(media(1, b"123")) == [CallerAudio(SID, b"123", 20)]
    early = TelnyxWire()
    early.receive(media(1, b"123"))
    assert len(early.receive(start("L16", 16000))) == 1


def test_payloads_are_strict_and_bounded() -> None:
    expect_fault(
        live(), media(1, payload=b"").replace('"payload": ""', '"payload": "!!"'), "bad-base64"
    )
    expect_fault(live(), media(1, bytes(limits.PAYLOAD_BYTES_MAX + 1)), "payload-too-big")


# What Telnyx says besides


@pytest.mark.parametrize(
    ("body", "code", "title"),
    [
        (
            {"code": "100003", "title": "malformed_frame", "detail": "x"},
            "100003",
            "malformed_frame",
        ),
        ({"code": 100005, "title": "x" * 999}, "100005", "x" * 256),
        ({"code": [], "title": 5}, "", ""),
    ],
)
def test_what_telnyx_finds_wrong_with_us(body: dict[str, object], code: str, title: str) -> None:
    assert live().receive(message("error", **body)) == [CarrierError(SID, code, title)]
    assert TelnyxWire().receive(message("error", None, **body)) == [CarrierError("", code, title)]


# To Telnyx


@unhurried
@given(payload=st.binary(min_size=160, max_size=1000), name=st.text(min_size=1, max_size=50))
def test_what_is_sent_has_exactly_the_documented_keys_and_reads_back(
    payload: bytes, name: str
) -> None:
    wire, peer = live(), live()
    sent = json.loads(wire.media(SID, payload))
    text = base64.b64encode(payload).decode()
    assert sent == {"event": "media", "media": {"payload": text}}
    assert json.loads(wire.mark(SID, name)) == {"event": "mark", "mark": {"name": name}}
    assert json.loads(wire.clear(SID)) == {"event": "clear"}
    assert peer.receive(wire.media(SID, payload)) == [CallerAudio(SID, payload, -1)]
    assert peer.receive(wire.mark(SID, name)) == [MarkPlayed(SID, name)]


def test_only_a_live_stream_can_be_sent_to() -> None:
    ended = live()
    ended.receive(message("stop"))
    for wire, sid in ((TelnyxWire(), ""), (live(), "other"), (ended, SID)):
        with pytest.raises(LocalWireError):
            wire.media(sid, FRAME)
        with pytest.raises(LocalWireError):
            wire.mark(sid, "m")
        with pytest.raises(LocalWireError):
            wire.clear(sid)


def test_telnyx_has_no_words_for_the_rest() -> None:
    wire: Wire = live()
    assert wire.ready(SID) is None
    assert wire.transcript(SID, "caller", "hello") is None
    assert wire.error(SID, "no") is None
    assert wire.hang_up(SID) is None
