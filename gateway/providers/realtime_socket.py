"""One WebSocket to a server with the OpenAI Realtime API: the shell around the pure cores.

It connects within a deadline, sends what it is given in order, and gives the events that come.
Everything is bounded: the size of an event (the connection ends with 1009 above it), the events
that wait to be sent (a server that does not read is as good as gone), the time to connect and to
answer a ping. Compression is off, because audio in base64 hardly shrinks and it costs memory a
connection. A TLS context is made once a worker: reading the certificates takes 20 ms, which must
not happen on the loop while calls are up.

Errors become ``ProviderError`` with a text of ours: the library's may quote headers, key included.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from gateway.errors import ConfigurationError, ProviderError
from gateway.providers.realtime_events import GarbageError, JsonObject, read_event

CONNECT_TIMEOUT_MS = 2_000
EVENT_BYTES_MAX = 1024 * 1024
#: 20 s of audio in pieces of 40 ms; a server that is further behind will not catch up.
OUTBOX_EVENTS_MAX = 512
PING_EVERY_S = 10
CLOSE_TIMEOUT_S = 1
#: Events read ahead of us; more stay with the server.
EVENTS_AHEAD_MAX = 64
_RETRYABLE_STATUSES = frozenset({408, 409, 425, 429})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where the API is, and what opens it. Made once a worker."""

    base_url: str
    api_key: str = field(repr=False)
    tls: ssl.SSLContext | None = field(repr=False)

    @classmethod
    def of(cls, base_url: str, api_key: str) -> Endpoint:
        """Of an ``http(s)://.../v1``. Raises ``ConfigurationError`` for what cannot work."""
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(f"{base_url!r} is not a http:// or https:// URL")
        if not (api_key.isascii() and (api_key.isprintable() or not api_key)):
            raise ConfigurationError("the API key holds characters that no key has")
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        return cls(base_url.rstrip("/"), api_key, tls)

    def url(self, **query: str) -> str:
        """The WebSocket's address."""
        return f"ws{self.base_url.removeprefix('http')}/realtime?{urlencode(query)}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is on this host: then no proxy leads there."""
        host = urlsplit(self.base_url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


class RealtimeSocket:
    """An open connection. ``garbage`` counts events that could not be read."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._outbox: asyncio.Queue[JsonObject] = asyncio.Queue(OUTBOX_EVENTS_MAX)
        self._sending = asyncio.create_task(self._send_all())
        self.garbage = 0

    @classmethod
    async def open(cls, endpoint: Endpoint, **query: str) -> RealtimeSocket:
        """Connect. Raises ``ProviderError``, after ``CONNECT_TIMEOUT_MS`` at the latest."""
        key = endpoint.api_key
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_MS / 1000):
                connection = await connect(
                    endpoint.url(**query),
                    additional_headers={"Authorization": f"Bearer {key}"} if key else {},
                    open_timeout=None,
                    ping_interval=PING_EVERY_S,
                    ping_timeout=PING_EVERY_S,
                    close_timeout=CLOSE_TIMEOUT_S,
                    compression=None,
                    max_size=EVENT_BYTES_MAX,
                    max_queue=EVENTS_AHEAD_MAX,
                    proxy=None if endpoint.is_loopback else True,
                    ssl=endpoint.tls,
                )
        except TimeoutError as error:
            raise ProviderError("realtime: no connection in time", retryable=True) from error
        except InvalidStatus as error:
            status = error.response.status_code
            retryable = status >= 500 or status in _RETRYABLE_STATUSES
            message = f"realtime: refused with status {status}"
            raise ProviderError(message, retryable=retryable) from error
        except (OSError, EOFError, InvalidHandshake, InvalidURI) as error:
            raise ProviderError("realtime: the connection failed", retryable=True) from error
        return cls(connection)

    def send(self, event: JsonObject) -> bool:
        """Have an event sent after those before it; False when too many wait already."""
        try:
            self._outbox.put_nowait(event)
        except asyncio.QueueFull:
            return False
        return True

    async def events(self) -> AsyncGenerator[JsonObject, None]:
        """What the server says, until it is gone: then ``ProviderError`` says why."""
        try:
            while True:
                message = await self._connection.recv(decode=False)
                try:
                    yield read_event(message)
                except GarbageError:
                    self.garbage += 1
        except ConnectionClosed as error:
            raise ProviderError(f"realtime: {_why(error)}", retryable=True) from error

    async def aclose(self) -> None:
        """Close; never raises, takes ``CLOSE_TIMEOUT_S`` at most."""
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)
        await self._connection.close()

    async def _send_all(self) -> None:
        try:
            while True:
                await self._connection.send(orjson.dumps(await self._outbox.get()), text=True)
        except ConnectionClosed:
            pass  # whoever reads the events is told


def _why(error: ConnectionClosed) -> str:
    """The close code; not its reason, which is the peer's text."""
    sent, received = error.sent, error.rcvd
    if received is not None:
        return f"the server closed the connection ({int(received.code)})"
    return f"the connection was closed ({int(sent.code)})" if sent else "the connection was lost"
