"""A telephone call over Twilio's wire: a voice in real time, a carrier that plays what comes."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import wave
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from audio import g711
from audio.format import Encoding
from gateway import clock

FRAME_BYTES = 160
FRAME_S = 0.02
SILENCE = b"\xff" * FRAME_BYTES
PATIENCE_S = 40


def voice(path: Path) -> list[bytes]:
    """A recording as mu-law frames."""
    with wave.open(str(path)) as clip:
        rate = clip.getframerate()
        samples = np.frombuffer(clip.readframes(clip.getnframes()), "<i2")
    if rate == 16_000:
        whole = samples[: len(samples) // 2 * 2].astype(np.int32)
        samples = ((whole[::2] + whole[1::2]) // 2).astype(np.int16)
    codes = g711.encode(Encoding.MULAW, samples).tobytes()
    whole_bytes = len(codes) - len(codes) % FRAME_BYTES
    return [codes[at : at + FRAME_BYTES] for at in range(0, whole_bytes, FRAME_BYTES)]


class Caller:
    """One call: speaks when told to, is silent otherwise, and plays what comes."""

    def __init__(self, socket: ClientConnection, call_id: str) -> None:
        self._socket = socket
        self._stream = f"MZ{call_id}"
        self._call = call_id
        self._to_say: deque[bytes] = deque()
        self._played_until = 0.0
        self._chunk = 0
        self._returning: set[asyncio.Task[None]] = set()
        self.frames_heard = self._heard_before = 0
        self.closed = asyncio.Event()

    def say(self, frames: list[bytes]) -> None:
        self._heard_before = self.frames_heard
        self._to_say.extend(frames)

    @property
    def answered(self) -> bool:
        """Something was heard since we spoke last, and it is over."""
        return self.frames_heard > self._heard_before and self.silent

    @property
    def silent(self) -> bool:
        """Nothing is being said or played by either side."""
        return not self._to_say and asyncio.get_running_loop().time() > self._played_until

    async def begin(self, **parameters: str) -> None:
        await self._send({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        start = {
            "accountSid": "AC1",
            "callSid": self._call,
            "streamSid": self._stream,
            "tracks": ["inbound"],
            "customParameters": parameters,
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        }
        message = {"event": "start", "sequenceNumber": "1", "streamSid": self._stream}
        await self._send(message | {"start": start})

    async def speak(self) -> None:
        """A frame each 20 ms."""
        due = asyncio.get_running_loop().time()
        while True:
            payload = self._to_say.popleft() if self._to_say else SILENCE
            self._chunk += 1
            media = {
                "track": "inbound",
                "chunk": str(self._chunk),
                "timestamp": str(20 * self._chunk),
                "payload": base64.b64encode(payload).decode(),
            }
            await self._send({"event": "media", "streamSid": self._stream, "media": media})
            due += FRAME_S
            await asyncio.sleep(max(0, due - asyncio.get_running_loop().time()))

    async def listen(self) -> None:
        """Play what comes until the line is closed, or cut."""
        with contextlib.suppress(ConnectionClosed):
            await self._play()
        self.closed.set()

    async def _play(self) -> None:
        """Marks come back when they are reached, or cleared."""
        loop = asyncio.get_running_loop()
        marks: list[tuple[str, asyncio.TimerHandle]] = []
        async for text in self._socket:
            message = json.loads(text)
            if message["event"] == "media":
                payload = base64.b64decode(message["media"]["payload"])
                self.frames_heard += len(payload) // FRAME_BYTES
                start = max(loop.time(), self._played_until)
                self._played_until = start + len(payload) / 8_000
            elif message["event"] == "mark":
                name = message["mark"]["name"]
                marks.append((name, loop.call_at(self._played_until, self._return_mark, name)))
            elif message["event"] == "clear":
                self._played_until = loop.time()
                for name, timer in marks:
                    if timer.when() > loop.time():
                        timer.cancel()
                        self._return_mark(name)

    def _return_mark(self, name: str) -> None:
        message = {"event": "mark", "streamSid": self._stream, "mark": {"name": name}}
        task = asyncio.create_task(self._send(message))
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    async def _send(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self._socket.send(json.dumps(message))

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait, and talk on meanwhile."""
        async with asyncio.timeout(PATIENCE_S):
            while not true():
                await clock.sleep_ms(20)


@asynccontextmanager
async def calling(
    socket: ClientConnection, call_id: str, **parameters: str
) -> AsyncIterator[Caller]:
    """A call; leaving the context hangs up."""
    caller = Caller(socket, call_id)
    await caller.begin(**parameters)
    work = [asyncio.create_task(caller.speak()), asyncio.create_task(caller.listen())]
    try:
        yield caller
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await socket.close()
