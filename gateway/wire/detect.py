"""Which protocol a new connection speaks: by its path, else by its first message. One port for all.

A path whose first segment is a wire's name (``/telnyx``, ``/twilio/<token>``) decides. Otherwise
carriers name their messages by ``event``, the plain protocol by ``type``; both keys at once are a
carrier's, since no message of ours has an ``event``. Telnyx writes its keys with underscores and
Twilio does not, but a ``connected`` has nothing to tell them by except ``protocol``, which is
Twilio's, and ``connected.connected``, which is Telnyx's. One with neither leaves it open: it says
nothing, and what follows is clearer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.errors import RemoteWireError
from gateway.wire import telnyx, twilio
from gateway.wire.base import JsonObject, Wire, read_object
from gateway.wire.plain import PlainWire

WireName = Literal["twilio", "telnyx", "plain"]


@dataclass(frozen=True, slots=True)
class Dialects:
    """What no carrier tells about the way it wants to be spoken to."""

    twilio: twilio.Dialect = "standard"
    telnyx_codec: telnyx.Codec = "PCMU"
    telnyx_byte_order: telnyx.L16Order = "big"


#: How to make the codec of a wire.
WIRES: Mapping[WireName, Callable[[Dialects], Wire]] = {
    "twilio": lambda dialects: twilio.TwilioWire(dialects.twilio),
    "telnyx": lambda dialects: telnyx.TelnyxWire(dialects.telnyx_codec, dialects.telnyx_byte_order),
    "plain": lambda _: PlainWire(),
}

_TELNYX_KEYS = frozenset({"stream_id", "sequence_number"})
_TELNYX_START_KEYS = frozenset({"call_control_id", "call_session_id", "media_format", "user_id"})
_TWILIO_KEYS = frozenset({"streamSid", "sequenceNumber"})
_TWILIO_START_KEYS = frozenset({"streamSid", "callSid", "accountSid", "mediaFormat", "tracks"})


def wire_of_path(target: str) -> WireName | None:
    """Tell the wire from the path of a connection's handshake; None = it does not say."""
    first = target.partition("?")[0].strip("/").partition("/")[0]
    return next((name for name in WIRES if name == first), None)


def detect(message: str | bytes) -> WireName | None:
    """Tell the wire from a connection's first message, which its codec has still to receive.

    None means that the message fits several and says nothing that a codec would miss: ask again
    with the next. Raises RemoteWireError for a message that belongs to none; the next message may
    do better.
    """
    parsed = read_object(message)
    event = parsed.get("event")
    if isinstance(event, str):
        return _connected(parsed) if event == "connected" else _carrier(event, parsed)
    if isinstance(parsed.get("type"), str):
        return "plain"
    raise RemoteWireError("the message has neither event nor type", kind="no-event")


def _connected(parsed: JsonObject) -> WireName | None:
    if "protocol" in parsed:
        return "twilio"
    return "telnyx" if isinstance(parsed.get("connected"), dict) else None


def _carrier(event: str, parsed: JsonObject) -> WireName:
    """Tell carriers apart by how they write what only they send."""
    found = parsed.get(event)
    body = found.keys() if isinstance(found, dict) else frozenset()
    if parsed.keys() & _TWILIO_KEYS or body & _TWILIO_START_KEYS:
        return "twilio"
    return "telnyx" if parsed.keys() & _TELNYX_KEYS or body & _TELNYX_START_KEYS else "twilio"
