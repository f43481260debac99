"""Callers beside the browser's: plain-protocol calls with numbers, some of whom speak."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import threading
import wave
from collections.abc import Iterator
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

FRAME_S = 0.02
APART_S = 0.2
FRAME_BYTES = 640
SILENCE_FRAMES = 100


def frames_of(clip: Path) -> list[bytes]:
    """16 kHz frames of a recording, with silence around it."""
    with wave.open(str(clip)) as file:
        assert file.getframerate() == 16_000
        pcm = file.readframes(file.getnframes())
    quiet = [bytes(FRAME_BYTES)] * SILENCE_FRAMES
    cut = [pcm[at : at + FRAME_BYTES] for at in range(0, len(pcm) - FRAME_BYTES, FRAME_BYTES)]
    return quiet + cut + quiet


@contextlib.contextmanager
def callers(url: str, count: int, clips: list[Path]) -> Iterator[None]:
    """``count`` calls at once; the first ones play a clip each, over and over."""
    over = threading.Event()
    sounds = [frames_of(clip) for clip in clips] + [[bytes(FRAME_BYTES)]] * (count - len(clips))

    async def run() -> None:
        async with asyncio.TaskGroup() as tasks:
            for n, sound in enumerate(sounds):
                tasks.create_task(_call(url, n, sound, over))

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def _call(url: str, n: int, sound: list[bytes], over: threading.Event) -> None:
    """Call until told to stop: again when hung up on, or when a busy machine takes no call."""
    for attempt in itertools.count():
        with contextlib.suppress(InvalidStatus, ConnectionClosed):
            async with connect(url) as socket:  # all at once, while the door is open
                await asyncio.sleep(n * APART_S)
                parameters = {"from": f"+1555010{n:02}", "to": "+15550199"}
                init = {"type": "init", "callId": f"call-{n}-{attempt}", "languageHint": "en"}
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
