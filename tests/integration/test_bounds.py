"""Every bound on what a peer may do, over real sockets: what it sends, what it sees.

All of them at once, and a call beside them that goes on. (That it loses nothing is measured by
``python -m loadtest.abuse``: on a machine that is busy with other things it might.)
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from itertools import count

import pytest
from websockets.asyncio.client import ClientConnection

from gateway.limits import (
    ADDRESS_KNOCKS_BURST,
    BAD_MESSAGES_MAX,
    CONTROL_FRAMES_BURST,
    FRAGMENTS_PER_MESSAGE_MAX,
    HEAD_BYTES_MAX,
    HEADERS_MAX,
    MESSAGE_BYTES_MAX,
    SMALL_FRAMES_BURST,
)
from loadtest.rude import (
    PATIENCE_S,
    answered,
    closing_all,
    dial,
    frame,
    open_socket,
    upgrade,
)
from tests.integration.conftest import Gateway
from tests.integration.test_bad_input import media, metric, start_message
from tests.integration.test_worker_duties import dial as dial_busy
from tests.integration.test_worker_duties import frames_until

pytestmark = pytest.mark.timeout(120)

#: 127.0.0.1 is a trusted proxy in here; these are hosts on a network.
FLOODER, OTHER = "127.0.0.2", "127.0.0.3"
KNOCK = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
TEXT, CONTINUATION, PING = 0x01, 0x80, 0x89


async def status(port: int, request: bytes) -> str:
    """The status line of the answer to some bytes; "" when there is none."""
    raw = await dial(port)
    await raw.send(request)
    return (await raw.head()).partition("\r\n")[0].removeprefix("HTTP/1.1 ")


async def dripped(port: int) -> str:
    raw = await dial(port)
    head = asyncio.create_task(raw.head())
    for byte in upgrade() * 10:
        if head.done() or not await raw.send(bytes((byte,))):
            break
        await asyncio.sleep(0.1)
    return (await head).partition("\r\n")[0].removeprefix("HTTP/1.1 ")


def sends(*frames: bytes) -> Callable[[int], Awaitable[str]]:
    """Open a WebSocket, send these, see how it ends."""

    async def scene(port: int) -> str:
        raw = await open_socket(port)
        for data in frames:
            if not await raw.send(data):
                break
        return await raw.ending()

    return scene


def begins_and_sends(stream: str, data: bytes, times: int = 1) -> Callable[[int], Awaitable[str]]:
    """The same, in a call, over and over until the server has enough."""

    async def scene(port: int) -> str:
        raw = await open_socket(port)
        await raw.send(frame(start_message(stream)))
        ending = asyncio.create_task(raw.ending())
        for _ in range(times):
            if ending.done() or not await raw.send(data):
                break
            await asyncio.sleep(0)
        return await asyncio.wait_for(ending, PATIENCE_S)

    return scene


async def knocks(port: int) -> str:
    """One address beyond its burst; another comes in meanwhile."""
    heads = await flood(port, ADDRESS_KNOCKS_BURST + 50)
    assert heads[:ADDRESS_KNOCKS_BURST] == ["200"] * ADDRESS_KNOCKS_BURST
    assert "429" in heads
    answer = await upgraded_beside_a_flood(port)
    while answer.startswith("HTTP/1.1 101"):  # on a busy machine it was forgiven meanwhile
        answer = await upgraded_beside_a_flood(port)
    other = await dial(port, OTHER)
    await other.send(KNOCK)
    assert (await other.head()).startswith("HTTP/1.1 200 ")
    assert "Retry-After: " in answer
    return answer.partition("\r\n")[0].removeprefix("HTTP/1.1 ")


async def flood(port: int, times: int) -> list[str]:
    """Ask so many times in one breath; what was answered."""
    raw = await dial(port, FLOODER)
    await raw.send(KNOCK * times)
    heads = []
    for _ in range(times):
        heads.append((await raw.head()).partition("\r\n")[0][9:12])
        await raw.reader.readline()
    return heads


async def upgraded_beside_a_flood(port: int) -> str:
    """The answer to who comes from the address of a flood."""
    raw = await dial(port, FLOODER)
    flooding = asyncio.create_task(flood(port, ADDRESS_KNOCKS_BURST // 2))
    await asyncio.sleep(0)
    await raw.send(upgrade())
    answer = await raw.head()
    await flooding
    return answer


async def offers_deflate(port: int) -> str:
    """It is not taken, so a compressed frame is a protocol error."""
    raw, head = await answered(port, "/", "Sec-WebSocket-Extensions: permessage-deflate")
    assert "101" in head
    assert "extensions" not in head.lower()
    await raw.send(frame(b"\x00", 0xC1))
    return (await raw.ending()).split()[0]


async def seen(scene: Callable[[int], Awaitable[str]], port: int) -> str:
    try:
        return await scene(port)
    except (TimeoutError, OSError, AssertionError) as error:
        return repr(error)


def code_of(scene: Callable[[int], Awaitable[str]]) -> Callable[[int], Awaitable[str]]:
    async def only_the_code(port: int) -> str:
        return (await scene(port)).split()[0]

    return only_the_code


def asks(request: bytes) -> Callable[[int], Awaitable[str]]:
    return lambda port: status(port, request)


SHOUT = frame(media("MZshout", base64.b64encode(b"\xff" * 160).decode())) * 100
GARBAGE = frame(media("MZgarbage", "!" * 216))
SURPRISE = frame(json.dumps({"event": "surprise", "body": "x" * 200})) * 500

#: Who goes on writing may see the end of the connection before the reason.
OR_CUT = ("1008 too many fr", "cut")

BOUNDS: dict[str, tuple[Callable[[int], Awaitable[str]], str | tuple[str, ...]]] = {
    "a silent connect": (asks(b""), ""),
    "slow headers": (dripped, "408 Request Timeout"),
    "a long head": (asks(b"GET / HTTP/1.1\r\nX: " + b"x" * HEAD_BYTES_MAX), "431 Request Header"),
    "many headers": (asks(upgrade("/", *["X: y"] * HEADERS_MAX)), "431 Request Header"),
    "a long body": (
        asks(
            b"POST /twilio/voice HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n"
            + b"x" * 99999
        ),
        "413 Content Too Large",
    ),
    "two lengths": (
        asks(
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
        "400 Bad Request",
    ),
    "no start": (sends(), "1008 no start"),
    "a connected without a start": (sends(frame('{"event":"connected"}')), "1008 no start"),
    "a long message": (code_of(sends(frame("x" * (MESSAGE_BYTES_MAX + 1)))), "1009"),
    "a length of 2^40": (
        code_of(sends(b"\x81\xff" + (2**40).to_bytes(8, "big") + bytes(4))),
        "1009",
    ),
    "many fragments": (
        sends(frame("x", TEXT), frame("x", 0) * FRAGMENTS_PER_MESSAGE_MAX),
        "1008 too many fragments",
    ),
    "empty fragments": (
        sends(frame("", TEXT), *[frame("", 0) * 1000] * 300),
        OR_CUT,
    ),
    "a message that never ends": (
        begins_and_sends("MZstuck", frame("x", TEXT)),
        "1008 a message was never completed",
    ),
    "compression": (offers_deflate, "1002"),
    "a reserved bit": (code_of(sends(frame("x", 0xA1))), "1002"),
    "an unmasked frame": (code_of(sends(frame("x", masked=False))), "1002"),
    "a long ping": (code_of(sends(frame("x" * 126, PING))), "1002"),
    "text that is not UTF-8": (code_of(sends(frame(b"\xc3\x28" * 100))), "1007"),
    "nonsense": (sends(frame("[" * 200) * BAD_MESSAGES_MAX), "1007 too many bad messages"),
    "deep JSON": (
        sends(frame('{"event":' + "[" * 10_000) * BAD_MESSAGES_MAX),
        "1007 too many bad messages",
    ),
    "base64 garbage": (
        begins_and_sends("MZgarbage", GARBAGE, 5_000),
        "1007 too many bad messages",
    ),
    "media at a hundred times its speed": (
        begins_and_sends("MZshout", SHOUT, 100_000),
        "1008 too much at once",
    ),
    "unknown messages without end": (
        begins_and_sends("MZsurprise", SURPRISE, 100_000),
        "1008 too much at once",
    ),
    "pings": (sends(frame("", PING) * (CONTROL_FRAMES_BURST + 1)), "1008 too many frames"),
    "pings by one that never reads": (
        sends(*[frame("x" * 125, PING) * 2_000] * 100),
        OR_CUT,
    ),
    "tiny messages": (
        begins_and_sends("MZtiny", frame('{"event":"x"}') * (SMALL_FRAMES_BURST + 1)),
        "1008 too many frames",
    ),
    "an address that asks too often": (knocks, "429 Too Many Requests"),
}


ODD = [
    '{"event":"media","streamSid":"MZ1","media":{"payload":NaN}}',
    '{"event":"media","streamSid":"MZ1","media":{"payload":1e999}}',
    '{"event":"mark","streamSid":"MZ1","mark":{"name":"\\ud800"}}',
    '{"event":"dtmf","streamSid":"MZ1","dtmf":{"digit":' + "9" * 60_000 + "}}",
    '{"event":"dtmf","streamSid":"MZ1","dtmf":{"digit":"5"},"dtmf":{"digit":"x"}}',
    '{"event":"start","event":"dtmf","streamSid":"MZ1","dtmf":{"digit":"55"}}',
]


def test_every_bound_and_a_call_beside_them(gateway: Callable[..., Gateway]) -> None:
    running = gateway("--workers", "1", "--responder", "echo", TRUSTED_PROXIES="127.0.0.1")

    async def scene() -> dict[str, str]:
        # All that comes is read, and looked at in the end.
        async with await dial_busy(running.url, max_queue=None) as beside:
            await beside.send(start_message("MZbeside"))
            talking = asyncio.create_task(talk(beside, "MZbeside"))
            async with closing_all():
                scenes = (seen(scene, running.port) for scene, _ in BOUNDS.values())
                found = await asyncio.gather(*scenes)
            assert not talking.done(), "the call beside them goes on"
            assert await frames_until(beside, 100) >= 100
            talking.cancel()
        return dict(zip(BOUNDS, found, strict=True))

    results = asyncio.run(scene())
    differing = {
        name: found
        for name, found in results.items()
        if not (found.startswith(BOUNDS[name][1]) if BOUNDS[name][1] else found == "")
    }
    assert differing == {}
    assert metric(running, "voice_gateway_peers_expelled_total") >= 5
    assert metric(running, "voice_gateway_peers_limited_total") >= 1
    before = metric(running, "voice_gateway_messages_invalid_total")
    asyncio.run(odd_json(running.url))
    assert metric(running, "voice_gateway_messages_invalid_total") == before + len(ODD)


async def talk(client: ClientConnection, stream: str) -> None:
    """Send caller audio at its pace."""
    for n in count():
        await client.send(media(stream, timestamp=n * 20))
        await asyncio.sleep(0.02)


async def odd_json(url: str) -> None:
    """Each is a bad message and no more: the call goes on."""
    async with await dial_busy(url) as client:
        await client.send(start_message("MZ1"))
        for message in ODD:
            await client.send(message)
        await client.send(media("MZ1"))
        assert await frames_until(client, 1) == 1
