"""A fake of OpenAI's HTTP API: models, transcriptions, speech and chat, with faults on demand.

Real sockets and real server-sent events; every JSON it sends was validated against the types of
the installed ``openai`` package. What it answers, how slowly, and what goes wrong is set in a
:class:`Script`: in the same process by hand, else by ``PUT /fake/script``.

    python -m tests.fakes.openai_http --port 0 --script '{"stt_ms": 300}'
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import socket
import struct
import time
import wave
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from io import BytesIO
from typing import Any

import uvicorn
import uvloop
from openai.types import Model
from openai.types.audio import (
    Transcription,
    TranscriptionTextDeltaEvent,
    TranscriptionTextDoneEvent,
    TranscriptionVerbose,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.fakes.openai_shapes import chat_chunk, form_fields, sse_event, tool_deltas, word_chunk

KEY = "sk-fake-0123456789abcdefghij"
FOREVER_S = 3600
OVERSIZED_BYTES = 32 * 1024 * 1024
_STREAMING = ("gpt-transcribe", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")
VOICES = ("alloy", "ash", "ballad", "coral", "echo", "marin", "cedar", "en", "ru", "ar")
MODELS = ("gpt-transcribe", "gpt-4o-mini-tts", "gpt-6-luna", "whisper-1")


@dataclass
class Fault:
    """One thing that goes wrong with one request: a status, or a stream that breaks.

    After ``after_bytes`` of the body it stalls, is reset, or brings ``garbage``; ``oversized``
    hardly ever ends. ``times`` requests have it; -1 = all.
    """

    stage: str
    status: int = 0
    retry_after: str = ""
    kind: str = ""  # stall, reset, garbage, shape, oversized, error
    after_bytes: int = 0
    times: int = -1


@dataclass
class Turn:
    """What one answer of the fake took, in ns of the monotonic clock; -1 = not yet."""

    heard: str
    stt_sent_ns: int = -1
    chat_asked_ns: int = -1
    clause_sent_ns: int = -1
    tts_asked_ns: int = -1
    audio_sent_ns: int = -1


@dataclass
class Script:
    """How the fake behaves; every latency is its own, before its first byte (or between)."""

    transcript: str = "What are your opening hours?"
    number_turns: bool = False  # append a number to each transcript, and to what is said to it
    answer: str = "We are open from nine to five. Can I help you with anything else?"
    tool_calls: list[list[dict[str, str]]] = field(default_factory=list)  # of the next answers
    language: str = "en"
    stt_ms: int = 0
    chat_ms: int = 0
    token_ms: int = 0
    tts_ms: int = 0
    speech_ms: int = 600
    faults: list[Fault] = field(default_factory=list)
    shutdown_dates: dict[str, str] = field(default_factory=dict)


class _Resettable(H11Protocol):
    """An HTTP protocol whose connections the application can reset."""

    transports: dict[object, asyncio.Transport] = {}  # noqa: RUF012 - of the process, like ports
    #: When the last bytes came on a connection: what reading a request costs is the fake's time.
    came_ns: dict[object, int] = {}  # noqa: RUF012

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.peer = transport.get_extra_info("peername")
        self.transports[self.peer] = transport

    @override
    def data_received(self, data: bytes) -> None:
        self.came_ns[self.peer] = time.monotonic_ns()
        super().data_received(data)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.transports.pop(self.peer, None)
        self.came_ns.pop(self.peer, None)
        super().connection_lost(exc)


def _came_ns(request: Request) -> int:
    assert request.client is not None
    return _Resettable.came_ns[tuple(request.client)]


def _reset(request: Request) -> None:
    """Send a TCP reset, as a crashed server's host does."""
    assert request.client is not None
    transport = _Resettable.transports.pop(tuple(request.client))
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class FakeOpenAI:
    """The application and everything it was asked."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script or Script()
        self.asked: deque[tuple[str, dict[str, Any]]] = deque(maxlen=10_000)
        self.turns: dict[str, Turn] = {}
        #: The ends of all connections on which something was asked.
        self.peers: set[tuple[object, ...]] = set()
        #: An asker closed a stream before its end.
        self.left = asyncio.Event()
        self.url = ""
        self._numbers = itertools.count(1)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/models", self.models),
                Route("/v1/audio/transcriptions", self.transcribe, methods=["POST"]),
                Route("/v1/audio/speech", self.speak, methods=["POST"]),
                Route("/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/fake/script", self.set_script, methods=["PUT"]),
                Route("/fake/turns", self.list_turns),
                Route("/fake/ping", self.ping),
            ]
        )

    def stages(self) -> list[str]:
        return [stage for stage, _ in self.asked]

    # The API

    async def models(self, request: Request) -> Response:
        if refusal := self._refusal(request, "models"):
            return refusal
        dates = self.script.shutdown_dates
        listed = [
            Model(
                id=name, created=0, object="model", owned_by="fake", shutdown_date=dates.get(name)
            )
            for name in MODELS
        ]
        return JSONResponse({"object": "list", "data": [m.model_dump() for m in listed]})

    async def transcribe(self, request: Request) -> Response:
        form = form_fields(request.headers["content-type"], await request.body())
        wav = form.pop("file")
        with wave.open(BytesIO(wav)) as sound:
            assert (sound.getnchannels(), sound.getsampwidth()) == (1, 2)
            form["seconds"] = sound.getnframes() / sound.getframerate()
        self.asked.append(("stt", form))
        if refusal := self._refusal(request, "stt"):
            return refusal
        await asyncio.sleep(self.script.stt_ms / 1000)
        text = self.script.transcript
        if self.script.number_turns:
            text = f"{text} {next(self._numbers)}"
        turn = self.turns[text] = Turn(text)
        if form.get("stream") == "true" and form["model"].startswith(_STREAMING):
            return self._stream(request, "stt", self._transcript_events(text, turn))
        turn.stt_sent_ns = time.monotonic_ns()
        if form.get("response_format") == "verbose_json":
            found: Transcription | TranscriptionVerbose = TranscriptionVerbose(
                text=text, language="english", duration=form["seconds"]
            )
        else:
            found = Transcription(text=text)
        return self._whole(request, "stt", found.model_dump_json().encode())

    async def _transcript_events(self, text: str, turn: Turn) -> AsyncIterator[bytes]:
        for word in text.split():
            delta = TranscriptionTextDeltaEvent(delta=word + " ", type="transcript.text.delta")
            yield sse_event(delta.model_dump_json())
        done = {"text": text, "type": "transcript.text.done"}
        done["languages"] = [{"code": self.script.language}] if self.script.language else []  # type: ignore[assignment]
        turn.stt_sent_ns = time.monotonic_ns()
        yield sse_event(TranscriptionTextDoneEvent.model_validate(done).model_dump_json())
        yield b"data: [DONE]\n\n"

    async def speak(self, request: Request) -> Response:
        fields = json.loads(await request.body())
        asked_ns = _came_ns(request)
        self.asked.append(("tts", fields))
        if refusal := self._refusal(request, "tts"):
            return refusal
        if fields["voice"] not in VOICES:
            return _error(400, f"no voice {fields['voice']}", "voice")
        if not 1 <= len(fields["input"]) <= 4096:
            return _error(400, "input must have 1 to 4096 characters", "input")
        turn = self._turn_of(fields["input"])
        if turn is not None and turn.tts_asked_ns < 0:
            turn.tts_asked_ns = asked_ns
        return self._stream(request, "tts", self._speech(turn), "audio/pcm")

    async def _speech(self, turn: Turn | None) -> AsyncIterator[bytes]:
        await asyncio.sleep(self.script.tts_ms / 1000)
        left = self.script.speech_ms * 48
        while left > 0:
            size = min(left, 9_601)  # an odd number: samples are cut
            yield (b"\x00\x10" * (size // 2 + 1))[:size]
            if turn is not None and turn.audio_sent_ns < 0:
                turn.audio_sent_ns = time.monotonic_ns()
            left -= size

    async def chat(self, request: Request) -> Response:
        fields = json.loads(await request.body())
        asked_ns = _came_ns(request)
        self.asked.append(("llm", fields))
        if refusal := self._refusal(request, "llm"):
            return refusal
        said = [m for m in fields["messages"] if m["role"] == "user"]
        turn = self.turns.get(said[-1]["content"]) if said else None
        if turn is not None:
            turn.chat_asked_ns = asked_ns
        return self._stream(request, "llm", self._chat_events(turn))

    async def _chat_events(self, turn: Turn | None) -> AsyncIterator[bytes]:
        script = self.script
        calls = script.tool_calls.pop(0) if script.tool_calls else []
        text = "" if calls and not calls[0].get("with_text") else script.answer
        if turn is not None and script.number_turns:
            text = f"Number {turn.heard.rsplit(' ', 1)[-1]}. {text}"
        await asyncio.sleep(script.chat_ms / 1000)
        clause_at = text.find(". ") + 2
        sent = 0
        for word in text.split(" ") if text else ():
            yield sse_event(word_chunk(word + " "))
            sent += len(word) + 1
            if turn is not None and turn.clause_sent_ns < 0 and sent >= clause_at:
                turn.clause_sent_ns = time.monotonic_ns()
            await asyncio.sleep(script.token_ms / 1000)
        for index, call in enumerate(calls):
            for delta in tool_deltas(index, call):
                yield sse_event(chat_chunk(delta))
        yield sse_event(chat_chunk({}, "tool_calls" if calls else "stop"))
        yield sse_event(chat_chunk(None, usage=(20, len(text) // 4)))
        yield b"data: [DONE]\n\n"

    # The fake's own side

    async def set_script(self, request: Request) -> Response:
        fields = json.loads(await request.body())
        faults = [Fault(**fault) for fault in fields.pop("faults", [])]
        self.script = Script(**fields, faults=faults)
        return Response(status_code=204)

    async def list_turns(self, _: Request) -> Response:
        return JSONResponse([asdict(turn) for turn in self.turns.values()])

    async def ping(self, request: Request) -> Response:
        """When this request had come, and when that was sent: the ways there and back."""

        async def times() -> AsyncIterator[bytes]:
            yield b"%d " % _came_ns(request)
            yield b"%d\n" % time.monotonic_ns()

        return StreamingResponse(times(), media_type="text/plain")

    def _turn_of(self, text: str) -> Turn | None:
        """The turn whose number a spoken text names."""
        if not (self.script.number_turns and text.startswith("Number ")):
            return None
        number = text.removeprefix("Number ").split(".")[0]
        return self.turns.get(f"{self.script.transcript} {number}")

    def _fault(self, stage: str) -> Fault | None:
        found = next((f for f in self.script.faults if f.stage == stage and f.times), None)
        if found is not None and found.times > 0:
            found.times -= 1
        return found

    def _refusal(self, request: Request, stage: str) -> Response | None:
        """The answer to a request that is not let in; what breaks later is kept for then."""
        assert request.client is not None
        self.peers.add(tuple(request.client))
        fault = self._fault(stage)
        request.state.fault = fault
        if request.headers.get("authorization") not in (f"Bearer {KEY}", "Bearer local"):
            return _error(401, "Incorrect API key provided", None)
        if fault is None or not fault.status:
            return None
        answer = _error(fault.status, "scripted", None)
        if fault.retry_after:
            answer.headers["Retry-After"] = fault.retry_after
        return answer

    def _whole(self, request: Request, stage: str, body: bytes) -> Response:
        async def once() -> AsyncIterator[bytes]:
            yield body

        return self._stream(request, stage, once(), "application/json")

    def _stream(
        self,
        request: Request,
        stage: str,
        pieces: AsyncIterator[bytes],
        media_type: str = "text/event-stream",
    ) -> Response:
        body = self._watched(_breaking(request, request.state.fault, pieces))
        return StreamingResponse(body, media_type=media_type)

    async def _watched(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for piece in pieces:
                yield piece
        except (asyncio.CancelledError, GeneratorExit):
            self.left.set()
            raise


async def _breaking(
    request: Request, fault: Fault | None, pieces: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    """The pieces, until the fault's place is reached; then what the fault does."""
    left = fault.after_bytes if fault is not None else 0
    async for piece in pieces:
        if fault is None or not fault.kind:
            yield piece
            continue
        if left >= len(piece):
            left -= len(piece)
            yield piece
            continue
        if left:
            yield piece[:left]
            left = 0
        async for broken in _broken(request, fault.kind):
            yield broken
        if fault.kind in ("garbage", "shape"):
            fault = None


async def _broken(request: Request, kind: str) -> AsyncIterator[bytes]:
    if kind == "stall":
        await asyncio.sleep(FOREVER_S)
    elif kind == "reset":
        await asyncio.sleep(0.02)  # what was written before is on its way
        _reset(request)
        await asyncio.sleep(FOREVER_S)
    elif kind == "garbage":
        yield b"data: {this is not JSON\n\n"
    elif kind == "shape":
        yield b'data: {"choices": [{"delta": null, "index": "x"}], "usage": 7}\n\n'
    elif kind == "error":
        yield b'data: {"error": {"message": "overloaded", "type": "server_error"}}\n\n'
    elif kind == "oversized":
        for _ in range(OVERSIZED_BYTES // 65_536):
            yield b"x" * 65_536
            await asyncio.sleep(0)  # uvicorn takes anything for a peer that has left
    else:
        raise ValueError(kind)


def _error(status: int, message: str, param: str | None) -> Response:
    body = {"error": {"message": message, "type": "fake_error", "param": param, "code": None}}
    return JSONResponse(body, status)


@asynccontextmanager
async def serving(
    script: Script | None = None, sock: socket.socket | None = None
) -> AsyncIterator[FakeOpenAI]:
    """A fake on a free port of this process's loop."""
    fake = FakeOpenAI(script)
    if sock is None:
        sock = socket.create_server(("127.0.0.1", 0))
    # Asyncio leaves it off where a socket does not name its protocol: 40 ms for a small answer.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    fake.url = f"http://127.0.0.1:{sock.getsockname()[1]}/v1"
    config = uvicorn.Config(
        fake.app(),
        http=_Resettable,
        lifespan="off",
        log_level="critical",
        ws="none",
        timeout_graceful_shutdown=0,
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # type: ignore[assignment] # they are the test's
    task = asyncio.create_task(server.serve([sock]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.005)
    try:
        yield fake
    finally:
        server.should_exit = server.force_exit = True
        for transport in tuple(_Resettable.transports.values()):
            transport.abort()
        await task
        sock.close()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.openai_http")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--script", default="{}", help="JSON of a Script")
    given = parser.parse_args(arguments)
    fields = json.loads(given.script)
    faults = [Fault(**fault) for fault in fields.pop("faults", [])]

    async def run() -> None:
        sock = socket.create_server(("127.0.0.1", given.port), backlog=512)
        async with serving(Script(**fields, faults=faults), sock) as fake:
            print(fake.url, flush=True)  # noqa: T201 - who started it waits for this line
            await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(run())


if __name__ == "__main__":
    main()
