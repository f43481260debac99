"""Twilio's codec: both placements of ids, exact keys out, legal order, gaps, what is refused."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audio.format import Encoding
from gateway import limits
from gateway.errors import LocalWireError, RemoteWireError, WireFault
from gateway.wire.base import JsonObject, StreamState, Wire
from gateway.wire.events import CallerAudio, Digit, MarkPlayed, StreamStarted, StreamStopped
from gateway.wire.twilio import ORDER, TwilioWire

SID = "MZ0123456789abcdef0123456789abcdef"
CALL = "CA0123456789abcdef0123456789abcdef"
FRAME = bytes(range(160))
KINDS = ("connected", "start", "media", "mark", "dtmf", "stop")
# How long an example takes on a busy machine decides nothing.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def start(**body: object) -> str:
    inner = {"streamSid": SID, "callSid": CALL, **body}
    return json.dumps({"event": "start", "sequenceNumber": "1", "streamSid": SID, "start": inner})


def media(payload: bytes = FRAME, **body: object) -> str:
    inner = {"track": "inbound", "payload": base64.b64encode(payload).decode(), **body}
    return json.dumps({"event": "media", "streamSid": SID, "media": inner})


def message(kind: str) -> str:
    """One well-formed message of each kind."""
    if kind == "media":
        return media()
    bodies = {"mark": {"name": "m"}, "dtmf": {"digit": "7"}, "start": {"callSid": CALL}}
    return json.dumps({"event": kind, "streamSid": SID, kind: bodies.get(kind, {})})


def live(**body: object) -> TwilioWire:
    wire = TwilioWire()
    wire.receive(start(**body))
    return wire


def expect_fault(wire: TwilioWire, text: str, kind: WireFault) -> None:
    with pytest.raises(RemoteWireError) as caught:
        wire.receive(text)
    assert caught.value.kind == kind


# The stream begins


def test_start_tells_everything_about_the_call() -> None:
    events = TwilioWire().receive(
        start(accountSid="AC1", customParameters={"from": "+15550100", "language": "ru"})
    )
    parameters = {"from": "+15550100", "language": "ru"}
    assert events == [StreamStarted(SID, CALL, Encoding.MULAW, "ru", parameters)]


@pytest.mark.parametrize("key", ["streamSid", "stream_sid", "streamId", "stream_id"])
def test_ids_may_stand_inside(key: str) -> None:
    wire = TwilioWire()
    begun = wire.receive(json.dumps({"event": "start", "start": {key: "MZ9", "callSid": "CA9"}}))
    assert begun == [StreamStarted("MZ9", "CA9", Encoding.MULAW, "", {})]
    assert wire.receive(
        json.dumps({"event": "media", "media": {key: "MZ9", "payload": "AAAA"}})
    ) == [CallerAudio("MZ9", b"\0\0\0", -1)]
    assert wire.receive(json.dumps({"event": "stop", "stop": {key: "MZ9"}})) == [
        StreamStopped("MZ9")
    ]


def test_ids_may_be_left_out_once_the_stream_has_begun() -> None:
    assert live().receive('{"event":"dtmf","dtmf":{"digit":"a"}}') == [Digit(SID, "A")]


def test_a_call_without_id_is_named_after_its_stream() -> None:
    (event,) = TwilioWire().receive('{"event":"start","streamSid":"MZ1","start":{}}')
    assert isinstance(event, StreamStarted)
    assert event.call_id == "MZ1"


@pytest.mark.parametrize(
    ("media_format", "encoding"),
    [
        (None, Encoding.MULAW),
        ({}, Encoding.MULAW),
        ({"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}, Encoding.MULAW),
        ({"encoding": "audio/x-alaw", "sampleRate": "8000", "channels": "1"}, Encoding.ALAW),
    ],
)
def test_the_media_format_is_honoured(media_format: JsonObject | None, encoding: Encoding) -> None:
    (event,) = TwilioWire().receive(start(mediaFormat=media_format))
    assert isinstance(event, StreamStarted)
    assert event.encoding is encoding


@pytest.mark.parametrize(
    "media_format",
    [
        {"encoding": "audio/l16"},
        {"encoding": ["audio/x-mulaw"]},
        {"sampleRate": 16000},
        {"sampleRate": "8 kHz"},
        {"channels": 2},
        "audio/x-mulaw",
    ],
)
def test_other_media_formats_are_refused(media_format: object) -> None:
    wire = TwilioWire()
    expect_fault(wire, start(mediaFormat=media_format), "unsupported-format")
    assert wire.receive(start()) != []


@pytest.mark.parametrize(
    ("hint", "language"),
    [("en", "en"), ("en-US", "en"), ("AR_eg", "ar"), ("auto", "auto"), ("fr", ""), ("", "")],
)
def test_language_hints_are_reduced_to_what_we_speak(hint: str, language: str) -> None:
    (event,) = TwilioWire().receive(start(customParameters={"languageHint": hint}))
    assert isinstance(event, StreamStarted)
    assert event.language_hint == language


def test_parameters_become_text() -> None:
    (event,) = TwilioWire().receive(
        start(customParameters={"n": 5, "yes": True, "x": 1.5, "none": None, "s": "text"})
    )
    assert isinstance(event, StreamStarted)
    assert event.parameters == {"n": "5", "yes": "true", "x": "1.5", "s": "text"}
    wrongs: list[object] = [[], "a", {"list": []}, {"object": {}}]
    for wrong in wrongs:
        expect_fault(TwilioWire(), start(customParameters=wrong), "bad-parameters")


@pytest.mark.parametrize(
    ("sid", "kind"),
    [("", "no-id"), (None, "no-id"), (5, "no-id"), ("x" * 257, "bad-id"), ("a\nb", "bad-id")],
)
def test_a_start_needs_a_decent_id(sid: object, kind: WireFault) -> None:
    expect_fault(TwilioWire(), json.dumps({"event": "start", "streamSid": sid, "start": {}}), kind)


# The order of messages


def test_the_order_table_is_total() -> None:
    assert set(ORDER) == {(state, kind) for state in StreamState for kind in KINDS}
    for (state, _kind), step in ORDER.items():
        assert step.state in StreamState
        if step.fault is not None or step.ignored:
            assert step.state is state, "what is refused or ignored changes nothing"


@pytest.mark.parametrize(("state", "kind"), list(ORDER))
def test_the_codec_obeys_the_order_table(state: StreamState, kind: str) -> None:
    wire = TwilioWire()
    if state is not StreamState.NEW:
        wire.receive(start())
    if state is StreamState.ENDED:
        wire.receive(message("stop"))
    step = ORDER[state, kind]
    # A start of the same stream is a repetition, which has no row: begin another.
    text = message(kind).replace(SID, "MZother") if kind == "start" else message(kind)
    if step.fault is not None:
        expect_fault(wire, text, step.fault)
    else:
        assert (wire.receive(text) == []) == step.ignored
    assert wire._state is step.state


def test_a_repeated_start_is_ignored_and_another_is_not() -> None:
    wire = live()
    assert wire.receive(start()) == []
    expect_fault(wire, start().replace(SID, "MZother"), "second-start")
    assert wire.receive(media()) != []


def test_a_stream_is_never_switched() -> None:
    wire = live()
    expect_fault(wire, media().replace(SID, "MZother"), "wrong-stream")
    expect_fault(wire, media(streamSid="MZother"), "wrong-stream")
    expect_fault(wire, message("stop").replace(SID, "MZother"), "wrong-stream")
    assert wire.receive(media(streamSid=SID)) == [CallerAudio(SID, FRAME, -1)]


def test_unknown_events_are_counted_and_ignored() -> None:
    wire = TwilioWire()
    for _ in range(3):
        assert wire.receive('{"event":"hold","hold":{}}') == []
    assert wire.messages_unknown == 3
    for text in ("{}", '{"event":5}', '{"event":null,"start":{}}'):
        expect_fault(wire, text, "no-event")


# Media


def test_only_the_inbound_track_is_heard() -> None:
    wire = live()
    assert wire.receive(media(track="inbound_track")) == [CallerAudio(SID, FRAME, -1)]
    assert wire.receive(media(track=None)) == [CallerAudio(SID, FRAME, -1)]
    for other in ("outbound", "outbound_track", 5, ["inbound"]):
        assert wire.receive(media(track=other)) == []


@pytest.mark.parametrize(
    ("timestamp", "ms"),
    [
        ("40", 40),
        (40, 40),
        ("0", 0),
        (None, -1),
        ("", -1),
        ("4.5", -1),
        (-20, -1),
        ("9" * 30, -1),
        ("9" * 5000, -1),
        ([], -1),
    ],
)
def test_timestamps_are_strings_or_numbers(timestamp: object, ms: int) -> None:
    assert live().receive(media(timestamp=timestamp)) == [CallerAudio(SID, FRAME, ms)]


@pytest.mark.parametrize(
    "payload",
    [
        "!!!!",
        "AAA",
        "AAAA=",
        "AAAA====",
        "=",
        "====",
        "AAAA====AAAA",
        "AA AA",
        "AAAA\n",
        "é",
        None,
        5,
        ["AAAA"],
    ],
)
def test_base64_is_strict(payload: object) -> None:
    expect_fault(live(), media(payload=b"").replace('""', json.dumps(payload)), "bad-base64")


def test_an_empty_payload_is_nothing() -> None:
    assert live().receive(media(b"")) == []


def test_payloads_are_bounded() -> None:
    largest = bytes(limits.PAYLOAD_BYTES_MAX)
    assert live().receive(media(largest)) == [CallerAudio(SID, largest, -1)]
    expect_fault(live(), media(largest + b"1"), "payload-too-big")


@unhurried
@given(frames=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), max_size=30))
def test_gaps_are_what_the_timestamps_jump(frames: list[tuple[int, int]]) -> None:
    """Each entry: frames lost before a message, frames in it."""
    wire = live()
    now_ms, lost_ms, gaps = 65, 0, 0
    for index, (lost, carried) in enumerate(frames):
        now_ms += 20 * lost
        if lost and index:
            lost_ms, gaps = lost_ms + 20 * lost, gaps + 1
        wire.receive(media(bytes(160 * carried), timestamp=str(now_ms)))
        now_ms += 20 * carried
    assert (wire.media_gaps, wire.media_gap_ms) == (gaps, lost_ms)


def test_what_is_late_or_repeated_is_no_gap() -> None:
    wire = live()
    for timestamp in (100, 100, 60, 120, 119, 141, "?", 160):
        wire.receive(media(timestamp=timestamp))
    assert wire.media_gaps == 0
    wire.receive(media(timestamp=220))
    assert (wire.media_gaps, wire.media_gap_ms) == (1, 40)


@pytest.mark.parametrize("digit", ["", "12", "E", "w", 5, None, "٣"])
def test_only_keys_of_the_keypad(digit: object) -> None:
    expect_fault(live(), json.dumps({"event": "dtmf", "dtmf": {"digit": digit}}), "bad-digit")


@pytest.mark.parametrize("name", ["", None, 5, "m" * 257])
def test_marks_have_names(name: object) -> None:
    expect_fault(live(), json.dumps({"event": "mark", "mark": {"name": name}}), "bad-mark")


# To Twilio


@unhurried
@given(payload=st.binary(max_size=1000))
def test_media_has_exactly_the_documented_keys(payload: bytes) -> None:
    sent = json.loads(live().media(SID, payload))
    assert sent == {
        "event": "media",
        "streamSid": SID,
        "media": {"payload": base64.b64encode(payload).decode()},
    }


@unhurried
@given(payload=st.binary(min_size=1, max_size=1000), name=st.text(min_size=1, max_size=50))
def test_what_is_sent_reads_back(payload: bytes, name: str) -> None:
    wire, peer = live(), live()
    assert peer.receive(wire.media(SID, payload)) == [CallerAudio(SID, payload, -1)]
    assert peer.receive(wire.mark(SID, name)) == [MarkPlayed(SID, name)]


def test_the_nested_dialect_names_the_stream_in_the_body_too() -> None:
    wire = TwilioWire("nested")
    wire.receive(start())
    for text, body in (
        (wire.media(SID, FRAME), {"payload": base64.b64encode(FRAME).decode()}),
        (wire.mark(SID, "m"), {"name": "m"}),
    ):
        sent = json.loads(text)
        event = sent.pop("event")
        assert sent == {"streamSid": SID, event: {"streamSid": SID, **body}}
        assert live().receive(text) != []
    assert json.loads(wire.clear(SID)) == {"event": "clear", "streamSid": SID}


def test_mark_and_clear_have_exactly_the_documented_keys() -> None:
    wire = live()
    marked = {"event": "mark", "streamSid": SID, "mark": {"name": "e0.m1"}}
    assert json.loads(wire.mark(SID, "e0.m1")) == marked
    assert json.loads(wire.clear(SID)) == {"event": "clear", "streamSid": SID}


def test_an_odd_id_is_quoted() -> None:
    wire, odd = TwilioWire(), 'a"b\\c é'
    wire.receive(json.dumps({"event": "start", "streamSid": odd, "start": {}}))
    assert json.loads(wire.media(odd, b"1"))["streamSid"] == odd
    assert json.loads(wire.mark(odd, 'n"'))["mark"] == {"name": 'n"'}
    assert json.loads(wire.clear(odd))["streamSid"] == odd


def test_only_a_live_stream_can_be_sent_to() -> None:
    ended = live()
    ended.receive(message("stop"))
    for wire, sid in ((TwilioWire(), ""), (live(), "MZother"), (ended, SID)):
        with pytest.raises(LocalWireError):
            wire.media(sid, FRAME)
        with pytest.raises(LocalWireError):
            wire.mark(sid, "m")
        with pytest.raises(LocalWireError):
            wire.clear(sid)
    with pytest.raises(LocalWireError):
        live().mark(SID, "\ud800")


def test_twilio_has_no_words_for_the_rest() -> None:
    wire: Wire = live()
    assert wire.ready(SID) is None
    assert wire.transcript(SID, "caller", "hello") is None
    assert wire.error(SID, "no") is None
    assert wire.hang_up(SID) is None
