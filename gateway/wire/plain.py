"""The plain protocol: ours, for clients that are no carrier; 16 kHz PCM16 LE, as base64.

Client to gateway::

    {"type": "init", "callId": "a1", "languageHint": "en", "parameters": {"from": "+15550100"}}
    {"type": "audio", "callId": "a1", "payload": "<base64>"}
    {"type": "mark", "callId": "a1", "name": "e0.m3"}      the mark was played
    {"type": "dtmf", "callId": "a1", "digit": "5"}
    {"type": "stop", "callId": "a1"}

Gateway to client::

    {"type": "ready", "callId": "a1", "sampleRate": 16000, "encoding": "pcm16"}
    {"type": "audio_out", "callId": "a1", "payload": "<base64>"}
    {"type": "transcript", "callId": "a1", "role": "caller", "text": "hello"}
    {"type": "mark", "callId": "a1", "name": "e0.m3"}      tell when this was played
    {"type": "clear", "callId": "a1"}                      drop what was not played yet
    {"type": "stop", "callId": "a1"}                       the gateway ends this call only
    {"type": "error", "callId": "a1", "message": "..."}

Several calls may share a socket, told apart by ``callId``; while there is one, its id may be left
out of everything but ``init``. ``languageHint`` (auto, ar, en, ru), ``responder`` and
``parameters`` are optional. A client that never answers marks is served too. Since the protocol is
ours, a mistake is answered by ``error`` with a sentence (the text of the ``RemoteWireError``) and
the socket stays; unlike a carrier's codec this one refuses unknown types, for they are slips of the
client's author.
"""

from __future__ import annotations

from binascii import b2a_base64

from audio.format import PCM_BYTES_PER_SAMPLE, PCM_RATE, Encoding
from gateway import limits
from gateway.errors import LocalWireError, RemoteWireError
from gateway.wire.base import (
    JsonObject,
    OrderTable,
    Role,
    Step,
    StreamState,
    language_hint,
    read_digit,
    read_id,
    read_mark,
    read_object,
    read_parameters,
    read_payload,
    step,
    write_text,
)
from gateway.wire.events import (
    CallerAudio,
    Digit,
    Event,
    MarkPlayed,
    StreamStarted,
    StreamStopped,
)

_NEW, _LIVE = StreamState.NEW, StreamState.LIVE

#: One call's legal order. ``stop`` forgets the call: its id is new again.
ORDER: OrderTable = {
    (_NEW, "init"): Step(_LIVE),
    (_NEW, "audio"): Step(_NEW, fault="media-before-start"),
    (_NEW, "mark"): Step(_NEW, fault="before-start"),
    (_NEW, "dtmf"): Step(_NEW, fault="before-start"),
    (_NEW, "stop"): Step(_NEW, fault="before-start"),
    (_LIVE, "init"): Step(_LIVE, fault="second-start"),
    (_LIVE, "audio"): Step(_LIVE),
    (_LIVE, "mark"): Step(_LIVE),
    (_LIVE, "dtmf"): Step(_LIVE),
    (_LIVE, "stop"): Step(_NEW),
}

_KINDS = tuple(kind for state, kind in ORDER if state == _NEW)
_NO_TYPE = f"type must be one of {', '.join(_KINDS)}"


class PlainWire:
    """The codec of one plain connection; see ``gateway.wire.base.Wire``. Stream id = call id."""

    def __init__(self) -> None:
        self.messages_unknown = 0
        self.media_gaps = 0
        self.media_gap_ms = 0
        self.media_late = 0
        # Live calls; each with the beginning of its `audio_out`, all but the payload.
        self._media_heads: dict[str, bytes] = {}

    def receive(self, message: str | bytes) -> list[Event]:
        """Read one text message; raise ``RemoteWireError`` (and change nothing) if it is wrong."""
        parsed = read_object(message)
        kind = parsed.get("type")
        if not isinstance(kind, str):
            raise RemoteWireError(_NO_TYPE, kind="no-event")
        if kind not in _KINDS:
            raise RemoteWireError(_NO_TYPE, kind="unknown-event")
        call_id = self._identify(kind, parsed)
        state = _LIVE if call_id in self._media_heads else _NEW
        step(ORDER, state, kind, call_id)
        if kind == "audio":
            return self._on_audio(call_id, parsed)
        if kind == "init":
            return self._on_init(call_id, parsed)
        if kind == "mark":
            return [MarkPlayed(call_id, read_mark(parsed.get("name"), call_id))]
        if kind == "dtmf":
            return [Digit(call_id, read_digit(parsed.get("digit"), call_id))]
        del self._media_heads[call_id]
        return [StreamStopped(call_id)]

    def media(self, stream_id: str, payload: bytes) -> bytes:
        """Make the ``audio_out`` that plays ``payload``, PCM16 at 16 kHz."""
        self._check_live(stream_id)
        return self._media_heads[stream_id] + b2a_base64(payload, newline=False) + b'"}'

    def mark(self, stream_id: str, name: str) -> bytes:
        """Make a ``mark``: the client returns it when what was sent before it was played."""
        self._check_live(stream_id)
        return write_text({"type": "mark", "callId": stream_id, "name": name})

    def clear(self, stream_id: str) -> bytes:
        """Make a ``clear``: the client drops what it has not played."""
        self._check_live(stream_id)
        return write_text({"type": "clear", "callId": stream_id})

    def hang_up(self, stream_id: str) -> bytes | None:
        """Make the ``stop`` of a call that we end; its id is new again."""
        if self._media_heads.pop(stream_id, None) is None:
            return None
        return write_text({"type": "stop", "callId": stream_id})

    def ready(self, stream_id: str) -> bytes:
        """Make the ``ready`` that answers an ``init``."""
        self._check_live(stream_id)
        return write_text(
            {"type": "ready", "callId": stream_id, "sampleRate": PCM_RATE, "encoding": "pcm16"}
        )

    def transcript(self, stream_id: str, role: Role, text: str, language: str = "") -> bytes:
        """Make a ``transcript``; it names the language when that is known."""
        self._check_live(stream_id)
        message = {"type": "transcript", "callId": stream_id, "role": role, "text": text}
        if language:
            message["language"] = language
        return write_text(message)

    def error(self, stream_id: str, message: str) -> bytes:
        """Make an ``error``; it names the call when ``stream_id`` is not empty."""
        call = {"callId": stream_id} if stream_id else {}
        return write_text({"type": "error", **call, "message": message})

    def _identify(self, kind: str, parsed: JsonObject) -> str:
        """Find the call a message is about; "" when it names none and no call is live."""
        call_id = parsed.get("callId")
        if call_id is None and kind != "init" and len(self._media_heads) <= 1:
            return next(iter(self._media_heads), "")
        return read_id(call_id, "callId")

    def _on_init(self, call_id: str, parsed: JsonObject) -> list[Event]:
        if len(self._media_heads) >= limits.CALLS_PER_CONNECTION_MAX:
            raise RemoteWireError(
                f"a connection carries at most {limits.CALLS_PER_CONNECTION_MAX} calls",
                kind="too-many-calls",
                stream_id=call_id,
            )
        hint = _read_hint(parsed.get("languageHint"), call_id)
        parameters = read_parameters(parsed.get("parameters"), call_id)
        parameters |= read_parameters({"responder": parsed.get("responder")}, call_id)
        quoted = write_text(call_id)
        self._media_heads[call_id] = b'{"type":"audio_out","callId":' + quoted + b',"payload":"'
        return [StreamStarted(call_id, call_id, Encoding.PCM16, hint, parameters)]

    def _on_audio(self, call_id: str, parsed: JsonObject) -> list[Event]:
        payload = read_payload(parsed.get("payload"), call_id)
        if len(payload) % PCM_BYTES_PER_SAMPLE:
            raise RemoteWireError(
                "audio must be whole 16-bit samples, an even number of bytes",
                kind="odd-payload",
                stream_id=call_id,
            )
        return [CallerAudio(call_id, payload, -1)] if payload else []

    def _check_live(self, stream_id: str) -> None:
        if stream_id not in self._media_heads:
            raise LocalWireError(f"call {stream_id!r} is not live on this connection")


def _read_hint(value: object, call_id: str) -> str:
    hint = language_hint(value) if isinstance(value, str) else ""
    if not hint and value is not None and value != "":
        raise RemoteWireError(
            "languageHint must be auto, ar, en or ru", kind="bad-language", stream_id=call_id
        )
    return hint
