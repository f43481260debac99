"""The shell around a :class:`~gateway.channel.Channel`: sockets, timers, bounds; no decisions.

One :class:`Connection` a peer, an ``asyncio.Protocol``: no task and no queue per message. What a
peer that never reads can make us hold is bounded by the transport's write buffer; beyond the bound
it is cut off.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol, cast

from typing_extensions import override

from gateway.channel import Channel, text_frame
from gateway.channel_events import (
    Binary,
    ChannelEvent,
    Closed,
    HttpRequest,
    HttpResponse,
    Upgrade,
)
from gateway.limits import (
    CLOSE_TIMEOUT_MS,
    HEAD_TIMEOUT_MS,
    IDLE_PING_MS,
    SEND_BUFFER_BYTES,
    WRITE_BUFFER_BYTES_MAX,
)


class Handler(Protocol):
    """What a listener's owner does with requests and messages. Called on the loop: be quick."""

    def request(self, request: HttpRequest) -> HttpResponse:
        """Answer a plain HTTP request."""
        ...

    def admit(self, connection: Connection, upgrade: Upgrade) -> HttpResponse | None:
        """Refuse an upgrade with a response, or None to let the peer in."""
        ...

    def opened(self, connection: Connection) -> Callable[[str | bytes], None]:
        """A WebSocket is open; what is returned is called with each whole message."""
        ...

    def closed(self, connection: Connection) -> None:
        """A WebSocket is gone; called once for each ``opened``."""
        ...


class Connection(asyncio.Protocol):
    """One peer on the public port."""

    __slots__ = (
        "_channel",
        "_handler",
        "_heard_something",
        "_loop",
        "_open",
        "_receive",
        "_timer",
        "_transport",
        "peer_host",
        "target",
    )

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._channel = Channel()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._open = False
        self._heard_something = False
        self._receive: Callable[[str | bytes], None] = _ignore
        self.peer_host = ""
        #: Path (and query) of the WebSocket's handshake.
        self.target = ""

    # asyncio's side

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock on the head of the first request."""
        # uvloop's transports are not subclasses of asyncio's, so no isinstance.
        self._transport = tcp = cast("asyncio.Transport", transport)
        name = transport.get_extra_info("peername")
        self.peer_host = name[0] if name else ""
        tcp.set_write_buffer_limits(high=WRITE_BUFFER_BYTES_MAX)
        _tune(transport.get_extra_info("socket"))
        self._set_timer(HEAD_TIMEOUT_MS, self._head_is_late)

    @override
    def data_received(self, data: bytes) -> None:
        """Feed the channel, hand out what it says."""
        self._heard_something = True
        text = self._channel.one_text(data)
        if text is not None:
            receive = self._receive
            receive(text)
            return
        todo = self._channel.receive(data)
        for event in todo:
            if type(event) is str:
                self._receive(event)
            elif isinstance(event, Binary):
                self._receive(event.payload)
            elif isinstance(event, HttpRequest):
                todo += self._channel.respond(self._handler.request(event))
                self._set_timer(HEAD_TIMEOUT_MS, self._head_is_late)
            elif isinstance(event, Upgrade):
                todo += self._upgrade(event)
            else:
                assert isinstance(event, Closed)
                self._say_closed()
        self._flush()

    @override
    def eof_received(self) -> bool:
        """The peer sends no more; nothing of ours makes sense half-open."""
        for event in self._channel.receive_eof():
            assert isinstance(event, Closed)
        self._flush()
        return False

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, whatever the reason."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._transport = None
        self._say_closed()
        # A call leaves no cycle behind: hundreds of them would wait for the collector.
        self._receive = _ignore
        self._channel.abandon()

    @override
    def pause_writing(self) -> None:
        """The peer reads nothing: every byte more would only be held."""
        self.abort()

    # The owner's side

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._open and self._channel.is_socket

    def send(self, payload: bytes) -> None:
        """Send one text message (UTF-8); dropped when the WebSocket is closing."""
        transport = self._transport
        if transport is not None and self._channel.is_socket:
            transport.write(text_frame(payload))

    def close(self, code: int, reason: str = "") -> None:
        """Close with a WebSocket code; the connection is cut if the peer does not answer."""
        if self._transport is None:
            return
        self._channel.close(code, reason)
        self._flush()
        self._set_timer(CLOSE_TIMEOUT_MS, self.abort)

    def abort(self) -> None:
        """Cut the connection."""
        if self._transport is not None:
            self._transport.abort()

    # Inside

    def _upgrade(self, upgrade: Upgrade) -> list[ChannelEvent]:
        self.target = upgrade.target
        refusal = self._handler.admit(self, upgrade)
        if refusal is not None:
            self._channel.refuse(refusal)
            return []
        events = self._channel.accept()
        self._flush()  # before any answer to messages that came along
        if self._channel.is_socket:
            self._open = True
            self._set_timer(IDLE_PING_MS, self._ask_for_life)
            self._receive = self._handler.opened(self)
        return events

    def _flush(self) -> None:
        transport = self._transport
        if transport is None:
            return
        output = self._channel.take_output()
        if output:
            transport.writelines(output)
        if self._channel.is_over:
            transport.close()
            self._set_timer(CLOSE_TIMEOUT_MS, self.abort)

    def _say_closed(self) -> None:
        if self._open:
            self._open = False
            self._handler.closed(self)

    def _set_timer(self, delay_ms: int, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(delay_ms / 1000, callback)

    def _head_is_late(self) -> None:
        self._channel.head_timeout()
        self._flush()
        if not self._channel.is_over:
            self.abort()

    def _ask_for_life(self) -> None:
        if not self._heard_something:
            self.abort()  # silent for a whole period although it was pinged
            return
        self._heard_something = False
        self._channel.ping()
        self._flush()
        self._set_timer(IDLE_PING_MS, self._ask_for_life)


def _ignore(message: str | bytes) -> None:
    """Nobody is there yet."""


def _tune(sock: socket.socket | None) -> None:
    """Send frames at once, and notice a peer that does not take them."""
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, CLOSE_TIMEOUT_MS)
