"""The WebSocket's ends: why a connection is gone, and what else may come in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from websockets.asyncio.server import ServerConnection, serve

from loadtest import peer
from loadtest.peer import Peer, connect


class Sink:
    """Keeps what a peer tells it."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.mistakes: list[str] = []
        self.over = asyncio.Event()
        self.reason = ""

    def opened(self, peer: Peer) -> None:
        peer.send(b"hello")

    def message(self, text: bytes | memoryview) -> None:
        self.messages.append(bytes(text))

    def malformed(self, what: str) -> None:
        self.mistakes.append(what)

    def closed(self, reason: str) -> None:
        self.reason = reason
        self.over.set()


def serve_once(handle: Callable[[ServerConnection], Awaitable[None]]) -> Sink:
    """Connect to a server that does one thing after our greeting; what came of it."""

    async def greeted(connection: ServerConnection) -> None:
        assert await connection.recv() == "hello"
        await handle(connection)

    async def run() -> Sink:
        sink = Sink()
        async with serve(greeted, "127.0.0.1", 0, compression=None) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            await connect(f"ws://127.0.0.1:{port}/", (("User-Agent", "test"),), sink)
            await sink.over.wait()
        return sink

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("code", "words", "reason"),
    [
        (1000, "", "closed with 1000"),
        (1013, "full", "closed with 1013: full"),
        (4001, "no token", "closed with 4001: no token"),
    ],
)
def test_the_servers_reason_is_kept(code: int, words: str, reason: str) -> None:
    assert serve_once(lambda connection: connection.close(code, words)).reason == reason


def test_a_connection_that_breaks() -> None:
    async def handle(connection: ServerConnection) -> None:
        connection.transport.abort()

    assert serve_once(handle).reason == "connection lost"


def test_fragments_are_joined_and_pings_answered() -> None:
    async def handle(connection: ServerConnection) -> None:
        await connection.send(["a", "b", "c"])
        await (await connection.ping())
        await connection.send("d")
        await connection.send(b"binary")

    sink = serve_once(handle)
    assert sink.messages == [b"abc", b"d"]
    assert sink.mistakes == ["binary message"]


def test_fragments_without_end_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "MESSAGE_BYTES_MAX", 100)

    async def handle(connection: ServerConnection) -> None:
        async def parts() -> AsyncIterator[str]:
            while True:
                yield "x" * 60
                await asyncio.sleep(0)

        await connection.send(parts())

    sink = serve_once(handle)
    assert sink.reason == "message too long"
    assert sink.messages == []
