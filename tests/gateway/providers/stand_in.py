"""A server that answers what a test tells it to, byte by byte if need be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

PATIENCE_S = 20

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class StandIn:
    """What was asked (head and body of each request), and who still is connected."""

    answers: list[Answer]
    url: str = ""
    asked: list[tuple[bytes, bytes]] = field(default_factory=list)
    connections: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0] or 0)
                self.asked.append((head, await reader.readexactly(length)))
                self.arrived.set()
                await self.answers.pop(0)(reader, writer)
                await writer.drain()
                if writer.is_closing():
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            self.left.set()


@asynccontextmanager
async def standing_in(*answers: Answer) -> AsyncIterator[StandIn]:
    """A stand-in on a free port; each request takes the next answer."""
    stand_in = StandIn(list(answers))
    server = await asyncio.start_server(stand_in.serve, "127.0.0.1", 0)
    stand_in.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield stand_in
    finally:
        server.close()


def answer(status: int, body: bytes, content_type: str = "application/json") -> Answer:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}"
    return raw(head.encode() + b"\r\n\r\n" + body)


def raw(data: bytes, *, close: bool = False) -> Answer:
    async def send(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        if close:
            await writer.drain()
            writer.close()

    return send


async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Never answers; ends when the client goes."""
    await asyncio.wait_for(reader.read(), PATIENCE_S)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: audio/pcm\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKS_END = b"0\r\n\r\n"
