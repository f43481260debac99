"""The listener on real sockets: what a peer that goes away leaves behind, what a deaf one costs."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop
from websockets.asyncio.client import ClientConnection, connect

from gateway import listener
from gateway.channel_events import HttpRequest, HttpResponse, Upgrade
from gateway.limits import WRITE_BUFFER_BYTES_MAX
from gateway.listener import Connection


class Parrot:
    """A handler that says what it hears."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def request(self, connection: Connection, request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, b"ok")

    def admit(self, connection: Connection, upgrade: Upgrade) -> HttpResponse | None:
        return None

    def opened(self, connection: Connection) -> Callable[[str | bytes], None]:
        def receive(message: str | bytes) -> None:
            connection.send(message.encode() if isinstance(message, str) else message)

        return receive

    def closed(self, connection: Connection) -> None:
        self.ended.set()


@asynccontextmanager
async def talking(parrot: Parrot) -> AsyncIterator[ClientConnection]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(parrot), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with connect(f"ws://127.0.0.1:{port}/", compression=None, close_timeout=1) as client:
        yield client
    server.close()


def living() -> list[Connection]:
    return [found for found in gc.get_objects() if type(found) is Connection]


def test_a_connection_that_ended_is_freed_without_the_collector() -> None:
    async def scene() -> None:
        parrot = Parrot()
        async with talking(parrot) as client:
            for size in (1, 200, 70_000):
                await client.send("x" * size)
                if size < WRITE_BUFFER_BYTES_MAX:
                    assert await client.recv() == "x" * size
        await parrot.ended.wait()
        await asyncio.sleep(0.05)  # the transport lets go of its protocol a little later
        assert not living()

    gc.disable()
    try:
        uvloop.run(scene())
    finally:
        gc.enable()


def test_a_peer_that_reads_nothing_is_told_nothing_more_and_sent_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "SLOW_CONSUMER_MS", 300)

    async def scene() -> None:
        parrot = Parrot()
        async with talking(parrot) as client:
            await client.send("hello")
            assert await client.recv() == "hello"
            client.transport.pause_reading()
            (connection,) = living()
            for _ in range(1000):
                connection.send(b"x" * 30_000)
                await asyncio.sleep(0)
            transport = connection._transport
            assert transport is not None
            assert transport.get_write_buffer_size() <= 2 * WRITE_BUFFER_BYTES_MAX
            await parrot.ended.wait()
            client.transport.abort()

    uvloop.run(scene())


def test_a_peer_that_was_slow_hears_again() -> None:
    async def scene() -> None:
        parrot = Parrot()
        async with talking(parrot) as client:
            await client.send("hello")
            await client.recv()
            client.transport.pause_reading()
            (connection,) = living()
            while connection._outlet is not None:
                connection.send(b"x" * 30_000)
                await asyncio.sleep(0)
            client.transport.resume_reading()
            while connection._outlet is None:
                await client.recv()
            await client.send("still there?")
            while await client.recv() != "still there?":
                pass
            assert connection.is_open

    uvloop.run(scene())


def test_bytes_are_counted_by_the_kernel() -> None:
    async def scene() -> None:
        parrot = Parrot()
        async with talking(parrot) as client:
            (connection,) = living()
            handshake, unfinished = connection.look()
            assert handshake > 100
            assert unfinished == 0
            await client.send("x" * 1000)
            await client.recv()
            assert connection.look() == (1008, 0)
            assert connection.look() == (0, 0)

    uvloop.run(scene())
