"""The wires a caller can speak, as pure text in and out: Twilio Media Streams, Telnyx and plain.

A ``Wire`` says how audio is encoded; its ``open_stream`` makes the message side of one call. Both
give every server message as a ``Received`` or raise ``WireError``. What is sent has the shapes and
key order of Twilio's documentation; what is received is held to the strictness of Twilio's warning
31951 (an extra or missing key, another stream's SID), because a real carrier would refuse it;
likewise Telnyx's, which plays no chunk shorter than 20 ms.
"""

from __future__ import annotations

import base64
import binascii
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple, Protocol

import orjson

from loadtest.encodings import ENCODINGS, PCM16, PCMU, Encoding
from loadtest.errors import UsageError, WireError
from loadtest.schedule import FRAME_MS, FRAMES_PER_SECOND, CallPlan

#: Twilio buffers ten minutes at most (warning 31931); no message may hold more than that.
FRAMES_MAX = 600 * FRAMES_PER_SECOND
#: Telnyx takes chunks of 20 ms to 30 s.
TELNYX_FRAMES_MAX = 30 * FRAMES_PER_SECOND


class Kind(IntEnum):
    """What a server message is."""

    MEDIA = 0
    MARK = 1
    CLEAR = 2
    READY = 3
    TRANSCRIPT = 4
    ERROR = 5


class Received(NamedTuple):
    """One server message: audio in ``payload``, a mark's name, transcript or error in ``text``."""

    kind: Kind
    payload: bytes = b""
    text: str = ""
    role: str = ""


class Stream(Protocol):
    """The messages of one call."""

    #: The server says when it is ready for audio; otherwise audio may follow the opening at once.
    waits_for_ready: bool

    def opening(self) -> list[bytes]:
        """What is sent first."""
        ...

    def media(self, frame: int, payload: bytes) -> bytes:
        """Frame number ``frame`` with its base64 payload."""
        ...

    def mark(self, name: str) -> bytes:
        """The acknowledgement of a mark."""
        ...

    def key(self, digit: str) -> bytes:
        """The caller presses a key."""
        ...

    def stop(self) -> bytes:
        """The end of the call."""
        ...

    def receive(self, text: bytes | memoryview) -> Received:
        """Read one server message; raises WireError."""
        ...


@dataclass(frozen=True, slots=True)
class Wire:
    """How one wire carries audio: what the caller says, and what it hears, at one rate."""

    name: str
    caller: Encoding
    assistant: Encoding
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def rate(self) -> int:
        """Samples in a second, in both directions."""
        return self.caller.rate

    @property
    def frame_samples(self) -> int:
        """Samples of 20 ms."""
        return self.caller.frame_samples

    @property
    def frame_bytes(self) -> int:
        """Payload bytes of 20 ms that the caller hears."""
        return self.assistant.frame_bytes

    @property
    def ns_per_byte(self) -> int:
        """How long a payload byte plays that the caller hears."""
        return self.assistant.ns_per_byte

    def open_stream(self, plan: CallPlan, parameters: Mapping[str, str]) -> Stream:
        """The messages of the planned call; ``parameters`` go where the wire has room for them."""
        if self.name == "telnyx":
            return TelnyxStream(plan, parameters, self)
        if self.name == "plain":
            return PlainStream(plan, parameters)
        return TwilioStream(plan, parameters)


TWILIO = Wire("twilio", PCMU, PCMU, (("User-Agent", "Twilio.TmeWs/1.0"),))
TELNYX = Wire("telnyx", PCMU, PCMU)
PLAIN = Wire("plain", PCM16, PCM16)
WIRES = {wire.name: wire for wire in (TWILIO, TELNYX, PLAIN)}


def make_wire(name: str, caller: str | None, assistant: str | None) -> Wire:
    """A wire with other encodings than its usual ones; raises UsageError where it cannot be."""
    wire = WIRES[name]
    if caller is None and assistant is None:
        return wire
    if wire is not TELNYX:
        raise UsageError(f"--encoding and --answer are for --wire telnyx, not {name}")
    said = ENCODINGS[caller or wire.caller.name]
    heard = ENCODINGS[assistant or wire.assistant.name]
    if said.rate != heard.rate:
        raise UsageError(
            f"{said.name} has {said.rate} samples a second, {heard.name} {heard.rate}: "
            "frames can only be told when both have the same"
        )
    return replace(wire, caller=said, assistant=heard)


class TwilioStream:
    """Twilio Media Streams, bidirectional, mu-law 8 kHz; numbers are JSON strings, as Twilio's."""

    waits_for_ready = False

    def __init__(self, plan: CallPlan, parameters: Mapping[str, str]) -> None:
        self._plan = plan
        self._account_sid = "AC" + plan.call_sid[2:]
        self._parameters = dict(parameters)
        self._sequence = 0
        self._chunk = 0
        self._media = (
            b'{"event":"media","sequenceNumber":"%d","media":{"track":"inbound","chunk":"%d",'
            b'"timestamp":"%d","payload":"%b"},"streamSid":"' + plan.stream_sid.encode() + b'"}'
        )

    def opening(self) -> list[bytes]:
        """``connected`` and ``start``."""
        start = {
            "accountSid": self._account_sid,
            "streamSid": self._plan.stream_sid,
            "callSid": self._plan.call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": self._parameters,
        }
        connected = {"event": "connected", "protocol": "Call", "version": "1.0.0"}
        return [orjson.dumps(connected), self._message("start", start)]

    def media(self, frame: int, payload: bytes) -> bytes:
        """``media``: the timestamp counts from the first frame of the stream."""
        self._sequence += 1
        self._chunk += 1
        return self._media % (self._sequence, self._chunk, frame * FRAME_MS, payload)

    def mark(self, name: str) -> bytes:
        """``mark``: playback has reached it, or it was cleared."""
        return self._message("mark", {"name": name})

    def key(self, digit: str) -> bytes:
        """``dtmf``."""
        return self._message("dtmf", {"track": "inbound_track", "digit": digit})

    def stop(self) -> bytes:
        """``stop``: the caller has hung up."""
        body = {"accountSid": self._account_sid, "callSid": self._plan.call_sid}
        return self._message("stop", body)

    def receive(self, text: bytes | memoryview) -> Received:
        """``media``, ``mark`` or ``clear``; raises WireError for what Twilio would refuse."""
        message = _object(text)
        event = message.get("event")
        if message.get("streamSid") != self._plan.stream_sid:
            raise WireError("streamSid is missing or another stream's")
        if event == "clear" and len(message) == 2:
            return Received(Kind.CLEAR)
        if (event != "media" and event != "mark") or len(message) != 3:
            raise WireError(f"keys {sorted(message)} with event {str(event)[:40]!r}")
        body = message.get(event)
        if not isinstance(body, dict) or len(body) != 1:
            raise WireError(f"{event} must be an object with one key")
        if event == "media":
            return Received(Kind.MEDIA, _audio(body.get("payload"), PCMU))
        return Received(Kind.MARK, text=_text(body, "name"))

    def _message(self, event: str, body: Mapping[str, object]) -> bytes:
        self._sequence += 1
        return orjson.dumps(
            {
                "event": event,
                "sequenceNumber": str(self._sequence),
                event: body,
                "streamSid": self._plan.stream_sid,
            }
        )


class TelnyxStream:
    """Telnyx media streaming in mode ``rtp``: chunks are numbered, those that get lost included."""

    waits_for_ready = False

    def __init__(self, plan: CallPlan, parameters: Mapping[str, str], wire: Wire) -> None:
        self._wire = wire
        self._parameters = dict(parameters)
        self._call_control_id = f"v3:{plan.call_sid}"
        self._stream_id = str(uuid.UUID(plan.stream_sid[2:]))
        self._others = 1
        self._media = (
            b'{"event":"media","sequence_number":"%d","media":{"track":"inbound","chunk":"%d",'
            b'"timestamp":"%d","payload":"%b"},"stream_id":"' + self._stream_id.encode() + b'"}'
        )

    def opening(self) -> list[bytes]:
        """``connected`` and ``start``."""
        name, _, rate = self._wire.caller.name.partition("/")
        form = {"encoding": name, "sample_rate": int(rate or 8000), "channels": 1}
        start = {
            "user_id": str(uuid.UUID(int=0)),
            "call_control_id": self._call_control_id,
            "from": self._parameters.get("from", "+15550100"),
            "to": self._parameters.get("to", "+15550199"),
            "custom_parameters": self._parameters,
            "media_format": form,
        }
        text = {"event": "start", "sequence_number": "1", "start": start}
        connected = {"event": "connected", "version": "1.0.0"}
        return [orjson.dumps(connected), orjson.dumps(text | {"stream_id": self._stream_id})]

    def media(self, frame: int, payload: bytes) -> bytes:
        """``media``: the first chunk is number 1, the timestamp counts from its beginning."""
        number = frame + 1
        return self._media % (number + self._others, number, frame * FRAME_MS, payload)

    def mark(self, name: str) -> bytes:
        """``mark``: playback has reached it, or it was cleared."""
        return self._message("mark", {"name": name})

    def key(self, digit: str) -> bytes:
        """``dtmf``."""
        return self._message("dtmf", {"digit": digit})

    def stop(self) -> bytes:
        """``stop``: the caller has hung up."""
        return self._message("stop", {"call_control_id": self._call_control_id})

    def receive(self, text: bytes | memoryview) -> Received:
        """``media``, ``mark`` or ``clear``; raises WireError for what Telnyx would refuse."""
        message = _object(text)
        event = message.get("event")
        if event == "clear" and len(message) == 1:
            return Received(Kind.CLEAR)
        if (event != "media" and event != "mark") or len(message) != 2:
            raise WireError(f"keys {sorted(message)} with event {str(event)[:40]!r}")
        body = message.get(event)
        if not isinstance(body, dict) or len(body) != 1:
            raise WireError(f"{event} must be an object with one key")
        if event == "mark":
            return Received(Kind.MARK, text=_text(body, "name"))
        heard = self._wire.assistant
        audio = _audio(body.get("payload"), heard, TELNYX_FRAMES_MAX)
        if len(audio) < heard.frame_bytes:
            raise WireError(f"a chunk of less than 20 ms: {len(audio)} bytes")
        return Received(Kind.MEDIA, audio)

    def _message(self, event: str, body: Mapping[str, object]) -> bytes:
        self._others += 1
        return orjson.dumps({"event": event, event: body, "stream_id": self._stream_id})


class PlainStream:
    """The plain wire: typed JSON messages, 16 kHz PCM16 both ways; parameters go into ``init``."""

    waits_for_ready = True

    def __init__(self, plan: CallPlan, parameters: Mapping[str, str]) -> None:
        self._call_id = plan.call_sid
        self._parameters = dict(parameters)
        self._media = b'{"type":"audio","callId":"' + self._call_id.encode() + b'","payload":"%b"}'

    def opening(self) -> list[bytes]:
        """``init``."""
        init = {"type": "init", "callId": self._call_id, "languageHint": "en"}
        return [orjson.dumps(init | self._parameters)]

    def media(self, frame: int, payload: bytes) -> bytes:
        """``audio``; the plain wire does not number frames."""
        assert frame >= 0
        return self._media % payload

    def mark(self, name: str) -> bytes:
        """``mark``."""
        return orjson.dumps({"type": "mark", "callId": self._call_id, "name": name})

    def key(self, digit: str) -> bytes:
        """``dtmf``."""
        return orjson.dumps({"type": "dtmf", "callId": self._call_id, "digit": digit})

    def stop(self) -> bytes:
        """``stop``."""
        return orjson.dumps({"type": "stop", "callId": self._call_id})

    def receive(self, text: bytes | memoryview) -> Received:
        """Any message of the plain wire; raises WireError."""
        message = _object(text)
        if message.get("callId") != self._call_id:
            raise WireError("callId is missing or another call's")
        match message.get("type"):
            case "audio_out":
                return Received(Kind.MEDIA, _audio(message.get("payload"), PCM16))
            case "mark":
                return Received(Kind.MARK, text=_text(message, "name"))
            case "clear":
                return Received(Kind.CLEAR)
            case "ready":
                return Received(Kind.READY)
            case "transcript":
                said, role = _text(message, "text"), _text(message, "role")
                return Received(Kind.TRANSCRIPT, text=said, role=role)
            case "error":
                return Received(Kind.ERROR, text=_text(message, "message"))
            case other:
                raise WireError(f"unknown type {str(other)[:40]!r}")


def payload_of(frame: bytes) -> bytes:
    """Encoded audio as it stands in a message."""
    return base64.b64encode(frame)


def _object(text: bytes | memoryview) -> dict[str, object]:
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise WireError("not JSON") from error
    if not isinstance(message, dict):
        raise WireError("not a JSON object")
    return message


def _text(body: Mapping[str, object], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str):
        raise WireError(f"{key} must be a string")
    return value


def _audio(payload: object, encoding: Encoding, frames_max: int = FRAMES_MAX) -> bytes:
    if not isinstance(payload, str):
        raise WireError("payload must be a string")
    try:
        audio = binascii.a2b_base64(payload, strict_mode=True)
    except ValueError as error:  # binascii.Error, or text that is not ASCII
        raise WireError("payload is not base64") from error
    size = len(audio)
    if not size or size % encoding.unit or size > frames_max * encoding.frame_bytes:
        raise WireError(f"payload of {size} bytes")
    return audio
