"""Which protocol a new connection speaks, by its first message; all wires share one port.

Carriers name their messages by ``event``, the plain protocol by ``type``. Both keys at once are a
carrier's, since no message of ours has an ``event``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from gateway.errors import RemoteWireError
from gateway.wire.base import JsonObject, Wire, read_object
from gateway.wire.plain import PlainWire
from gateway.wire.twilio import TwilioWire

WireName = Literal["twilio", "plain"]

#: How to make the codec of a wire.
WIRES: Mapping[WireName, Callable[[], Wire]] = {"twilio": TwilioWire, "plain": PlainWire}


def detect(message: str | bytes) -> WireName:
    """Tell the wire from a connection's first message, which its codec has still to receive.

    Raises RemoteWireError for a message that belongs to none; the next message may do better.
    """
    parsed = read_object(message)
    if isinstance(parsed.get("event"), str):
        return _carrier(parsed)
    if isinstance(parsed.get("type"), str):
        return "plain"
    raise RemoteWireError("the message has neither event nor type", kind="no-event")


def _carrier(_parsed: JsonObject) -> WireName:
    """Tell carriers apart. Each names its stream, or its version, in a way of its own."""
    return "twilio"
