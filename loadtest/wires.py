"""The two wires a caller can speak, as pure text in and out: Twilio Media Streams and plain.

A ``Wire`` says how audio is encoded; its ``open_stream`` makes the message side of one call. Both
give every server message as a ``Received`` or raise ``WireError``. What is sent has the shapes and
key order of Twilio's documentation; what is received is held to the strictness of Twilio's warning
31951 (an extra or missing key, another stream's SID), because a real carrier would refuse it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from loadtest import mulaw
from loadtest.errors import WireError
from loadtest.schedule import FRAME_MS, FRAMES_PER_SECOND, NS_PER_SECOND, CallPlan

#: Twilio buffers ten minutes at most (warning 31931); no message may hold more than that.
PAYLOAD_BYTES_MAX = 8000 * 600


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
    """How one wire carries audio."""

    name: str
    rate: int
    bytes_per_sample: int
    headers: tuple[tuple[str, str], ...]

    @property
    def frame_samples(self) -> int:
        """Samples of 20 ms."""
        return self.rate // FRAMES_PER_SECOND

    @property
    def frame_bytes(self) -> int:
        """Payload bytes of 20 ms."""
        return self.frame_samples * self.bytes_per_sample

    @property
    def ns_per_byte(self) -> int:
        """How long a payload byte plays."""
        return NS_PER_SECOND // (self.rate * self.bytes_per_sample)

    def encode(self, samples: NDArray[np.int16]) -> bytes:
        """Payload bytes of int16 samples."""
        return mulaw.encode(samples) if self is TWILIO else samples.astype("<i2").tobytes()

    def decode(self, payload: bytes | bytearray | memoryview) -> NDArray[np.int16]:
        """Samples, int16, of payload bytes (a whole number of samples)."""
        return mulaw.decode(payload) if self is TWILIO else np.frombuffer(payload, "<i2")

    def open_stream(self, plan: CallPlan, parameters: Mapping[str, str]) -> Stream:
        """The messages of the planned call; ``parameters`` go where the wire has room for them."""
        if self is TWILIO:
            return TwilioStream(plan, parameters)
        return PlainStream(plan, parameters)


TWILIO = Wire("twilio", 8000, 1, (("User-Agent", "Twilio.TmeWs/1.0"),))
PLAIN = Wire("plain", 16000, 2, ())
WIRES = {wire.name: wire for wire in (TWILIO, PLAIN)}


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
            return Received(Kind.MEDIA, _audio(body.get("payload"), TWILIO))
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
                return Received(Kind.MEDIA, _audio(message.get("payload"), PLAIN))
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


def _audio(payload: object, wire: Wire) -> bytes:
    if not isinstance(payload, str):
        raise WireError("payload must be a string")
    try:
        audio = binascii.a2b_base64(payload, strict_mode=True)
    except ValueError as error:  # binascii.Error, or text that is not ASCII
        raise WireError("payload is not base64") from error
    if not audio or len(audio) % wire.bytes_per_sample or len(audio) > PAYLOAD_BYTES_MAX:
        raise WireError(f"payload of {len(audio)} bytes")
    return audio
