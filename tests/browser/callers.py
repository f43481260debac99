"""Callers beside the browser's: plain-protocol calls with numbers, who speak by turns."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import threading
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

FRAME_S = 0.02
APART_S = 0.2
RATE = 16_000
FRAME_BYTES = 640
#: The first speak into the greeting; so few at once that a small machine understands them.
FIRST_WORD_S = 2.0
WORDS_APART_S = 1.6
#: They go on while they are answered, which interrupts.
GOES_ON_S = 4.0
AGAIN_S = 20.0


@dataclass(frozen=True, slots=True)
class Caller:
    """What somebody says, in which language."""

    clip: Path
    language: str


def silence(seconds: float) -> list[bytes]:
    return [bytes(FRAME_BYTES)] * round(seconds / FRAME_S)


def frames_of(clip: Path) -> list[bytes]:
    """A recording in 16 kHz frames."""
    with wave.open(str(clip)) as file:
        rate, pcm = file.getframerate(), file.readframes(file.getnframes())
    samples = soxr.resample(np.frombuffer(pcm, np.int16), rate, RATE)
    data = samples.astype("<i2").tobytes()
    return [data[at : at + FRAME_BYTES] for at in range(0, len(data) - FRAME_BYTES, FRAME_BYTES)]


@contextlib.contextmanager
def callers(url: str, people: Sequence[Caller]) -> Iterator[None]:
    """All call at once, and speak one after the other, over and over."""
    over = threading.Event()

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            for n, caller in enumerate(people):
                tasks.create_task(_call(url, n, caller, over))

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def _call(url: str, n: int, caller: Caller, over: threading.Event) -> None:
    """Call until told to stop: again when hung up on, or when a busy machine takes no call."""
    words = frames_of(caller.clip)
    sound = silence(FIRST_WORD_S + n * WORDS_APART_S)
    sound += words + silence(GOES_ON_S) + words + silence(AGAIN_S)
    for attempt in itertools.count():
        with contextlib.suppress(InvalidStatus, ConnectionClosed):
            async with connect(url) as socket:  # all at once, while the door is open
                await asyncio.sleep(n * APART_S)
                parameters = {"from": f"+1555010{n:02}", "to": "+15550199"}
                init = {
                    "type": "init",
                    "callId": f"call-{n}-{attempt}",
                    "languageHint": caller.language,
                }
                await socket.send(json.dumps({**init, "parameters": parameters}))
                listening = asyncio.create_task(_listen(socket))
                try:
                    await _speak(socket, sound, over)
                finally:
                    listening.cancel()
        if over.is_set():
            return
        await asyncio.sleep(1)


async def _speak(socket: ClientConnection, sound: list[bytes], over: threading.Event) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    at = 0
    while not over.is_set():
        payload = base64.b64encode(sound[at % len(sound)]).decode()
        await socket.send(json.dumps({"type": "audio", "payload": payload}))
        at += 1
        due += FRAME_S
        await asyncio.sleep(max(0, due - loop.time()))


async def _listen(socket: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed):
        async for text in socket:
            message = json.loads(text)
            if message["type"] == "mark":
                await socket.send(json.dumps(message))
