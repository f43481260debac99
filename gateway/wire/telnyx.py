"""Telnyx media streaming: one stream a connection, messages as JSON text, in no certain order.

In: ``connected``, ``start``, ``media``, ``dtmf``, ``mark``, ``error``, ``stop``; out: ``media``,
``mark``, ``clear``, which name no stream
(https://developers.telnyx.com/docs/voice/programmable-voice/media-streaming).

Two things are not as with Twilio. Telnyx does not promise order: media are put in order by
``chunk`` (``gateway.wire.in_order``), also those that overtake ``start``; what is still missing
then was lost, which is counted and never waited for. The other tracks' media are ignored, their
chunks too: should both tracks share one count, every frame waits as long as the window; so ask for
the caller's alone (``stream_track`` ``inbound_track``, the default).

And the two directions differ: the caller comes in whatever the telephone network agreed on, and
``start.media_format`` says what that is; we answer in what the stream was asked for
(``stream_bidirectional_codec`` in mode ``rtp``), which no message tells, hence a setting. Opus and
AMR-WB are refused. L16 is taken to be in network order (RFC 2586) unless the setting says other:
Telnyx's documentation does not.

Telnyx plays chunks of 20 ms to 30 s: a shorter one is refused here, as our own mistake.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterable, Mapping
from typing import Literal

from audio.format import (
    FRAME_MS,
    PCM_BYTES_PER_SAMPLE,
    PCM_RATE,
    WIRE_FORMATS,
    WIRE_RATE,
    Encoding,
)
from gateway.errors import LocalWireError, RemoteWireError
from gateway.wire.base import (
    CARRIER_ORDER,
    ID_CHARS_MAX,
    JsonObject,
    OrderTable,
    Role,
    Step,
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
    CarrierError,
    Digit,
    Event,
    MarkPlayed,
    StreamStarted,
    StreamStopped,
)
from gateway.wire.in_order import WINDOW, InOrder

Codec = Literal["PCMU", "PCMA", "G722", "L16/8000", "L16/16000"]
L16Order = Literal["big", "little"]

_NEW, _LIVE, _ENDED = StreamState.NEW, StreamState.LIVE, StreamState.ENDED

#: A repeated ``start`` of the same stream never gets here.
ORDER: OrderTable = {
    **CARRIER_ORDER,
    (_NEW, "media"): Step(_NEW),  # it has overtaken the start: a few are kept
    (_NEW, "error"): Step(_NEW),
    (_LIVE, "error"): Step(_LIVE),
    (_ENDED, "error"): Step(_ENDED),
}

#: Telnyx has published names of both kinds.
_CODECS = {
    "PCMU": "PCMU",
    "AUDIO/X-MULAW": "PCMU",
    "PCMA": "PCMA",
    "AUDIO/X-ALAW": "PCMA",
    "G722": "G722",
    "L16": "L16",
    "AUDIO/L16": "L16",
}
_ENCODINGS: Mapping[tuple[str, int], Encoding] = {
    ("PCMU", WIRE_RATE): Encoding.MULAW,
    ("PCMA", WIRE_RATE): Encoding.ALAW,
    ("G722", WIRE_RATE): Encoding.G722,  # its RTP clock (RFC 3551), though it samples at 16 kHz
    ("G722", PCM_RATE): Encoding.G722,
    ("L16", WIRE_RATE): Encoding.PCM16_8K_BE,
    ("L16", PCM_RATE): Encoding.PCM16_BE,
}
_LITTLE = {Encoding.PCM16_BE: Encoding.PCM16, Encoding.PCM16_8K_BE: Encoding.PCM16_8K}
_INBOUND = ("inbound", None, "inbound_track")
_CALL_ID_KEYS = ("call_control_id", "call_session_id", "call_leg_id")
_CHUNK_FIRST = 1
_CLEAR = b'{"event":"clear"}'
#: A hole in the chunks whose time is shorter was filled by another track's.
_GAP_MS_MIN = FRAME_MS // 2

Audio = tuple[bytes, int]


class TelnyxWire:
    """The codec of one Telnyx connection; see ``gateway.wire.base.Wire``."""

    def __init__(self, codec: Codec = "PCMU", l16_order: L16Order = "big") -> None:
        self.messages_unknown = 0
        self.media_gaps = 0
        self.media_gap_ms = 0
        self._is_little = l16_order == "little"
        name, _, rate = codec.partition("/")
        self._answer = self._ordered(_ENCODINGS[name, int(rate or WIRE_RATE)])
        self._answer_bytes_min = WIRE_FORMATS[self._answer].frame_bytes
        self._caller = WIRE_FORMATS[Encoding.MULAW]
        self._caller_sample_bytes = 1
        self._state = _NEW
        self._stream_id = ""
        #: Media that overtook the start: stream id, chunk, audio.
        self._early: list[tuple[str, int, Audio]] = []
        self._order: InOrder[Audio] = InOrder(_CHUNK_FIRST)
        self._next_chunk = _CHUNK_FIRST
        self._next_timestamp_ms = -1

    @property
    def media_late(self) -> int:
        """Media that came too late to be put in order, or twice."""
        return self._order.late

    def receive(self, message: str | bytes) -> list[Event]:
        """Read one text message; raise ``RemoteWireError`` (and change nothing) if it is wrong."""
        parsed = read_object(message)
        event = parsed.get("event")
        if not isinstance(event, str):
            raise RemoteWireError("the message has no event", kind="no-event")
        if (self._state, event) not in ORDER:
            self.messages_unknown += 1
            return []
        found = parsed.get(event)
        body = found if isinstance(found, dict) else {}
        stream_id = self._identify(parsed, body)
        if event == "start" and stream_id == self._stream_id != "":
            return []
        taken = step(ORDER, self._state, event, stream_id)
        if taken.ignored:
            return []
        events = self._take(event, stream_id, body)
        self._state = taken.state
        return events

    def media(self, stream_id: str, payload: bytes) -> bytes:
        """Make the message that plays ``payload``: 20 ms or more, in the codec asked for."""
        self._check_live(stream_id)
        if len(payload) < self._answer_bytes_min:
            raise LocalWireError("Telnyx takes no chunk of less than 20 ms")
        audio = b2a_base64(payload, newline=False)
        return b'{"event":"media","media":{"payload":"' + audio + b'"}}'

    def mark(self, stream_id: str, name: str) -> bytes:
        """Make a ``mark``: it returns when what was sent before it was played."""
        self._check_live(stream_id)
        return b'{"event":"mark","mark":{"name":' + write_text(name) + b"}}"

    def clear(self, stream_id: str) -> bytes:
        """Make a ``clear``: Telnyx drops its queue."""
        self._check_live(stream_id)
        return _CLEAR

    def hang_up(self, stream_id: str) -> None:
        """Telnyx has no such message: its stream ends with the socket."""

    def ready(self, stream_id: str) -> None:
        """Telnyx has no such message."""

    def transcript(self, stream_id: str, role: Role, text: str, language: str = "") -> None:
        """Telnyx has no such message."""

    def error(self, stream_id: str, message: str) -> None:
        """Telnyx has no such message."""

    def _take(self, event: str, stream_id: str, body: JsonObject) -> list[Event]:
        if event == "media":
            return self._on_media(stream_id, body)
        if event == "error":
            return [_carrier_error(self._stream_id, body)]
        if event == "start":
            return self._on_start(read_id(stream_id, "stream_id"), body)
        if event == "mark":
            return [MarkPlayed(stream_id, read_mark(body.get("name"), stream_id))]
        if event == "dtmf":
            return [Digit(stream_id, read_digit(body.get("digit"), stream_id))]
        return [*self._hear(self._order.rest()), StreamStopped(stream_id)]

    def _identify(self, parsed: JsonObject, body: JsonObject) -> str:
        """Find the stream's id; by default it is the bound one.

        Telnyx has published ids in both cases: they are compared without it.
        """
        named = first_text(parsed, ("stream_id",)) or first_text(body, ("stream_id",))
        if not named or named.lower() == self._stream_id.lower():
            return self._stream_id
        if self._state is _LIVE and parsed["event"] != "start":
            raise RemoteWireError("stream_id is of another stream", kind="wrong-stream")
        return named

    def _on_start(self, stream_id: str, body: JsonObject) -> list[Event]:
        call_id = read_id(first_text(body, _CALL_ID_KEYS) or stream_id, "call_control_id")
        encoding = self._read_encoding(body.get("media_format"), stream_id)
        parameters = _read_custom(body.get("custom_parameters"), stream_id)
        parameters |= read_parameters({k: body.get(k) for k in ("from", "to")}, stream_id)
        hint = parameters.get("languageHint") or parameters.get("language", "")
        self._stream_id = stream_id
        self._caller = wire = WIRE_FORMATS[encoding]
        is_linear = wire.byte_order is not None and not wire.stateful
        self._caller_sample_bytes = PCM_BYTES_PER_SAMPLE if is_linear else 1
        answer = None if self._answer is encoding else self._answer
        hint = language_hint(hint)
        started = StreamStarted(stream_id, call_id, encoding, hint, parameters, answer)
        early, self._early = self._early, []
        events: list[Event] = [started]
        for named, chunk, audio in early:
            if named.lower() in ("", stream_id.lower()) and self._is_whole(audio[0]):
                events += self._put(chunk, audio)
        return events

    def _on_media(self, stream_id: str, body: JsonObject) -> list[Event]:
        if body.get("track") not in _INBOUND:
            return []
        payload = read_payload(body.get("payload"), stream_id)
        chunk, audio = read_count(body.get("chunk")), (payload, read_count(body.get("timestamp")))
        if self._state is _NEW:
            if len(self._early) == WINDOW:
                raise RemoteWireError("audio came before its call began", kind="media-before-start")
            self._early.append((stream_id, chunk, audio))
            return []
        if not self._is_whole(payload):
            raise RemoteWireError(
                "audio must be whole 16-bit samples, an even number of bytes",
                kind="odd-payload",
                stream_id=stream_id,
            )
        return self._put(chunk, audio)

    def _is_whole(self, payload: bytes) -> bool:
        return len(payload) % self._caller_sample_bytes == 0

    def _put(self, chunk: int, audio: Audio) -> list[Event]:
        if chunk < 0:  # it cannot be put in order
            return self._hear([(self._next_chunk - 1, audio)])
        return self._hear(self._order.take(chunk, audio))

    def _hear(self, ready: Iterable[tuple[int, Audio]]) -> list[Event]:
        """Hand on what is in order, and count what is missing before it."""
        events: list[Event] = []
        for chunk, (payload, timestamp_ms) in ready:
            duration_ms = len(payload) * FRAME_MS // self._caller.frame_bytes
            if chunk > self._next_chunk:
                self._count_gap(chunk - self._next_chunk, duration_ms, timestamp_ms)
            self._next_chunk = chunk + 1
            self._next_timestamp_ms = timestamp_ms + duration_ms if timestamp_ms >= 0 else -1
            if payload:
                events.append(CallerAudio(self._stream_id, payload, timestamp_ms))
        return events

    def _count_gap(self, chunks: int, duration_ms: int, timestamp_ms: int) -> None:
        missing_ms = chunks * duration_ms
        if timestamp_ms >= 0 and self._next_timestamp_ms >= 0:
            missing_ms = timestamp_ms - self._next_timestamp_ms
        if missing_ms >= _GAP_MS_MIN:
            self.media_gaps += 1
            self.media_gap_ms += missing_ms

    def _read_encoding(self, media_format: object, stream_id: str) -> Encoding:
        """Read ``media_format``; what is left out is PCMU, 8000, 1."""
        fields = {} if media_format is None else media_format
        if isinstance(fields, dict):
            name = fields.get("encoding", "PCMU")
            rate = read_count(fields.get("sample_rate", WIRE_RATE))
            channels = read_count(fields.get("channels", 1))
            codec = _CODECS.get(name.upper(), "") if isinstance(name, str) else ""
            if channels == 1 and (codec, rate) in _ENCODINGS:
                return self._ordered(_ENCODINGS[codec, rate])
        raise RemoteWireError(
            "media_format must be PCMU, PCMA, G722 or L16 at 8000 Hz (L16: or 16000), one channel",
            kind="unsupported-format",
            stream_id=stream_id,
        )

    def _ordered(self, encoding: Encoding) -> Encoding:
        return _LITTLE.get(encoding, encoding) if self._is_little else encoding

    def _check_live(self, stream_id: str) -> None:
        if self._state is not _LIVE or stream_id != self._stream_id:
            raise LocalWireError(f"stream {stream_id!r} is not live on this connection")


def _read_custom(value: object, stream_id: str) -> dict[str, str]:
    """Read the custom parameters: an object, or, as the commands write them, names with values."""
    if isinstance(value, list):
        pairs = [pair for pair in value if isinstance(pair, dict)]
        value = {p["name"]: p.get("value") for p in pairs if isinstance(p.get("name"), str)}
    return read_parameters(value, stream_id)


def _carrier_error(stream_id: str, body: JsonObject) -> CarrierError:
    """Read what Telnyx finds wrong with us: ``code`` has been seen as text and as a number."""
    code, title = body.get("code"), body.get("title")
    number = read_count(code)
    return CarrierError(
        stream_id,
        str(number) if number >= 0 else "",
        title[:ID_CHARS_MAX] if isinstance(title, str) else "",
    )
