"""RFC 6455 on real sockets, rule by rule: what the core does and what it leaves to its user.

Raw bytes where a client's library would not send them, two libraries' clients where it would. The
command itself runs; only the timers' tests are in this process, with shorter times.
"""

from __future__ import annotations

import asyncio
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import picows
import pytest
import uvloop
from typing_extensions import override
from websockets.asyncio.client import connect

from gateway import listener
from gateway.limits import FRAGMENTS_PER_MESSAGE_MAX, MESSAGE_BYTES_MAX
from gateway.listener import Connection
from tests.conformance.client import BINARY, CLOSE, PING, PONG, TEXT, RawClient, Received
from tests.conformance.ws_echo import Echo
from tests.gateway.test_channel import UPGRADE, frame

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    command = [sys.executable, "-m", "tests.conformance.ws_echo", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline().rsplit(":", 1)[1].strip("/\n"))
        process.terminate()
        assert process.wait(10) == 0


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(struct.pack("!H", code) + reason, CLOSE)


def fragments(*pieces: bytes, opcode: int = TEXT) -> bytes:
    last = len(pieces) - 1
    return b"".join(
        frame(piece, 0 if n else opcode, fin=n == last) for n, piece in enumerate(pieces)
    )


# 4.2 The handshake


def test_the_handshake_selects_nothing_that_was_not_ours_to_select(port: int) -> None:
    offers = b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: a, b"
    with RawClient(port, UPGRADE.replace(b"\r\n\r\n", offers + b"\r\n\r\n")) as client:
        head = client.head.lower()
        assert head.startswith(b"http/1.1 101 ")
        assert b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head  # RFC 6455 1.3
        assert b"extensions" not in head
        assert b"protocol:" not in head


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"Version: 13", b"Version: 8", 400),
        (b"Sec-WebSocket-Version: 13\r\n", b"", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ=", 400),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"not base64", 400),
        (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"", 400),
        (b"GET /media HTTP/1.1", b"POST /media HTTP/1.1", 405),
        (b"GET /media HTTP/1.1", b"GET /media HTTP/1.0", 505),
        (b"Connection: keep-alive, Upgrade", b"Connection: keep-alive", 426),
    ],
)
def test_a_handshake_that_is_none_is_refused(
    port: int, old: bytes, new: bytes, status: int
) -> None:
    assert old in UPGRADE
    with RawClient(port, UPGRADE.replace(old, new)) as client:
        assert client.head.startswith(b"HTTP/1.1 %d " % status)
        if b"Version: 8" in new:
            assert b"\r\nsec-websocket-version: 13" in client.head.lower()


# 5 Messages come back, however they are sent


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, MESSAGE_BYTES_MAX])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_messages_of_every_length_encoding(port: int, opcode: int, size: int) -> None:
    with RawClient(port) as client:
        client.send(frame(b"x" * size, opcode))
        assert client.frame() == Received(opcode, b"x" * size)


def test_a_byte_at_a_time(port: int) -> None:
    said = "да, слышу: ".encode() * 12
    answers = {
        frame(said): Received(TEXT, said),
        frame(b"ping", PING): Received(PONG, b"ping"),
        fragments(said[:7], said[7:]): Received(TEXT, said),
        close(1000): Received(CLOSE, struct.pack("!H", 1000)),
    }
    with RawClient(port) as client:
        for data, answer in answers.items():
            client.send(*(data[n : n + 1] for n in range(len(data))))
            assert client.frame() == answer
        assert client.ends()


def test_many_messages_in_one_segment(port: int) -> None:
    texts = [f"message {n} ".encode() * (n + 1) for n in range(60)]
    with RawClient(port, UPGRADE + frame(b"with the handshake")) as client:
        client.send(b"".join(map(frame, texts)))
        assert client.frame() == Received(TEXT, b"with the handshake")
        assert [client.frame() for _ in texts] == [Received(TEXT, text) for text in texts]


# 5.4 Fragments


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_fragments_are_joined_with_control_frames_between(port: int, opcode: int) -> None:
    first, *rest = (
        frame(piece, 0 if n else opcode, fin=n == 3)
        for n, piece in enumerate((b"", b"a" * 200, "ж".encode()[:1], "ж".encode()[1:]))
    )
    with RawClient(port) as client:
        client.send(first, frame(b"1", PING), rest[0], frame(b"", PONG), rest[1])
        client.send(frame(b"2", PING))
        assert client.frame() == Received(PONG, b"1"), "a ping waits for no message"
        assert client.frame() == Received(PONG, b"2")
        client.send(rest[2])
        assert client.frame() == Received(opcode, b"a" * 200 + "ж".encode())


def test_fragments_and_their_sum_are_bounded(port: int) -> None:
    most = fragments(*[b"x"] * FRAGMENTS_PER_MESSAGE_MAX)
    half = MESSAGE_BYTES_MAX // 2
    for data, code in (
        (fragments(*[b"x"] * (FRAGMENTS_PER_MESSAGE_MAX + 1)), 1008),
        (fragments(b"x" * half, b"y" * (half + 1)), 1009),
        (frame(b"x" * (MESSAGE_BYTES_MAX + 1)), 1009),
        (b"\x82\xff" + struct.pack("!Q", 2**62) + bytes(4), 1009),
    ):
        with RawClient(port) as client:
            client.send(most + fragments(b"x" * half, b"y" * half, opcode=BINARY))
            assert client.frame() == Received(TEXT, b"x" * FRAGMENTS_PER_MESSAGE_MAX)
            assert client.frame() == Received(BINARY, b"x" * half + b"y" * half)
            client.send(data)
            answer = client.frame()
            assert answer is not None
            assert answer.code == code
            assert client.ends()


# 5.1, 5.2, 5.5, 8.1: what fails the connection, at once and with the right code

OPENED = frame(b"x", fin=False)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"hello", masked=False), 1002),
        (frame(b"x" * 200, masked=False), 1002),
        *((frame(b"x" * 200, rsv=rsv), 1002) for rsv in (0x40, 0x20, 0x10)),
        (frame(b"", PING, rsv=0x40), 1002),
        *((frame(b"x", opcode), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)),
        (frame(b"x" * 126, PING), 1002),
        (frame(b"x" * 126, CLOSE), 1002),
        (frame(b"x", PING, fin=False), 1002),
        (frame(struct.pack("!H", 1000), CLOSE, fin=False), 1002),
        (frame(b"x", 0), 1002),
        (OPENED + frame(b"y"), 1002),
        (OPENED + frame(b"y" * 200), 1002),
        (OPENED + frame(b"y", BINARY), 1002),
        (b"\x81\xff" + struct.pack("!Q", 2**63 | 5), 1009),
        (frame(b"a", CLOSE), 1002),
        *((close(code), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000)),
        (close(1000, b"\xff\xfe"), 1007),
        (frame(b"\xff" * 3), 1007),
        (frame(b"\xff" * 200), 1007),
        (frame(b"\xed\xa0\x80"), 1007),  # a surrogate
        (frame(b"\xc0\xaf"), 1007),  # overlong
        (frame(b"\xf4\x90\x80\x80"), 1007),  # beyond U+10FFFF
        (frame("ж".encode()[:1]), 1007),  # cut short
        (frame(b"x" * 150 + "ж".encode()[:1]), 1007),
        (OPENED + frame(b"\xff", 0, fin=False), 1007),  # found before the message is whole
        (frame("ж".encode()[:1], fin=False) + frame(b"x", 0, fin=False), 1007),
    ],
)
def test_what_fails_the_connection(port: int, data: bytes, code: int) -> None:
    with RawClient(port) as client:
        client.send(frame(b"before"))
        assert client.frame() == Received(TEXT, b"before")
        client.send(data + frame(b"after" * 40))
        answer = client.frame()
        assert answer is not None
        assert answer.code == code, answer
        assert client.ends(), "and nothing after it is heard"


# 5.5.1, 7 The closing handshake


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1011, 3000, 4999])
def test_a_close_is_answered_with_its_code(port: int, code: int) -> None:
    with RawClient(port) as client:
        client.send(close(code, "why: ж".encode()), frame(b"too late"))
        answer = client.frame()
        assert answer is not None
        assert answer.code == code
        assert client.ends()


def test_a_close_without_a_code_and_one_within_a_message(port: int) -> None:
    for before in (b"", OPENED):
        with RawClient(port) as client:
            client.send(before + frame(b"", CLOSE))
            answer = client.frame()
            assert answer is not None
            assert answer.opcode == CLOSE
            assert client.ends()


# 5.5.2, 5.5.3 Pings


@pytest.mark.parametrize("payload", [b"", b"\x00\xff" * 62 + b"!"])
def test_a_ping_is_answered_with_its_payload_and_a_pong_not_at_all(
    port: int, payload: bytes
) -> None:
    with RawClient(port) as client:
        client.send(frame(payload, PONG), frame(payload, PING))
        assert client.frame() == Received(PONG, payload)
        client.send(frame(b"on"))
        assert client.frame() == Received(TEXT, b"on")


def test_a_flood_of_pings_by_a_peer_that_reads_nothing_is_cut_off(port: int) -> None:
    flood = frame(b"x" * 125, PING) * 500
    with RawClient(port) as client, pytest.raises(ConnectionError):
        client.send(*[flood] * 200)
    with RawClient(port) as other:
        other.send(frame(b"still here"))
        assert other.frame() == Received(TEXT, b"still here")


# Two clients that others wrote


def test_websockets_client(port: int) -> None:
    async def talk() -> None:
        async with connect(f"ws://127.0.0.1:{port}/") as client:
            for message in ("", "ж" * 3000, b"\x00\xff" * 3000, "x" * 60_000):
                await client.send(message)
                assert await client.recv() == message
            await client.send(["in ", "three ", "parts"])
            assert await client.recv() == "in three parts"
            await (await client.ping(b"?"))
        assert client.close_code == 1000

    asyncio.run(talk())


class _Reader(picows.WSListener):
    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[picows.WSMsgType, bytes]] = asyncio.Queue()

    @override
    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        self.heard.put_nowait((frame.msg_type, frame.get_payload_as_bytes()))


def test_picows_client(port: int) -> None:
    async def talk() -> None:
        transport, listener_ = await picows.ws_connect(_Reader, f"ws://127.0.0.1:{port}/")
        assert isinstance(listener_, _Reader)
        for kind, size in ((picows.WSMsgType.TEXT, 400), (picows.WSMsgType.BINARY, 60_000)):
            transport.send(kind, b"x" * size)
            assert await listener_.heard.get() == (kind, b"x" * size)
        transport.send_close(picows.WSCloseCode.OK)
        kind, payload = await listener_.heard.get()
        assert (kind, payload[:2]) == (picows.WSMsgType.CLOSE, struct.pack("!H", 1000))
        transport.disconnect()
        await transport.wait_disconnected()

    asyncio.run(talk())


# 7.1.1 and keep-alive: our timers


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[int, list[Connection]]]:
    echo, made = Echo(), []

    def make() -> Connection:
        made.append(echo.connect())
        return made[-1]

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], made
    server.close()


def with_client(
    scene: Callable[[RawClient, Connection], Awaitable[None]], upgrade: bytes = UPGRADE
) -> None:
    async def run() -> None:
        async with serving() as (port, made):
            client = await asyncio.to_thread(RawClient, port, upgrade)
            with client:
                await scene(client, made[0])

    uvloop.run(run())


def test_a_peer_that_does_not_answer_our_close_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "CLOSE_TIMEOUT_MS", 100)

    async def scene(client: RawClient, connection: Connection) -> None:
        connection.close(1001, "bye")
        answer = await asyncio.to_thread(client.frame)
        assert answer == Received(CLOSE, struct.pack("!H", 1001) + b"bye")
        assert not connection.is_open
        assert await asyncio.to_thread(client.ends)

    with_client(scene)


def test_a_peer_that_answers_pings_stays_and_one_that_does_not_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(listener, "IDLE_PING_MS", 300)

    async def scene(client: RawClient, connection: Connection) -> None:
        for _ in range(3):
            assert await asyncio.to_thread(client.frame) == Received(PING, b"")
            client.send(frame(b"", PONG))
        assert connection.is_open
        assert await asyncio.to_thread(client.frame) == Received(PING, b"")
        assert await asyncio.to_thread(client.ends)

    with_client(scene)


def test_a_peer_whose_head_does_not_come_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HEAD_TIMEOUT_MS", 100)

    async def scene(client: RawClient, connection: Connection) -> None:
        assert client.head.startswith(b"HTTP/1.1 408 ")

    with_client(scene, UPGRADE[:60])
