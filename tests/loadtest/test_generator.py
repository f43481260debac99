"""A client process that reaches nobody says why, in one sentence."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest

from loadtest import caller
from loadtest.errors import NoServerError
from loadtest.generator import Generator
from loadtest.options import DEFAULT_AUDIO, parse_options
from tests.loadtest.echo_server import running_server

Stranger: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CLIP = str(DEFAULT_AUDIO / "cards-001.wav")


async def call(url: str, *arguments: str) -> str:
    """Make two calls that must fail; the sentence."""
    options = parse_options(["--url", url, "--calls", "2", "--audio", CLIP, *arguments])
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs, pytest.raises(NoServerError) as failure:
        await Generator(options, 0, theirs).run(time.monotonic_ns())
    return str(failure.value)


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def answer_in_html(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    await writer.drain()
    writer.close()


def test_a_full_gateway() -> None:
    async def run() -> str:
        async with running_server() as server:
            return await call(server.url + "full")

    assert asyncio.run(run()).endswith("/full: HTTP 503 Service Unavailable")


def test_a_plain_server_that_is_never_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "READY_SECONDS", 0.25)

    async def run() -> str:
        async with running_server() as server:
            return await call(server.url, "--wire", "plain", "--parameter", "fault=deaf")

    assert asyncio.run(run()).endswith(": not ready within 0.25 s")


@pytest.mark.parametrize(
    ("stranger", "reason"),
    [(hang_up, "the server hung up during the handshake"), (answer_in_html, "HTTP 200 OK")],
)
def test_a_port_that_is_no_websocket(stranger: Stranger, reason: str) -> None:
    async def run() -> str:
        server = await asyncio.start_server(stranger, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await call(f"ws://127.0.0.1:{port}/")

    assert asyncio.run(run()).endswith(reason)


def test_nobody_there() -> None:
    sentence = asyncio.run(call("ws://127.0.0.1:1/"))
    assert sentence == "no call could be made to ws://127.0.0.1:1/: Connection refused"
