"""A server that only completes the WebSocket handshake: what that costs without any gateway.

Much of a burst's time is the load generator's own and the kernel's. The same calls to this server,
in as many processes as the gateway has workers, say how much: ``python -m loadtest.fault_rows.bare
4`` prints its port, and serves until its input ends.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

import uvloop
from typing_extensions import override

from loadtest.errors import LoadTestError

_KEY = re.compile(rb"sec-websocket-key: *([^\r]+)", re.IGNORECASE)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 4.2.2
_HEAD = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
BACKLOG = 4096


@dataclass(frozen=True, slots=True)
class BareServer:
    """Where a running one is to be reached."""

    url: str


@contextmanager
def bare_server(processes: int) -> Iterator[BareServer]:
    """Start one; it is gone afterwards."""
    command = [sys.executable, "-m", "loadtest.fault_rows.bare", str(processes)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port = server.stdout.readline().strip().decode()
        if not port:
            raise LoadTestError("the bare server did not start")
        yield BareServer(f"ws://127.0.0.1:{port}/")
        server.stdin.close()


class _Answer(asyncio.Protocol):
    """One connection: a handshake, then nothing that comes is looked at."""

    _transport: asyncio.Transport
    _head = b""

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def data_received(self, data: bytes) -> None:
        if self._head.endswith(b"\r\n\r\n"):
            return
        self._head += data
        key = _KEY.search(self._head)
        if key is not None and self._head.endswith(b"\r\n\r\n"):
            accept = base64.b64encode(hashlib.sha1(key[1] + _GUID).digest())
            self._transport.write(_HEAD + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")


def main(processes: int) -> None:
    """Serve in so many processes, each with a queue of its own, until the input ends."""
    first = _listener(0)
    port = first.getsockname()[1]
    listeners = [first, *(_listener(port) for _ in range(processes - 1))]
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    for listener in listeners:
        if os.fork() == 0:
            uvloop.run(_serve(listener))
            os._exit(0)
    for listener in listeners:
        listener.close()
    for _ in listeners:
        os.wait()


async def _serve(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), over.set)
    await loop.create_server(_Answer, sock=listener, backlog=BACKLOG)
    await over.wait()


def _listener(port: int) -> socket.socket:
    made = socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    made.listen(BACKLOG)
    return made


if __name__ == "__main__":
    main(int(sys.argv[1]))
