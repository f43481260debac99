"""``python -m tests.conformance.ws_echo --port P``: the product's listener as an echo.

For conformance suites from outside (port 0: any that is free; the address is printed). Text comes
back as text and binary as binary, by the real :class:`~gateway.listener.Connection`. Nothing of
the product imports this, and no configuration of it can reach an echo of messages. Its limits are
the product's: 64 KiB and 16 fragments a message; and a peer that leaves 64 KiB unread is cut off.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable

import uvloop

from gateway.channel import text_frame
from gateway.channel_events import HttpRequest, HttpResponse, Upgrade
from gateway.listener import Connection

_BINARY = b"\x82"


class EchoConnection(Connection):
    """A connection that can say binary messages, too; the product has none to say."""

    def send_binary(self, payload: bytes) -> None:
        """Send one binary message."""
        if self.is_open and self._transport is not None:
            self._transport.write(_BINARY + text_frame(payload)[1:])


class Echo:
    """The listener's handler: every message comes back."""

    def connect(self) -> Connection:
        """A new peer's connection."""
        return EchoConnection(self)

    def request(self, request: HttpRequest) -> HttpResponse:
        """Answer a plain request: there is nothing but the echo."""
        return HttpResponse(404, b"connect with a WebSocket\n")

    def admit(self, connection: Connection, upgrade: Upgrade) -> HttpResponse | None:
        """Let everybody in."""
        return None

    def opened(self, connection: Connection) -> Callable[[str | bytes], None]:
        """Return what says each message back."""
        assert isinstance(connection, EchoConnection)

        def receive(message: str | bytes) -> None:
            if isinstance(message, str):
                connection.send(message.encode())
            else:
                connection.send_binary(message)

        return receive

    def closed(self, connection: Connection) -> None:
        """Nothing is kept of a peer."""


async def serve(port: int) -> None:
    """Serve on loopback until a signal comes."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(Echo().connect, "127.0.0.1", port)
    sys.stdout.write(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="tests.conformance.ws_echo", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="0: any that is free")
    given = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(given.port))


if __name__ == "__main__":
    main()
