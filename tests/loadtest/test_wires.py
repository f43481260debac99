"""The wires' messages: Twilio's shapes out, Twilio's strictness in."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.errors import UsageError, WireError
from loadtest.schedule import make_schedule
from loadtest.wires import (
    PLAIN,
    TWILIO,
    WIRES,
    Kind,
    Received,
    Stream,
    make_wire,
    payload_of,
)

PLAN = make_schedule(1, 1, 1).calls[0]
FRAME = bytes(range(160))


def stream(name: str = "twilio", **parameters: str) -> Stream:
    return WIRES[name].open_stream(PLAN, parameters)


def media(**changes: object) -> dict[str, object]:
    payload = {"payload": base64.b64encode(FRAME).decode()}
    message = {"event": "media", "streamSid": PLAN.stream_sid, "media": payload} | changes
    return {key: value for key, value in message.items() if value is not None}


def audio_out(**changes: object) -> dict[str, object]:
    payload = base64.b64encode(b"\1\2\3\4").decode()
    return {"type": "audio_out", "callId": PLAN.call_sid, "payload": payload} | changes


def test_a_twilio_call_on_the_wire() -> None:
    call = stream(tenant="acme")
    connected, start = (json.loads(text) for text in call.opening())
    assert connected == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    account = start["start"]["accountSid"]
    assert account.startswith("AC")
    assert len(account) == 34
    assert start == {
        "event": "start",
        "sequenceNumber": "1",
        "streamSid": PLAN.stream_sid,
        "start": {
            "accountSid": account,
            "streamSid": PLAN.stream_sid,
            "callSid": PLAN.call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"tenant": "acme"},
        },
    }
    sent = [json.loads(call.media(frame, payload_of(FRAME))) for frame in (0, 2)]
    assert [message["sequenceNumber"] for message in sent] == ["2", "3"]
    assert sent[1]["streamSid"] == PLAN.stream_sid
    assert sent[1]["media"] == {
        "track": "inbound",
        "chunk": "2",
        "timestamp": "40",
        "payload": base64.b64encode(FRAME).decode(),
    }
    assert json.loads(call.mark("m1")) == {
        "event": "mark",
        "sequenceNumber": "4",
        "streamSid": PLAN.stream_sid,
        "mark": {"name": "m1"},
    }
    assert json.loads(call.stop()) == {
        "event": "stop",
        "sequenceNumber": "5",
        "streamSid": PLAN.stream_sid,
        "stop": {"accountSid": account, "callSid": PLAN.call_sid},
    }


def test_a_plain_call_on_the_wire() -> None:
    call = stream("plain", responder="echo", languageHint="ru")
    (init,) = map(json.loads, call.opening())
    assert init == {
        "type": "init",
        "callId": PLAN.call_sid,
        "languageHint": "ru",
        "responder": "echo",
    }
    payload = payload_of(b"\0" * PLAIN.frame_bytes)
    audio = json.loads(call.media(0, payload))
    assert audio == {"type": "audio", "callId": PLAN.call_sid, "payload": payload.decode()}
    assert json.loads(call.mark("a"))["name"] == "a"
    assert json.loads(call.stop()) == {"type": "stop", "callId": PLAN.call_sid}


def test_what_a_twilio_server_may_say() -> None:
    call = stream()
    assert call.receive(json.dumps(media()).encode()) == Received(Kind.MEDIA, FRAME)
    mark = {"event": "mark", "streamSid": PLAN.stream_sid, "mark": {"name": "m"}}
    assert call.receive(json.dumps(mark).encode()) == Received(Kind.MARK, text="m")
    clear = {"event": "clear", "streamSid": PLAN.stream_sid}
    assert call.receive(memoryview(json.dumps(clear).encode())) == Received(Kind.CLEAR)


@pytest.mark.parametrize(
    "message",
    [
        media(streamSid=None),
        media(streamSid="MZ0"),
        media(sequenceNumber="1"),
        media(event="dtmf"),
        media(event=["media"]),
        media(media={"payload": "AAAA", "track": "outbound"}),
        media(media={"payload": "not base64"}),
        media(media={"payload": "AAA"}),
        media(media={"payload": ""}),
        media(media={"payload": 7}),
        media(media={"payload": "é"}),
        media(media=None),
        {"event": "mark", "streamSid": PLAN.stream_sid, "mark": {"name": 1}},
        {"event": "clear", "streamSid": PLAN.stream_sid, "clear": {}},
        [],
        "media",
    ],
)
def test_what_a_carrier_would_refuse(message: object) -> None:
    with pytest.raises(WireError):
        stream().receive(json.dumps(message).encode())


def test_what_telnyx_sends() -> None:
    call = make_wire("telnyx", "L16/16000", "G722").open_stream(PLAN, {"language": "ru"})
    connected, start = map(json.loads, call.opening())
    assert connected == {"event": "connected", "version": "1.0.0"}
    form = {"encoding": "L16", "sample_rate": 16000, "channels": 1}
    assert start["start"]["media_format"] == form
    assert start["start"]["custom_parameters"] == {"language": "ru"}
    assert start["start"]["call_control_id"].startswith("v3:")
    media = json.loads(call.media(7, b"AAAA"))
    assert media["media"] == {
        "track": "inbound",
        "chunk": "8",
        "timestamp": "140",
        "payload": "AAAA",
    }
    assert media["stream_id"] == start["stream_id"] == json.loads(call.stop())["stream_id"]
    assert json.loads(call.mark("m"))["mark"] == {"name": "m"}


def telnyx(**message: object) -> bytes:
    return json.dumps(message).encode()


def test_what_telnyx_may_be_told() -> None:
    call = stream("telnyx")
    payload = base64.b64encode(FRAME).decode()
    assert call.receive(telnyx(event="media", media={"payload": payload})).payload == FRAME
    assert call.receive(telnyx(event="mark", mark={"name": "m"})).text == "m"
    assert call.receive(telnyx(event="clear")).kind is Kind.CLEAR


@pytest.mark.parametrize(
    "message",
    [
        {"event": "media", "media": {"payload": base64.b64encode(bytes(159)).decode()}},
        {"event": "media", "media": {"payload": base64.b64encode(bytes(30 * 8001)).decode()}},
        {"event": "media", "streamSid": "a", "media": {"payload": "AAAA"}},
        {"event": "media", "media": {"payload": "AAAA", "chunk": 1}},
        {"event": "clear", "stream_id": "a"},
        {"event": "mark", "mark": "m"},
    ],
)
def test_what_telnyx_would_refuse(message: dict[str, object]) -> None:
    with pytest.raises(WireError):
        stream("telnyx").receive(telnyx(**message))


def test_encodings_are_telnyxs_to_choose_and_of_one_rate() -> None:
    assert make_wire("plain", None, None) is PLAIN
    for name, said, heard in (("twilio", "PCMA", None), ("telnyx", "PCMU", "L16/16000")):
        with pytest.raises(UsageError):
            make_wire(name, said, heard)


def test_what_a_plain_server_may_say() -> None:
    call = stream("plain")

    def receive(**message: object) -> Received:
        return call.receive(json.dumps({"callId": PLAN.call_sid} | message).encode())

    assert call.receive(json.dumps(audio_out()).encode()) == Received(Kind.MEDIA, b"\1\2\3\4")
    assert receive(type="ready").kind is Kind.READY
    assert receive(type="clear").kind is Kind.CLEAR
    assert receive(type="mark", name="m").text == "m"
    assert receive(type="error", message="no").text == "no"
    said = receive(type="transcript", role="caller", text="ten of clubs")
    assert said == Received(Kind.TRANSCRIPT, text="ten of clubs", role="caller")


@pytest.mark.parametrize(
    "message",
    [audio_out(callId="CA0"), audio_out(payload="AA=="), audio_out(type="music"), {"type": "mark"}],
)
def test_what_the_plain_wire_does_not_allow(message: object) -> None:
    with pytest.raises(WireError):
        stream("plain").receive(json.dumps(message).encode())


keys = st.sampled_from(["event", "streamSid", "media", "mark", "type", "callId", "payload", "name"])
values = st.recursive(
    st.none()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["media", "mark", "clear", "audio_out", PLAN.stream_sid, PLAN.call_sid]),
    lambda inner: st.dictionaries(keys, inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)


@given(st.sampled_from(sorted(WIRES)), st.one_of(st.binary(), values.map(json.dumps)))
def test_garbage_is_a_wire_error_and_nothing_else(name: str, text: bytes | str) -> None:
    data = text.encode() if isinstance(text, str) else text
    try:
        received = stream(name).receive(data)
    except WireError:
        return
    assert isinstance(received, Received)


def test_frames_of_twenty_ms() -> None:
    assert (TWILIO.frame_samples, TWILIO.frame_bytes, TWILIO.ns_per_byte) == (160, 160, 125_000)
    assert (PLAIN.frame_samples, PLAIN.frame_bytes, PLAIN.ns_per_byte) == (320, 640, 31_250)


@given(st.lists(st.integers(-32768, 32767)))
def test_plain_audio_is_little_endian_pcm16(values: list[int]) -> None:
    samples = np.array(values, np.int16)
    payload = PLAIN.caller.encode(samples)
    assert payload == b"".join(value.to_bytes(2, "little", signed=True) for value in values)
    assert PLAIN.assistant.decoder()(payload).tolist() == values
