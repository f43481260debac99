"""What a session needs of a carrier's protocol, and what all codecs share.

A wire is Sans-I/O: the text of a WebSocket message in, typed events out; commands in, the text of
a message out. It holds no socket, clock or logger, so the same bytes always give the same events,
and a test needs nothing but strings. What is wrong with a message is said once, by
``RemoteWireError`` with a ``kind`` to count by; a message that raised has changed nothing, so the
caller of ``receive`` may count it and go on. What is odd but harmless (an event that the carrier
added since, a jump in its timestamps) is counted here as a plain integer and is not an error.

Which message may come when is data: a table from (state of the stream, kind of message) to a
``Step``. Codecs ask the table, they do not decide. Text is read as UTF-8; whether a WebSocket
message was marked as text is for the listener to check, which alone sees the opcode (its errors
have the kind ``binary``).
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from enum import IntEnum
from typing import Literal, NamedTuple, Protocol

import orjson

from gateway import limits
from gateway.errors import LocalWireError, RemoteWireError, WireFault
from gateway.wire.events import Event

Role = Literal["caller", "assistant"]
JsonObject = dict[str, object]

ID_CHARS_MAX = 256
#: Largest integer that every JSON peer can write exactly; it fits the rings' int64 cells.
COUNT_MAX = 2**53
LANGUAGE_HINTS = frozenset({"auto", "ar", "en", "ru"})
DIGITS = frozenset("0123456789*#ABCDabcd")
#: Base64 writes three bytes as four characters, the last group filled up.
PAYLOAD_CHARS_MAX = (limits.PAYLOAD_BYTES_MAX + 2) // 3 * 4


class Wire(Protocol):
    """One connection's codec. Commands raise ``LocalWireError`` for a stream that is not live."""

    #: Messages of a kind that this codec does not know; they are ignored.
    messages_unknown: int
    #: Jumps in the carrier's timestamps, and the caller audio (ms) that was lost in them.
    media_gaps: int
    media_gap_ms: int

    @property
    def media_late(self) -> int:
        """Caller audio dropped because it came too late to be put in order, or twice."""
        ...

    def receive(self, message: str | bytes) -> list[Event]:
        """Read one text message; raise ``RemoteWireError`` (and change nothing) if it is wrong."""
        ...

    def media(self, stream_id: str, payload: bytes) -> bytes:
        """Make the message that plays ``payload``, audio in the encoding of the stream."""
        ...

    def mark(self, stream_id: str, name: str) -> bytes:
        """Make the message that asks to be told when everything sent so far was played."""
        ...

    def clear(self, stream_id: str) -> bytes:
        """Make the message that drops what was sent and not played yet."""
        ...

    def hang_up(self, stream_id: str) -> bytes | None:
        """Forget a call that we end; make the message that says so, None = there is none."""
        ...

    def ready(self, stream_id: str) -> bytes | None:
        """Make the message that says that the call is answered; None = this wire has none."""
        ...

    def transcript(self, stream_id: str, role: Role, text: str, language: str = "") -> bytes | None:
        """Make the message that shows what was said; None = this wire has none."""
        ...

    def error(self, stream_id: str, message: str) -> bytes | None:
        """Make the message that tells the peer its mistake (any stream or ""); None = has none."""
        ...


class StreamState(IntEnum):
    """How far a stream has come."""

    NEW = 0
    LIVE = 1
    ENDED = 2


class Step(NamedTuple):
    """What a message does: the stream's next state, or why it is refused, or that it is ignored."""

    state: StreamState
    fault: WireFault | None = None
    ignored: bool = False


#: The legal order of one wire's messages: (state, kind of message) -> step. Total over its kinds.
OrderTable = Mapping[tuple[StreamState, str], Step]

_NEW, _LIVE, _ENDED = StreamState.NEW, StreamState.LIVE, StreamState.ENDED

#: What carriers have in common; after ``stop``, stragglers are ignored.
CARRIER_ORDER: OrderTable = {
    (_NEW, "connected"): Step(_NEW, ignored=True),
    (_NEW, "start"): Step(_LIVE),
    (_NEW, "media"): Step(_NEW, fault="media-before-start"),
    (_NEW, "mark"): Step(_NEW, fault="before-start"),
    (_NEW, "dtmf"): Step(_NEW, fault="before-start"),
    (_NEW, "stop"): Step(_NEW, fault="before-start"),
    (_LIVE, "connected"): Step(_LIVE, ignored=True),
    (_LIVE, "start"): Step(_LIVE, fault="second-start"),
    (_LIVE, "media"): Step(_LIVE),
    (_LIVE, "mark"): Step(_LIVE),
    (_LIVE, "dtmf"): Step(_LIVE),
    (_LIVE, "stop"): Step(_ENDED),
    (_ENDED, "connected"): Step(_ENDED, ignored=True),
    (_ENDED, "start"): Step(_ENDED, fault="second-start"),
    (_ENDED, "media"): Step(_ENDED, ignored=True),
    (_ENDED, "mark"): Step(_ENDED, ignored=True),
    (_ENDED, "dtmf"): Step(_ENDED, ignored=True),
    (_ENDED, "stop"): Step(_ENDED, ignored=True),
}

_WHY: dict[WireFault, str] = {
    "media-before-start": "audio came before its call began",
    "before-start": "this came before its call began",
    "second-start": "a call has already begun",
}


def step(order: OrderTable, state: StreamState, kind: str, stream_id: str) -> Step:
    """Look up what a message of ``kind`` does in ``state``; raise what the table refuses."""
    found = order[state, kind]
    if found.fault is not None:
        raise RemoteWireError(_WHY[found.fault], kind=found.fault, stream_id=stream_id)
    return found


def read_object(message: str | bytes) -> JsonObject:
    """Parse a message, which must be one JSON object in UTF-8."""
    try:
        parsed: object = orjson.loads(message)
    except orjson.JSONDecodeError as error:
        raise RemoteWireError("the message is not JSON", kind="not-json") from error
    if not isinstance(parsed, dict):
        raise RemoteWireError("the message is not a JSON object", kind="not-json")
    return parsed


def write_text(value: object) -> bytes:
    """Write a JSON value; ``LocalWireError`` for text that has no UTF-8 (a lone surrogate)."""
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise LocalWireError("text cannot be written as JSON") from error


def read_id(value: object, name: str) -> str:
    """Check an id: a string of 1 to ``ID_CHARS_MAX`` printable characters."""
    if value is None or value == "":
        raise RemoteWireError(f"{name} is missing", kind="no-id")
    if not isinstance(value, str) or len(value) > ID_CHARS_MAX or not value.isprintable():
        raise RemoteWireError(
            f"{name} must be a string of at most {ID_CHARS_MAX} printable characters", kind="bad-id"
        )
    return value


def read_payload(value: object, stream_id: str) -> bytes:
    """Decode audio from strict base64 (RFC 4648), at most ``PAYLOAD_BYTES_MAX`` bytes of it."""
    if not isinstance(value, str):
        raise RemoteWireError("payload is missing", kind="bad-base64", stream_id=stream_id)
    if len(value) > PAYLOAD_CHARS_MAX:
        raise RemoteWireError(
            f"payload holds more than {limits.PAYLOAD_BYTES_MAX} bytes",
            kind="payload-too-big",
            stream_id=stream_id,
        )
    try:
        payload = binascii.a2b_base64(value, strict_mode=True)
    except ValueError as error:
        raise RemoteWireError(
            "payload is not base64", kind="bad-base64", stream_id=stream_id
        ) from error
    # Strict mode lets superfluous padding pass.
    if len(value) != (len(payload) + 2) // 3 * 4:
        raise RemoteWireError("payload is not base64", kind="bad-base64", stream_id=stream_id)
    return payload


def read_count(value: object) -> int:
    """Read a whole number that may be written as a string; -1 if it is none or out of range."""
    if not isinstance(value, (str, int)):
        return -1
    try:
        count = int(value)
    except ValueError:
        return -1
    return count if 0 <= count <= COUNT_MAX else -1


def read_digit(value: object, stream_id: str) -> str:
    """Check a key of the keypad; letters become upper case."""
    if not isinstance(value, str) or value not in DIGITS:
        raise RemoteWireError(
            "digit must be one of 0-9*#A-D", kind="bad-digit", stream_id=stream_id
        )
    return value.upper()


def read_mark(value: object, stream_id: str) -> str:
    """Check the name of a mark that came back."""
    if not isinstance(value, str) or not 0 < len(value) <= ID_CHARS_MAX:
        raise RemoteWireError("the mark has no name", kind="bad-mark", stream_id=stream_id)
    return value


def read_parameters(value: object, stream_id: str) -> dict[str, str]:
    """Read what the peer tells about its call: names with texts; numbers and truths become text."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RemoteWireError(
            "parameters must be an object", kind="bad-parameters", stream_id=stream_id
        )
    return {name: _parameter(text, stream_id) for name, text in value.items() if text is not None}


def _parameter(value: object, stream_id: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (int, float)):
        return orjson.dumps(value).decode()
    raise RemoteWireError(
        "a parameter must be a string", kind="bad-parameters", stream_id=stream_id
    )


def first_text(body: JsonObject, keys: tuple[str, ...]) -> str:
    """Return the first non-empty string among ``keys``, or ""."""
    for key in keys:
        value = body.get(key)
        if isinstance(value, str) and value:
            return value
    return ""


def language_hint(tag: str) -> str:
    """Reduce a language tag such as ``en-US`` to a hint we know, or "" (BCP 47, primary subtag)."""
    primary = tag.strip().lower().replace("_", "-").partition("-")[0]
    return primary if primary in LANGUAGE_HINTS else ""
