"""Every codec against recorded conversations (whole, cut, widened) and against anything at all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audio.format import Encoding
from gateway import limits
from gateway.errors import RemoteWireError, WireFault
from gateway.wire.base import ID_CHARS_MAX, JsonObject, Wire
from gateway.wire.detect import WIRES, Dialects, WireName, detect
from gateway.wire.events import (
    CallerAudio,
    CarrierError,
    Digit,
    Event,
    MarkPlayed,
    StreamStarted,
    StreamStopped,
)
from gateway.wire.in_order import WINDOW

FIXTURES = Path(__file__).parents[2] / "fixtures" / "wire"
NAMES: tuple[WireName, ...] = ("twilio", "telnyx", "plain")
# How long an example takes on a busy machine decides nothing.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
KINDS_OF_FAULT = set(get_args(WireFault))
each_wire = pytest.mark.parametrize("name", NAMES)


def make(name: WireName) -> Wire:
    return WIRES[name](Dialects())


def lines(name: WireName) -> list[str]:
    return (FIXTURES / f"{name}.jsonl").read_text().splitlines()


def replay(wire: Wire, messages: Iterable[str | bytes]) -> list[Event]:
    return [event for message in messages for event in wire.receive(message)]


def check(event: Event) -> None:
    """What every event promises, whatever it was made of."""
    assert 0 < len(event.stream_id) <= ID_CHARS_MAX or isinstance(event, CarrierError)
    match event:
        case StreamStarted():
            assert 0 < len(event.call_id) <= ID_CHARS_MAX
            assert event.language_hint in {"", "auto", "ar", "en", "ru"}
            assert all(isinstance(text, str) for text in event.parameters.values())
        case CallerAudio():
            assert 0 < len(event.payload) <= limits.PAYLOAD_BYTES_MAX
            assert -1 <= event.timestamp_ms < 2**63
        case MarkPlayed():
            assert 0 < len(event.name) <= ID_CHARS_MAX
        case Digit():
            assert event.digit in "0123456789*#ABCD"
        case CarrierError():
            assert max(map(len, (event.stream_id, event.code, event.title))) <= ID_CHARS_MAX


def test_a_whole_twilio_conversation() -> None:
    wire = make("twilio")
    events = replay(wire, lines("twilio"))
    started, audio = events[0], [event for event in events if isinstance(event, CallerAudio)]
    assert isinstance(started, StreamStarted)
    assert (started.stream_id[:2], started.call_id[:2]) == ("MZ", "CA")
    assert started.parameters["from"] == "+15550100"
    assert started.language_hint == "en"
    assert [event.timestamp_ms for event in audio] == [65 + 20 * n for n in range(12)]
    assert {len(event.payload) for event in audio} == {160}
    others = [event for event in events[1:] if not isinstance(event, CallerAudio)]
    sid = started.stream_id
    assert others == [Digit(sid, "5"), MarkPlayed(sid, "e0.m1"), StreamStopped(sid)]
    assert (wire.messages_unknown, wire.media_gaps, wire.media_gap_ms) == (0, 0, 0)


def test_a_whole_telnyx_conversation() -> None:
    wire = make("telnyx")
    events = replay(wire, lines("telnyx"))
    started, audio = events[0], [event for event in events if isinstance(event, CallerAudio)]
    assert isinstance(started, StreamStarted)
    assert (started.encoding, started.assistant_encoding) == (Encoding.ALAW, Encoding.MULAW)
    assert started.call_id.startswith("v3:")
    assert started.parameters == {"from": "+15550100", "to": "+15550199", "language": "ar"}
    assert [event.timestamp_ms for event in audio] == [5 + 20 * n for n in range(12)]
    others = [event for event in events[1:] if not isinstance(event, CallerAudio)]
    sid = started.stream_id
    assert others == [
        Digit(sid, "5"),
        CarrierError(sid, "100004", "invalid_media"),
        MarkPlayed(sid, "e0.m1"),
        StreamStopped(sid),
    ]
    assert (wire.messages_unknown, wire.media_gaps, wire.media_late) == (0, 0, 0)


def test_a_whole_plain_conversation_of_two_calls() -> None:
    events = replay(make("plain"), lines("plain"))
    kinds = [(type(event).__name__, event.stream_id) for event in events]
    assert [kind for kind, call in kinds if call == "call-1"] == [
        "StreamStarted",
        *["CallerAudio"] * 3,
        "Digit",
        "CallerAudio",
        "MarkPlayed",
        "StreamStopped",
    ]
    assert [kind for kind, call in kinds if call == "call-2"] == [
        "StreamStarted",
        "CallerAudio",
        "CallerAudio",
        "StreamStopped",
    ]


@each_wire
def test_text_and_its_utf8_are_the_same(name: WireName) -> None:
    as_bytes = [line.encode() for line in lines(name)]
    assert replay(make(name), as_bytes) == replay(make(name), lines(name))


@each_wire
def test_a_conversation_cut_at_any_byte_is_a_declared_error_that_changes_nothing(
    name: WireName,
) -> None:
    wire, whole = make(name), make(name)
    for line in lines(name):
        for cut in range(len(line)):
            with pytest.raises(RemoteWireError) as caught:
                wire.receive(line[:cut])
            assert caught.value.kind == "not-json"
        assert wire.receive(line) == whole.receive(line)


@each_wire
@unhurried
@given(data=st.data())
def test_reordered_media(name: WireName, data: st.DataObject) -> None:
    """Telnyx: put in order, as long as nothing is further than the window from its place."""
    messages = lines(name)
    media = [n for n, line in enumerate(messages) if name_of(line) in ("media", "audio")]
    places = {n: n + data.draw(st.integers(0, WINDOW - 1)) for n in media}
    moved = sorted(media, key=lambda n: places[n])
    for n, other in zip(media, moved, strict=True):
        messages[n] = lines(name)[other]
    wire = make(name)
    if name != "telnyx":  # over TCP all comes in order: what does not is as it is, or refused
        for message in messages:
            expect_events_or_refusal(wire, message)
        return
    events, expected = replay(wire, messages), replay(make(name), lines(name))
    assert [e for e in events if type(e) is CallerAudio] == [
        e for e in expected if type(e) is CallerAudio
    ]
    assert (wire.media_gaps, wire.media_late) == (0, 0)


def name_of(line: str) -> object:
    message = json.loads(line)
    return message.get("event", message.get("type"))


def widened(value: object, extra: JsonObject) -> object:
    if not isinstance(value, dict):
        return value
    return {key: widened(inner, extra) for key, inner in value.items()} | extra


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@each_wire
@unhurried
@given(extra=st.dictionaries(st.sampled_from(["x_a", "x_b"]), st.text(max_size=9)))
def test_fields_added_later_change_nothing(name: WireName, extra: dict[str, str]) -> None:
    added: JsonObject = dict(extra)
    wider = [json.dumps(widened(json.loads(line), added)) for line in lines(name)]
    events = replay(make(name), wider)
    expected = replay(make(name), lines(name))
    assert len(events) == len(expected)
    for event, plain in zip(events, expected, strict=True):
        if isinstance(event, StreamStarted) and isinstance(plain, StreamStarted):
            assert {**event.parameters, **plain.parameters} == event.parameters
        else:
            assert event == plain


def expect_events_or_refusal(wire: Wire, message: str | bytes) -> None:
    faults: set[str] = set()
    try:
        events = wire.receive(message)
    except RemoteWireError as error:
        events, faults = [], {error.kind}
    assert faults <= KINDS_OF_FAULT
    for event in events:
        check(event)


@each_wire
@unhurried
@given(message=st.text() | st.binary() | json_values.map(json.dumps))
def test_anything_gives_events_or_a_declared_error(name: WireName, message: str | bytes) -> None:
    expect_events_or_refusal(make(name), message)
    live = make(name)
    replay(live, lines(name)[:2])
    expect_events_or_refusal(live, message)


ids = st.sampled_from(["a", "b", "", "x" * 257, "\n"]) | json_values
bodies = st.fixed_dictionaries(
    {},
    optional={
        "streamSid": ids,
        "stream_id": ids,
        "callSid": ids,
        "call_control_id": ids,
        "chunk": st.integers(-1, 400) | json_values,
        "code": json_values,
        "title": json_values,
        "media_format": json_values
        | st.fixed_dictionaries(
            {
                "encoding": st.sampled_from(["PCMA", "g722", "L16", "OPUS"]),
                "sample_rate": st.sampled_from([8000, "16000"]),
            }
        ),
        "custom_parameters": st.lists(json_values) | json_values,
        "mediaFormat": json_values
        | st.just({"encoding": "audio/x-alaw", "sampleRate": "8000", "channels": 1}),
        "customParameters": st.dictionaries(st.text(max_size=5), json_values),
        "track": st.sampled_from(["inbound", "outbound"]) | json_values,
        "timestamp": st.integers().map(str) | json_values,
        "payload": st.sampled_from(["AAAA", "AAA", "", "!!!!", "A" * 70_000]) | json_values,
        "name": json_values,
        "digit": st.sampled_from(["1", "d", "12", "E"]) | json_values,
    },
)
EVENTS = ("connected", "start", "media", "mark", "dtmf", "error", "stop", "news")


@st.composite
def carrier_messages(draw: st.DrawFn) -> str:
    event = draw(st.sampled_from(EVENTS))
    message = {"event": event, event: draw(bodies | json_values)}
    for key in ("streamSid", "stream_id"):
        if draw(st.booleans()):
            message[key] = draw(ids)
    return json.dumps(message)


@st.composite
def plain_messages(draw: st.DrawFn) -> str:
    kind = draw(st.sampled_from(["init", "audio", "mark", "dtmf", "stop", "news"]))
    fields = ("callId", "payload", "name", "digit", "languageHint", "parameters", "responder")
    message = {field: draw(ids) for field in fields if draw(st.booleans())}
    if draw(st.booleans()):
        message["payload"] = draw(st.sampled_from(["AAAA", "AAA=", "AA==", "AAAAAAAA", "?"]))
    return json.dumps({"type": kind, **message})


@unhurried
@given(messages=st.lists(carrier_messages(), max_size=12))
def test_any_run_of_carrier_like_messages(messages: list[str]) -> None:
    twilio, telnyx = make("twilio"), make("telnyx")
    for message in messages:
        expect_events_or_refusal(twilio, message)
        expect_events_or_refusal(telnyx, message)


@unhurried
@given(messages=st.lists(plain_messages(), max_size=12))
def test_any_run_of_plain_like_messages(messages: list[str]) -> None:
    wire = make("plain")
    for message in messages:
        expect_events_or_refusal(wire, message)


@each_wire
def test_the_first_message_tells_the_wire(name: WireName) -> None:
    first = lines(name)[0 if name != "telnyx" else 1]  # a plain `connected` may be anybody's
    assert detect(first) == name
    assert detect(first.encode()) == name
