"""What a stranger may try on a gateway: each attack counts how it was answered.

An attack goes on until its time is over: who was sent away comes again. Whatever the gateway says
is counted by status, close code and reason; nothing here judges it.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from loadtest.rude import Raw, dial, frame, upgrade

#: 64 KiB of JSON that is all structure, in one message.
BOMB = frame("[" + "[]," * 21_800 + "[]]")
GARBAGE = "!" * 216
FRAMES_PER_SECOND = 5_000
STORM_CONNECTS = 1_000
STORM_MS = 1_000
DRIP_MS = 200
PAUSE_S = 0.2
TEXT, CONTINUATION, PING = 0x01, 0x00, 0x89
GONE = "cut"


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to attack, from which address of this machine, and for how long."""

    port: int
    source: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Attack:
    """One kind; ``peers`` do it at once."""

    name: str
    peers: int
    once: Callable[[Target, int], Awaitable[str]]
    again: bool = True


async def run(attack: Attack, target: Target) -> Counter[str]:
    """Attack until the time is over; how often which answer came."""
    answers: Counter[str] = Counter()
    end = asyncio.get_running_loop().time() + target.seconds

    async def peer(number: int) -> None:
        while True:
            answers[await _answer(attack, target, number)] += 1
            left = end - asyncio.get_running_loop().time()
            if not attack.again or left <= 0:
                return
            await asyncio.sleep(min(PAUSE_S, left))

    await asyncio.gather(*(peer(number) for number in range(attack.peers)))
    return answers


async def _answer(attack: Attack, target: Target, number: int) -> str:
    try:
        return await attack.once(target, number)
    except TimeoutError:
        return "nothing"
    except OSError as error:
        return error.strerror or type(error).__name__


async def silent(target: Target, number: int) -> str:
    """Connect and say nothing."""
    raw = await dial(target.port, target.source)
    return await _end_of(raw, raw.head())


async def slow_headers(target: Target, number: int) -> str:
    """A request that never gets complete."""
    raw = await dial(target.port, target.source)
    head = asyncio.create_task(raw.head())
    for byte in upgrade() * 10:
        if head.done() or not await raw.send(bytes((byte,))):
            break
        await asyncio.sleep(DRIP_MS / 1000)
    return await _end_of(raw, head)


async def bombs(target: Target, number: int) -> str:
    """JSON as large as a message may be."""
    return await _floods(target, b"", BOMB)


async def garbage(target: Target, number: int) -> str:
    """A call whose audio is not base64, at a hundred times the speed of speech."""
    stream = f"MZgarbage{number}"
    media = {"track": "inbound", "payload": GARBAGE}
    message = frame(json.dumps({"event": "media", "streamSid": stream, "media": media}))
    return await _floods(target, _start(stream), message * 100, 100 / FRAMES_PER_SECOND)


async def shouting(target: Target, number: int) -> str:
    """A call whose audio is as it should be, but as fast as it goes."""
    stream = f"MZshout{number}"
    media = {"track": "inbound", "payload": "f39/" * 53 + "f38="}
    message = frame(json.dumps({"event": "media", "streamSid": stream, "media": media}))
    return await _floods(target, _start(stream), message * 100)


async def fragments(target: Target, number: int) -> str:
    """A message of empty fragments without end."""
    return await _floods(target, frame("", TEXT), frame("", CONTINUATION) * 100)


async def pings(target: Target, number: int) -> str:
    """Pings without end from a peer that never reads an answer."""
    raw, status = await _opened(target)
    if raw is None:
        return status
    raw.deafen()
    return await _written(raw, frame("x" * 125, PING) * 100, 0, target.seconds)


async def storm(target: Target, number: int) -> str:
    """One of a thousand connects in a second."""
    await asyncio.sleep(number * STORM_MS / STORM_CONNECTS / 1000)
    raw = await dial(target.port, target.source)
    await raw.send(upgrade())
    answer = _status(await raw.head())
    if not answer.startswith("101"):
        raw.close()
        return answer
    return f"101, then {await _end_of(raw, raw.ending())}"


ATTACKS = (
    Attack("silent connects", 50, silent),
    Attack("slow headers", 50, slow_headers),
    Attack("64 KiB of JSON", 4, bombs),
    Attack("base64 garbage, 100 x real time", 2, garbage),
    Attack("audio as fast as it goes", 2, shouting),
    Attack("endless fragments", 4, fragments),
    Attack("pings, never reading", 4, pings),
    Attack("1000 connects in a second", STORM_CONNECTS, storm, again=False),
)


async def _floods(target: Target, first: bytes, again: bytes, every_s: float = 0) -> str:
    """Open a WebSocket, send without end; the answer to that."""
    raw, status = await _opened(target)
    if raw is None:
        return status
    await raw.send(first)
    ending = asyncio.create_task(raw.ending())
    writing = asyncio.create_task(_written(raw, again, every_s, target.seconds))
    await asyncio.wait((ending, writing), return_when=asyncio.FIRST_COMPLETED)
    writing.cancel()
    return await _end_of(raw, ending)


async def _opened(target: Target) -> tuple[Raw | None, str]:
    """A WebSocket, or the status that it was refused with."""
    raw = await dial(target.port, target.source)
    await raw.send(upgrade())
    status = _status(await raw.head())
    if status.startswith("101"):
        return raw, ""
    raw.close()
    return None, status


async def _written(raw: Raw, again: bytes, every_s: float, seconds: float) -> str:
    """Write until the gateway has enough."""
    end = asyncio.get_running_loop().time() + seconds
    while await raw.send(again):
        if asyncio.get_running_loop().time() > end:
            raise TimeoutError
        await asyncio.sleep(every_s)
    return GONE


async def _end_of(raw: Raw, answer: Awaitable[str]) -> str:
    found = await answer
    raw.close()
    return _status(found) if found.startswith("HTTP/") else found or GONE


def _status(head: str) -> str:
    return head.partition("\r\n")[0].removeprefix("HTTP/1.1 ") or GONE


def _start(stream: str) -> bytes:
    body = {"streamSid": stream, "callSid": f"CA{stream}"}
    return frame(json.dumps({"event": "start", "streamSid": stream, "start": body}))
