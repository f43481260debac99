"""Servers to measure: an honest echo, an honest assistant, and ones that do one thing wrong.

What a call gets is chosen by its custom parameters: ``role`` is ``echo``, ``assistant`` or
``reciter`` and ``fault`` one of the names below. The echo treats audio as a gateway does: mu-law,
up to 16 kHz and back through a FIR filter each way, mu-law again, with the filters' state kept
from frame to frame.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from loadtest import mulaw
from loadtest.clips import load_clips
from loadtest.options import DEFAULT_AUDIO

FRAME_SECONDS = 0.02
SPEECH_RMS = 200.0
TAPS = 47
#: Faults happen around this frame, one second into the call.
AT = 50
STALL_SECONDS = 0.8
LEAD_SECONDS = 0.1
#: A reciter's utterances begin this far apart, a late one this much later; it may break off, too.
#: More than a second of silence stays between two of them.
PERIOD_SECONDS = 4.0
LATE_SECONDS = 1.0
BREAK_SECONDS = 0.8
RESERVE_SECONDS = 0.5


def low_pass(taps: int, cutoff: float) -> NDArray[np.float64]:
    """Windowed sinc; ``cutoff`` of the sample rate."""
    n = np.arange(taps) - (taps - 1) / 2
    response: NDArray[np.float64] = np.sinc(2 * cutoff * n) * np.hamming(taps)
    response /= response.sum()
    return response


class Resampled:
    """8 kHz mu-law to 16 kHz PCM16 and back, 20 ms at a time."""

    def __init__(self) -> None:
        self._filter = low_pass(TAPS, 3700 / 16000)
        self._up = np.zeros(TAPS - 1)
        self._down = np.zeros(TAPS - 1)

    def __call__(self, frame: bytes) -> bytes:
        spread = np.zeros(2 * len(frame))
        spread[::2] = 2.0 * mulaw.decode(frame)
        wide, self._up = self._run(spread, self._up)
        wide = np.clip(np.rint(wide), -32768, 32767)
        narrow, self._down = self._run(wide, self._down)
        return mulaw.encode(np.clip(np.rint(narrow[::2]), -32768, 32767).astype(np.int16))

    def _run(
        self, samples: NDArray[np.float64], history: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        whole = np.concatenate([history, samples])
        return np.convolve(whole, self._filter, "valid"), whole[-(TAPS - 1) :]


#: A fault turns each frame into what is sent for it: frames, and pauses in seconds.
Fault = Callable[[int, bytes], Iterator[bytes | float]]


def honest(index: int, frame: bytes) -> Iterator[bytes | float]:
    yield frame


def drop(index: int, frame: bytes) -> Iterator[bytes | float]:
    if not AT <= index < AT + 5:
        yield frame


def duplicate(index: int, frame: bytes) -> Iterator[bytes | float]:
    yield frame
    if AT <= index < AT + 2:
        yield frame


def stall(index: int, frame: bytes) -> Iterator[bytes | float]:
    if index == AT:
        yield STALL_SECONDS
    yield frame


def garble(index: int, frame: bytes) -> Iterator[bytes | float]:
    yield bytes(reversed(frame)) if AT <= index < AT + 10 else frame


def silence_first(index: int, frame: bytes) -> Iterator[bytes | float]:
    if index == 0:
        yield from [b"\xff" * 160] * 3
    yield frame


@dataclass
class Held:
    """Keeps frame ``AT`` back and sends it ``after`` frames later."""

    after: int
    kept: bytes = b""

    def __call__(self, index: int, frame: bytes) -> Iterator[bytes | float]:
        if index == AT:
            self.kept = frame
        else:
            yield frame
        if index == AT + self.after:
            yield self.kept


def echo_fault(name: str) -> Fault:
    if name == "reorder":
        return Held(after=1)
    if name == "delay":
        return Held(after=40)
    simple: dict[str, Fault] = {
        "": honest,
        "drop": drop,
        "duplicate": duplicate,
        "stall": stall,
        "garble": garble,
        "silence_first": silence_first,
    }
    return simple.get(name, honest)


@dataclass
class Call:
    """One call on the Twilio wire, as the server sees it."""

    socket: ServerConnection
    stream_sid: str
    parameters: dict[str, str]

    @property
    def fault(self) -> str:
        return self.parameters.get("fault", "")

    async def send(self, event: str, **body: object) -> None:
        text = json.dumps({"event": event, "streamSid": self.stream_sid, **body})
        if self.fault == "fragment":
            await self.socket.send([text[:20], text[20:40], text[40:]])
        else:
            await self.socket.send(text)

    async def media(self, audio: bytes) -> None:
        await self.send("media", media={"payload": base64.b64encode(audio).decode()})


@dataclass
class Server:
    """A running server; ``marks`` are the marks that came back, ``stopped`` counts good ends."""

    port: int = 0
    stopped: int = 0
    marks: list[str] = field(default_factory=list)
    starts: list[dict[str, object]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"

    async def handle(self, socket: ServerConnection) -> None:
        try:
            first = json.loads(await socket.recv())
            if first.get("type") == "init":
                await self._plain(socket, first)
                return
            start = json.loads(await socket.recv())
            self.starts.append(start)
            call = Call(socket, start["streamSid"], start["start"]["customParameters"])
            roles = {"assistant": self._assistant, "reciter": self._reciter}
            await roles.get(call.parameters.get("role", ""), self._echo)(call)
        except ConnectionClosed:
            return

    async def _frames(self, call: Call) -> AsyncIterator[bytes]:
        """The caller's audio until ``stop``; marks are noted on the way."""
        async for text in call.socket:
            message = json.loads(text)
            match message["event"]:
                case "media":
                    yield base64.b64decode(message["media"]["payload"], validate=True)
                case "mark":
                    self.marks.append(message["mark"]["name"])
                case "stop":
                    self.stopped += 1
                    return

    async def _echo(self, call: Call) -> None:
        resample, fault = Resampled(), echo_fault(call.fault)
        index = 0
        async for frame in self._frames(call):
            if index == AT and call.fault == "hang_up":
                return
            if index == AT and call.fault == "binary":
                await call.socket.send(b"\0")
            if index == AT and call.fault == "malformed":
                await call.send("media", media={"payload": "AAAA", "track": "outbound"})
            for item in fault(index, resample(frame)):
                if isinstance(item, float):
                    await asyncio.sleep(item)
                else:
                    await call.media(item)
            index += 1

    async def _assistant(self, call: Call) -> None:
        """Greets; answers half a second after the caller has stopped speaking."""
        greeting = asyncio.create_task(self._say(call, "greeting"))
        quiet, spoke = 0, False
        answer: asyncio.Task[None] | None = None
        async for frame in self._frames(call):
            samples = mulaw.decode(frame).astype(np.float64)
            loud = float(np.sqrt(np.mean(samples**2))) > SPEECH_RMS
            quiet = 0 if loud else quiet + 1
            spoke = spoke or loud
            if spoke and quiet == 25 and answer is None and call.fault != "mute":
                answer = asyncio.create_task(self._say(call, "reply"))
        for task in (greeting, answer):
            if task is not None:
                task.cancel()

    async def _reciter(self, call: Call) -> None:
        """Speaks in a rhythm of its own; takes the caller's audio and does not care."""
        speaking = asyncio.create_task(self._recite(call))
        async for _ in self._frames(call):
            pass
        speaking.cancel()

    async def _recite(self, call: Call) -> None:
        """1.1 s of speech each period, in messages of 100 ms but for a fault."""
        loop = asyncio.get_running_loop()
        begin = loop.time() + 0.3
        size = 160 if call.fault == "small" else 800
        audio = speech()
        for utterance in range(1000 if call.fault != "silent" else 0):
            due = begin + utterance * PERIOD_SECONDS
            due += LATE_SECONDS if call.fault == "late" and utterance == 1 else 0
            for at in range(0, len(audio), size):
                if call.fault == "gap" and utterance == 1 and at == size:
                    due += BREAK_SECONDS
                sent_at = due + max(0.0, at / 8000 - RESERVE_SECONDS)
                await asyncio.sleep(max(0.0, sent_at - loop.time()))
                await call.media(audio[at : at + size])

    async def _say(self, call: Call, name: str) -> None:
        """Speak 1.1 s, paced with a short lead; the faults of an assistant are here."""
        audio = speech() * (2 if name == "greeting" and call.fault else 1)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        for index, at in enumerate(range(0, len(audio), 160)):
            if call.fault != "early":
                due = begin + index * FRAME_SECONDS - LEAD_SECONDS
                await asyncio.sleep(max(0.0, due - loop.time()))
            if index == AT and name == "greeting" and call.fault == "ignore_clear":
                await call.send("clear")
            if index == AT and name == "greeting" and call.fault == "clear":
                await call.send("mark", mark={"name": "cleared"})
                await call.send("clear")
                return
            if index == AT and call.fault == "gap":
                begin += STALL_SECONDS
                await asyncio.sleep(STALL_SECONDS)
            await call.media(audio[at : at + 160])
        await call.send("mark", mark={"name": name})

    async def _plain(self, socket: ServerConnection, init: dict[str, str]) -> None:
        """The plain wire: says what it got back, after a transcript of both sides."""
        call_id = init["callId"]

        async def send(kind: str, **body: str) -> None:
            await socket.send(json.dumps({"type": kind, "callId": call_id, **body}))

        if init.get("fault") != "deaf":
            await send("ready")
        for role in ("caller", "assistant"):
            await send("transcript", role=role, text=f"{role} in {init['languageHint']}")
        async for text in socket:
            message = json.loads(text)
            if message["type"] == "stop":
                self.stopped += 1
                return
            if message["type"] == "audio":
                await send("audio_out", payload=message["payload"])


def speech() -> bytes:
    """1.1 s of recorded speech, mu-law."""
    clip = load_clips(DEFAULT_AUDIO / "cards-001.wav", 8000)[0]
    return mulaw.encode((clip.samples[: 55 * 160] * 32000).astype(np.int16))


def refuse_when_asked(socket: ServerConnection, request: Request) -> Response | None:
    """A gateway that is full, on a path of its own."""
    if request.path == "/full":
        return socket.respond(HTTPStatus.SERVICE_UNAVAILABLE, "full")
    return None


@asynccontextmanager
async def running_server() -> AsyncIterator[Server]:
    server = Server()
    listen = serve(
        server.handle, "127.0.0.1", 0, compression=None, process_request=refuse_when_asked
    )
    async with listen as listening:
        server.port = next(iter(listening.sockets)).getsockname()[1]
        yield server
