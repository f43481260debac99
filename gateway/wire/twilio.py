"""Twilio Media Streams: one stream a connection, G.711 at 8 kHz, messages as JSON text.

In: ``connected``, ``start``, ``media``, ``mark``, ``dtmf``, ``stop``; out: ``media``, ``mark``,
``clear`` with exactly the documented keys, since Twilio answers others with warning 31951
(https://www.twilio.com/docs/voice/media-streams/websocket-messages). The dialect ``nested`` is for
simplified clients that look for the stream's id in the body: there it stands in both places.

What Twilio sends and what its documentation promises are not quite the same, and simplified
clients differ once more, so the reader is lenient where nothing can go wrong: the stream's id may
stand beside ``event`` or inside the body, or be left out once the stream has begun; numbers may be
strings; a repeated ``start`` is ignored; unknown events and keys are ignored. It is strict where
leniency would play noise or mix calls up: base64, encodings, ids.

Over TCP nothing is lost or reordered, but Twilio itself drops caller audio when we read too slowly
(31930). That shows as a jump of ``timestamp``, and is counted; it is never waited for.

``media`` is 99 % of all messages, in both directions: in, it takes a short way that the table of
legal order would allow anyway; out, everything but the payload is prepared once a stream.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from typing import Literal

from audio.format import FRAME_MS, WIRE_RATE, Encoding
from gateway.errors import LocalWireError, RemoteWireError
from gateway.limits import PAYLOAD_BYTES_MAX
from gateway.wire.base import (
    CARRIER_ORDER,
    COUNT_MAX,
    JsonObject,
    OrderTable,
    Role,
    StreamState,
    first_text,
    language_hint,
    read_count,
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
from gateway.wire.sequel import Sequel

Dialect = Literal["standard", "nested"]

_NEW, _LIVE = StreamState.NEW, StreamState.LIVE

#: A repeated ``start`` of the same stream never gets here.
ORDER: OrderTable = CARRIER_ORDER

_ENCODINGS = {"audio/x-mulaw": Encoding.MULAW, "audio/x-alaw": Encoding.ALAW}
_STREAM_ID_KEYS = ("streamSid", "stream_sid", "streamId", "stream_id")
_STREAM_ID_KEY_SET = frozenset(_STREAM_ID_KEYS)
_CALL_ID_KEYS = ("callSid", "call_sid", "callId", "call_id")
_NONE = object()
_NOT_LIVE = "the stream is not live on this connection"
_INBOUND = ("inbound", None, "inbound_track")
#: What CallerAudio(...) comes to, without a Python call between.
_make_event = tuple.__new__
_SAMPLES_PER_MS = WIRE_RATE // 1000
#: Timestamps are rounded to ms; a lost frame makes a jump of at least 20.
_GAP_MS_MIN = FRAME_MS // 2


class TwilioWire:
    """The codec of one Twilio connection; see ``gateway.wire.base.Wire``."""

    __slots__ = (
        "_clear_message",
        "_is_nested",
        "_live_id",
        "_mark_head",
        "_media_head",
        "_next_timestamp_ms",
        "_sequel",
        "_state",
        "_stream_id",
        "media_gap_ms",
        "media_gaps",
        "messages_unknown",
    )

    #: Over TCP nothing is reordered.
    media_late = 0

    def __init__(self, dialect: Dialect = "standard") -> None:
        self._is_nested = dialect == "nested"
        self.messages_unknown = 0
        self.media_gaps = 0
        self.media_gap_ms = 0
        self._state = _NEW
        self._stream_id = ""
        #: The stream's id while it is live, else nothing that any message could hold.
        self._live_id: object = _NONE
        self._next_timestamp_ms = -1
        self._sequel = Sequel()
        self._media_head = b""
        self._mark_head = b""
        self._clear_message = b""

    def receive(self, message: str | bytes) -> list[Event]:
        """Read one text message; raise ``RemoteWireError`` (and change nothing) if it is wrong."""
        if type(message) is str:
            sequel = self._sequel
            timestamp_ms = sequel.next_timestamp_ms
            payload = sequel.take(message)
            if payload is not None:
                self._next_timestamp_ms = sequel.next_timestamp_ms
                return [_make_event(CallerAudio, (self._stream_id, payload, timestamp_ms))]
        return self._parse(message)

    def _parse(self, message: str | bytes) -> list[Event]:
        parsed = read_object(message)
        try:
            events = self._usual_media(parsed)
        except (KeyError, TypeError, ValueError):
            return self._receive_any(parsed)
        for event in events:
            if type(message) is str and isinstance(event, CallerAudio):
                self._sequel.foretell(message, event.payload, event.timestamp_ms)
        return events

    def media(self, stream_id: str, payload: bytes) -> bytes:
        """Make the message that plays ``payload`` (G.711, no header, any length)."""
        if stream_id != self._live_id:  # as _check_live: this is called for every frame
            raise LocalWireError(_NOT_LIVE)
        return self._media_head + b2a_base64(payload, newline=False) + b'"}}'

    def mark(self, stream_id: str, name: str) -> bytes:
        """Make a ``mark``: it returns when what was sent before it was played, or cleared."""
        self._check_live(stream_id)
        return self._mark_head + write_text(name) + b"}}"

    def clear(self, stream_id: str) -> bytes:
        """Make a ``clear``: Twilio drops its buffer and returns every mark still in it."""
        self._check_live(stream_id)
        return self._clear_message

    def hang_up(self, stream_id: str) -> None:
        """Twilio has no such message: its stream ends with the socket."""

    def ready(self, stream_id: str) -> None:
        """Twilio has no such message."""

    def transcript(self, stream_id: str, role: Role, text: str, language: str = "") -> None:
        """Twilio has no such message."""

    def error(self, stream_id: str, message: str) -> None:
        """Twilio has no such message."""

    def _receive_any(self, parsed: JsonObject) -> list[Event]:
        event = parsed.get("event")
        if not isinstance(event, str):
            raise RemoteWireError("the message has no event", kind="no-event")
        found = parsed.get(event)
        body = found if isinstance(found, dict) else {}
        if (self._state, event) not in ORDER:
            self.messages_unknown += 1
            return []
        stream_id = self._identify(parsed, body)
        if event == "start" and stream_id == self._stream_id != "":
            return []
        taken = step(ORDER, self._state, event, stream_id)
        if taken.ignored:
            return []
        events = self._take(event, stream_id, body)
        self._state = taken.state
        self._live_id = self._stream_id if taken.state is _LIVE else _NONE
        if taken.state is not _LIVE:
            self._sequel.forget()
        elif event != "media":
            self._sequel.counted(read_count(parsed.get("sequenceNumber")))
        return events

    def _take(self, event: str, stream_id: str, body: JsonObject) -> list[Event]:
        if event == "start":
            return self._on_start(read_id(stream_id, "streamSid"), body)
        if stream_id != self._stream_id:
            raise RemoteWireError("streamSid is of another stream", kind="wrong-stream")
        if event == "media":
            return self._on_media(body)
        if event == "mark":
            return [MarkPlayed(stream_id, read_mark(body.get("name"), stream_id))]
        if event == "dtmf":
            return [Digit(stream_id, read_digit(body.get("digit"), stream_id))]
        return [StreamStopped(stream_id)]

    def _identify(self, parsed: JsonObject, body: JsonObject) -> str:
        """Find the stream's id, beside ``event`` or in the body; by default it is the bound one."""
        outer = first_text(parsed, _STREAM_ID_KEYS)
        inner = first_text(body, _STREAM_ID_KEYS)
        if outer and inner and outer != inner:
            raise RemoteWireError("the message names two streams", kind="wrong-stream")
        return outer or inner or self._stream_id

    def _on_start(self, stream_id: str, body: JsonObject) -> list[Event]:
        # Twilio always names the call; a test client that does not has one call a stream.
        call_id = read_id(first_text(body, _CALL_ID_KEYS) or stream_id, "callSid")
        encoding = _read_encoding(body.get("mediaFormat"), stream_id)
        parameters = read_parameters(body.get("customParameters"), stream_id)
        hint = parameters.get("languageHint") or parameters.get("language", "")
        quoted = write_text(stream_id)
        self._stream_id = stream_id
        inner = b'"streamSid":' + quoted + b"," if self._is_nested else b""
        head = b',"streamSid":' + quoted
        self._media_head = b'{"event":"media"' + head + b',"media":{' + inner + b'"payload":"'
        self._mark_head = b'{"event":"mark"' + head + b',"mark":{' + inner + b'"name":'
        self._clear_message = b'{"event":"clear","streamSid":' + quoted + b"}"
        return [StreamStarted(stream_id, call_id, encoding, language_hint(hint), parameters)]

    def _usual_media(self, parsed: JsonObject) -> list[Event]:
        """Read caller audio as Twilio writes it; KeyError, TypeError, ValueError if it is not."""
        if parsed["event"] != "media" or parsed["streamSid"] != self._live_id:
            raise KeyError
        body: JsonObject = parsed["media"]  # type: ignore[assignment]  # else a TypeError
        if body["track"] != "inbound" or not _STREAM_ID_KEY_SET.isdisjoint(body):
            raise KeyError
        text: str = body["payload"]  # type: ignore[assignment]  # else a TypeError
        payload = a2b_base64(text, strict_mode=True)
        size = len(payload)
        # Strict mode lets superfluous padding pass.
        if not 0 < size <= PAYLOAD_BYTES_MAX or len(text) != (size + 2) // 3 * 4:
            raise ValueError
        timestamp_ms = int(body["timestamp"])  # type: ignore[call-overload]  # else a TypeError
        return self._audio(payload, timestamp_ms)

    def _on_media(self, body: JsonObject) -> list[Event]:
        if body.get("track") not in _INBOUND:
            return []
        payload = read_payload(body.get("payload"), self._stream_id)
        return self._audio(payload, read_count(body.get("timestamp"))) if payload else []

    def _audio(self, payload: bytes, timestamp_ms: int) -> list[Event]:
        if not 0 <= timestamp_ms <= COUNT_MAX:
            return [CallerAudio(self._stream_id, payload, -1)]
        missing_ms = timestamp_ms - self._next_timestamp_ms
        if missing_ms >= _GAP_MS_MIN and self._next_timestamp_ms >= 0:
            self.media_gaps += 1
            self.media_gap_ms += missing_ms
        # Never backwards: after a repeated or late message the next one is no jump.
        next_timestamp_ms = timestamp_ms + len(payload) // _SAMPLES_PER_MS
        if next_timestamp_ms > self._next_timestamp_ms:
            self._next_timestamp_ms = next_timestamp_ms
        return [_make_event(CallerAudio, (self._stream_id, payload, timestamp_ms))]

    def _check_live(self, stream_id: str) -> None:
        if stream_id != self._live_id:
            raise LocalWireError(_NOT_LIVE)


def _read_encoding(media_format: object, stream_id: str) -> Encoding:
    """Read ``mediaFormat``; what is left out is mu-law, 8000, 1."""
    fields = {} if media_format is None else media_format
    if isinstance(fields, dict):
        name = fields.get("encoding", "audio/x-mulaw")
        rate = read_count(fields.get("sampleRate", WIRE_RATE))
        channels = read_count(fields.get("channels", 1))
        if isinstance(name, str) and name in _ENCODINGS and (rate, channels) == (WIRE_RATE, 1):
            return _ENCODINGS[name]
    raise RemoteWireError(
        "mediaFormat must be audio/x-mulaw or audio/x-alaw at 8000 Hz, one channel",
        kind="unsupported-format",
        stream_id=stream_id,
    )
