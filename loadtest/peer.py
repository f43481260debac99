"""One WebSocket to the server; the only file that knows the WebSocket library (picows)."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from typing import Protocol

from picows import (
    WSCloseCode,
    WSError,
    WSFrame,
    WSInvalidStatusError,
    WSListener,
    WSMsgType,
    WSTransport,
    ws_connect,
)
from typing_extensions import override

HANDSHAKE_SECONDS_MAX = 5.0
MESSAGE_BYTES_MAX = 16 * 1024 * 1024

_GOODBYE = f"closed with {WSCloseCode.OK.value}"
_TEXT = WSMsgType.TEXT
_TEXT_LIKE = (WSMsgType.TEXT, WSMsgType.CONTINUATION)


class ConnectError(Exception):
    """The handshake failed; ``reachable`` is False when there was no one to shake hands with."""

    def __init__(self, reason: str, *, reachable: bool) -> None:
        super().__init__(reason)
        self.reachable = reachable


class Sink(Protocol):
    """Who a peer tells what it receives."""

    def opened(self, peer: Peer) -> None:
        """The handshake is complete."""
        ...

    def message(self, text: bytes | memoryview) -> None:
        """A whole text message; the view is valid during the call only."""
        ...

    def malformed(self, what: str) -> None:
        """A message of a kind that the wires do not have."""
        ...

    def closed(self, reason: str) -> None:
        """The connection is gone; ``reason`` is the server's close code, if it sent one."""
        ...


class Peer(WSListener):
    """The client end of one connection."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._transport: WSTransport | None = None
        self._fragments = bytearray()
        self._reason = "connection lost"
        #: True while the server does not read as fast as we send.
        self.congested = False
        #: Our end of the connection, once it is up: what tells it from others in the system's list.
        self.local_port = 0

    @override
    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is complete."""
        self._transport = transport
        self.local_port = int(transport.underlying_transport.get_extra_info("sockname")[1])
        self._sink.opened(self)

    @override
    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Hand whole text messages on; answer a close."""
        kind = frame.msg_type
        if kind is _TEXT and frame.fin and not self._fragments:
            self._sink.message(frame.get_payload_as_memoryview())
        elif kind in _TEXT_LIKE:
            self._fragment(frame)
        elif kind is WSMsgType.CLOSE:
            self._reason = _close_reason(frame.get_payload_as_bytes())
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()
        elif kind is WSMsgType.BINARY:
            self._sink.malformed("binary message")

    @override
    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """The connection is gone."""
        self._transport = None
        self._sink.closed(self._reason)

    @override
    def pause_writing(self) -> None:
        """The send buffer is full."""
        self.congested = True

    @override
    def resume_writing(self) -> None:
        """The server has read enough."""
        self.congested = False

    def send(self, text: bytes) -> None:
        """Send one text message; does nothing when the connection is gone."""
        if self._transport is not None:
            self._transport.send(_TEXT, text)

    def close(self) -> None:
        """Begin the closing handshake."""
        if self._transport is not None:
            self._transport.send_close(WSCloseCode.OK)

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    def _fragment(self, frame: WSFrame) -> None:
        self._fragments += frame.get_payload_as_memoryview()
        if len(self._fragments) > MESSAGE_BYTES_MAX:
            self._reason = "message too long"
            self.abort()
        elif frame.fin:
            text = bytes(self._fragments)
            self._fragments.clear()
            self._sink.message(text)


async def connect(url: str, headers: Sequence[tuple[str, str]], sink: Sink) -> Peer:
    """Open a WebSocket; raises ConnectError."""
    peer = Peer(sink)
    try:
        _, listener = await ws_connect(
            lambda: peer,
            url,
            extra_headers=headers,
            max_redirects=0,
            max_frame_size=MESSAGE_BYTES_MAX,
            websocket_handshake_timeout=HANDSHAKE_SECONDS_MAX,
        )
    except TimeoutError as error:
        reason = f"no handshake within {HANDSHAKE_SECONDS_MAX:g} s"
        raise ConnectError(reason, reachable=True) from error
    except OSError as error:
        raise ConnectError(_reason(error), reachable=False) from error
    except WSInvalidStatusError as error:
        status = error.response.status if error.response else None
        reason = f"HTTP {status.value} {status.phrase}" if status else str(error)
        raise ConnectError(reason, reachable=True) from error
    except WSError as error:
        raise ConnectError(str(error), reachable=True) from error
    if listener is None:  # picows tells nothing else when the server hangs up during the handshake
        raise ConnectError("the server hung up during the handshake", reachable=True)
    return peer


def is_goodbye(reason: str) -> bool:
    """Whether the server closed the connection as one does whose work is done."""
    return reason.partition(":")[0] == _GOODBYE


def _close_reason(payload: bytes) -> str:
    """The server's code and words (RFC 6455, 5.5.1)."""
    if len(payload) < 2:
        return "closed without a code"
    code, words = int.from_bytes(payload[:2], "big"), payload[2:].decode(errors="replace")
    return f"closed with {code}: {words}" if words else f"closed with {code}"


def _reason(error: OSError) -> str:
    """The system's words; asyncio's own repeat the address."""
    if isinstance(error, socket.gaierror) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)
