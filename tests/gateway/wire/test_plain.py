"""The plain codec: several calls on a socket, sentences for mistakes, the words of both sides."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audio.format import Encoding
from gateway import limits
from gateway.errors import LocalWireError, RemoteWireError, WireFault
from gateway.wire.base import StreamState
from gateway.wire.events import CallerAudio, Digit, MarkPlayed, StreamStarted, StreamStopped
from gateway.wire.plain import ORDER, PlainWire

FRAME = bytes(range(64)) * 10
KINDS = ("init", "audio", "mark", "dtmf", "stop")
# How long an example takes on a busy machine decides nothing.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def text(kind: str, call: str | None = "a", **fields: object) -> str:
    named = {} if call is None else {"callId": call}
    return json.dumps({"type": kind, **named, **fields})


def audio(call: str | None = "a", payload: bytes = FRAME) -> str:
    return text("audio", call, payload=base64.b64encode(payload).decode())


def live(*calls: str) -> PlainWire:
    wire = PlainWire()
    for call in calls or ("a",):
        wire.receive(text("init", call))
    return wire


def expect_fault(wire: PlainWire, message: str, kind: WireFault, call: str = "") -> str:
    """Expect a refusal that leaves the socket as it was; return the sentence for the client."""
    before = dict(wire._media_heads)
    with pytest.raises(RemoteWireError) as caught:
        wire.receive(message)
    assert (caught.value.kind, caught.value.stream_id) == (kind, call)
    assert wire._media_heads == before
    answer = json.loads(wire.error(call, str(caught.value)))
    assert answer["type"] == "error"
    assert answer.get("callId", "") == call
    return str(answer["message"])


def test_init_tells_everything_about_the_call() -> None:
    message = text("init", languageHint="ar", parameters={"from": "1"}, responder="echo")
    assert PlainWire().receive(message) == [
        StreamStarted("a", "a", Encoding.PCM16, "ar", {"from": "1", "responder": "echo"})
    ]


@pytest.mark.parametrize(
    ("hint", "expected"), [("auto", "auto"), ("en", "en"), ("en-GB", "en"), (None, ""), ("", "")]
)
def test_language_hints(hint: object, expected: str) -> None:
    (event,) = PlainWire().receive(text("init", languageHint=hint))
    assert isinstance(event, StreamStarted)
    assert event.language_hint == expected


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"languageHint": "fr"}, "bad-language"),
        ({"languageHint": 5}, "bad-language"),
        ({"parameters": []}, "bad-parameters"),
        ({"parameters": {"a": []}}, "bad-parameters"),
        ({"responder": {}}, "bad-parameters"),
    ],
)
def test_a_wrong_init_is_explained(fields: dict[str, object], kind: WireFault) -> None:
    expect_fault(PlainWire(), json.dumps({"type": "init", "callId": "a", **fields}), kind, "a")


@pytest.mark.parametrize(
    ("call", "kind"),
    [(None, "no-id"), ("", "no-id"), ("x" * 257, "bad-id"), ("\x07", "bad-id")],
)
def test_init_needs_a_decent_id(call: str | None, kind: WireFault) -> None:
    expect_fault(PlainWire(), text("init", call), kind)


@pytest.mark.parametrize("call", [5, [], {}, True])
def test_ids_are_strings(call: object) -> None:
    expect_fault(live(), json.dumps({"type": "stop", "callId": call}), "bad-id")


def test_calls_on_one_socket_are_told_apart() -> None:
    wire = live("a", "b")
    assert wire.receive(audio("b")) == [CallerAudio("b", FRAME, -1)]
    assert wire.receive(audio("a")) == [CallerAudio("a", FRAME, -1)]
    expect_fault(wire, audio(None), "no-id")
    assert wire.receive(text("stop", "a")) == [StreamStopped("a")]
    assert wire.receive(audio(None)) == [CallerAudio("b", FRAME, -1)]
    assert wire.receive(text("mark", None, name="m")) == [MarkPlayed("b", "m")]
    assert wire.receive(text("dtmf", None, digit="c")) == [Digit("b", "C")]
    assert wire.receive(text("stop", None)) == [StreamStopped("b")]
    expect_fault(wire, audio(None), "media-before-start")


def test_a_call_on_another_socket_is_unknown_here() -> None:
    expect_fault(live("a"), audio("b"), "media-before-start", "b")
    expect_fault(live("a"), text("stop", "b"), "before-start", "b")


def test_calls_on_one_socket_are_bounded() -> None:
    wire = live(*map(str, range(limits.CALLS_PER_CONNECTION_MAX)))
    expect_fault(wire, text("init", "more"), "too-many-calls", "more")
    wire.receive(text("stop", "0"))
    assert len(wire.receive(text("init", "more"))) == 1


def test_audio_is_whole_samples_in_strict_base64() -> None:
    wire = live()
    expect_fault(wire, audio(payload=b"123"), "odd-payload", "a")
    expect_fault(wire, text("audio", payload="AAA"), "bad-base64", "a")
    expect_fault(wire, text("audio"), "bad-base64", "a")
    too_big = bytes(limits.PAYLOAD_BYTES_MAX + 2)
    expect_fault(wire, audio(payload=too_big), "payload-too-big", "a")
    assert wire.receive(audio(payload=b"")) == []
    assert wire.receive(audio()) == [CallerAudio("a", FRAME, -1)]


def test_unknown_types_are_answered() -> None:
    for message in (text("audioo"), text("ready"), text("")):
        assert "init, audio, mark, dtmf, stop" in expect_fault(live(), message, "unknown-event")
    for message in ("{}", '{"type":5}', '{"type":["init"]}'):
        expect_fault(live(), message, "no-event")


def test_the_order_table_is_total() -> None:
    states = (StreamState.NEW, StreamState.LIVE)
    assert set(ORDER) == {(state, kind) for state in states for kind in KINDS}
    for (state, _kind), step in ORDER.items():
        assert step.state in states
        if step.fault is not None:
            assert step.state is state


@pytest.mark.parametrize(("state", "kind"), list(ORDER))
def test_the_codec_obeys_the_order_table(state: StreamState, kind: str) -> None:
    wire = live() if state is StreamState.LIVE else PlainWire()
    step = ORDER[state, kind]
    message = text(kind, payload="AAAA" * 2, name="m", digit="1")
    if step.fault is not None:
        expect_fault(wire, message, step.fault, "a")
    else:
        assert len(wire.receive(message)) == 1
    assert ("a" in wire._media_heads) == (step.state is StreamState.LIVE)


@unhurried
@given(payload=st.binary(max_size=2000), call=st.sampled_from(["a", 'q"\\', "é"]))
def test_audio_out(payload: bytes, call: str) -> None:
    assert json.loads(live(call).media(call, payload)) == {
        "type": "audio_out",
        "callId": call,
        "payload": base64.b64encode(payload).decode(),
    }


@unhurried
@given(name=st.text(min_size=1, max_size=50))
def test_a_mark_reads_back(name: str) -> None:
    assert live().receive(live().mark("a", name)) == [MarkPlayed("a", name)]


def test_the_other_messages() -> None:
    wire = live()
    ready = {"type": "ready", "callId": "a", "sampleRate": 16000, "encoding": "pcm16"}
    assert json.loads(wire.ready("a")) == ready
    assert json.loads(wire.clear("a")) == {"type": "clear", "callId": "a"}
    said = {"type": "transcript", "callId": "a", "role": "caller", "text": "да"}
    assert json.loads(wire.transcript("a", "caller", "да")) == said
    assert json.loads(wire.transcript("a", "caller", "да", "ru")) == {**said, "language": "ru"}
    assert json.loads(wire.error("", "no")) == {"type": "error", "message": "no"}


def test_a_call_that_we_end_is_told_so_and_others_go_on() -> None:
    wire = live("a", "b")
    assert json.loads(wire.hang_up("a") or b"") == {"type": "stop", "callId": "a"}
    assert wire.hang_up("a") is None
    expect_fault(wire, audio("a"), "media-before-start", "a")
    assert wire.receive(audio("b")) == [CallerAudio("b", FRAME, -1)]
    assert len(wire.receive(text("init", "a"))) == 1


def test_only_a_live_call_can_be_sent_to() -> None:
    wire = live("a", "b")
    wire.receive(text("stop", "a"))
    for call in ("a", "c", ""):
        for send in (wire.clear, wire.ready):
            with pytest.raises(LocalWireError):
                send(call)
        with pytest.raises(LocalWireError):
            wire.media(call, FRAME)
        with pytest.raises(LocalWireError):
            wire.mark(call, "m")
        with pytest.raises(LocalWireError):
            wire.transcript(call, "assistant", "hello")
    with pytest.raises(LocalWireError):
        wire.transcript("b", "caller", "\ud800")
