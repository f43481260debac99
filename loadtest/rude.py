"""A peer that writes whatever bytes it likes, and reads what comes until the end."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass

PATIENCE_S = 30


def upgrade(path: str = "/", *headers: str) -> bytes:
    """A request for a WebSocket."""
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: x",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def frame(payload: bytes | str, first: int = 0x81, *, masked: bool = True) -> bytes:
    """A client frame (RFC 6455 5.2); a mask of zeros is a mask."""
    data = payload.encode() if isinstance(payload, str) else payload
    flag, size = (0x80 if masked else 0), len(data)
    head = bytes((first,))
    if size < 126:
        head += bytes((flag | size,))
    elif size < 65536:
        head += bytes((flag | 126,)) + struct.pack("!H", size)
    else:
        head += bytes((flag | 127,)) + struct.pack("!Q", size)
    return head + (bytes(4) if masked else b"") + data


@dataclass
class Raw:
    """One TCP connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> bool:
        """Write; False when the server has gone."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            return False
        return True

    async def head(self) -> str:
        """The head of an HTTP answer; "" when the connection ended without one."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return (await self.reader.readuntil(b"\r\n\r\n")).decode()
            except (asyncio.IncompleteReadError, ConnectionError):
                return ""

    async def rest(self) -> bytes:
        """All that comes until the end."""
        found = b""
        async with asyncio.timeout(PATIENCE_S):
            try:
                while data := await self.reader.read(65536):
                    found += data
            except ConnectionError:
                pass
        return found

    async def ending(self) -> str:
        """The close code and reason the server ended with; ``cut`` when it sent none."""
        found = await self.rest()
        at = 0
        while at + 2 <= len(found):
            size, head = found[at + 1], 2
            if size == 126:
                size, head = int.from_bytes(found[at + 2 : at + 4], "big"), 4
            if found[at] == 0x88:
                body = found[at + head : at + head + size]
                return f"{int.from_bytes(body[:2], 'big')} {body[2:].decode()}".strip()
            at += head + size
        return "cut"

    def deafen(self) -> None:
        """Read nothing from now on."""
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def close(self) -> None:
        """Cut the connection."""
        self.writer.transport.abort()


_opened: ContextVar[list[Raw]] = ContextVar("opened")


@asynccontextmanager
async def closing_all() -> AsyncIterator[None]:
    """Closes what is dialled inside."""
    opened: list[Raw] = []
    _opened.set(opened)
    try:
        yield
    finally:
        for raw in opened:
            raw.close()
        await asyncio.sleep(0.1)  # transports are gone a little later


async def dial(port: int, source: str = "127.0.0.1") -> Raw:
    """Connect, from an address of this machine; inside :func:`closing_all`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    raw = Raw(reader, writer)
    _opened.get().append(raw)
    return raw


async def answered(
    port: int, path: str = "/", *headers: str, source: str = "127.0.0.1"
) -> tuple[Raw, str]:
    """A connection that has asked for a WebSocket, and the head of the answer.

    Asks once more when a busy machine takes no call for the moment.
    """
    while True:
        raw = await dial(port, source)
        await raw.send(upgrade(path, *headers))
        head = await raw.head()
        if not head.startswith("HTTP/1.1 503 "):
            return raw, head
        await asyncio.sleep(0.5)


async def open_socket(port: int, path: str = "/", *headers: str, source: str = "127.0.0.1") -> Raw:
    """A WebSocket, its handshake done."""
    async with asyncio.timeout(PATIENCE_S):
        raw, head = await answered(port, path, *headers, source=source)
    assert head.startswith("HTTP/1.1 101 "), head
    return raw
