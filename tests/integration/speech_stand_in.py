"""A speech server that hears what a test says it hears, and speaks half a second of a tone."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

#: Half a second of 24 kHz PCM16 that is not silence.
TONE = b"\x00\x10" * 12_000


@dataclass
class SpeechStandIn:
    """What every utterance is understood as now, and what was said."""

    url: str = ""
    hears: str = ""
    said: list[str] = field(default_factory=list)
    asked: int = 0
    heard: int = 0
    delay_s: float = 0.0

    async def transcribe(self, request: Request) -> Response:
        await request.body()
        self.asked += 1
        await asyncio.sleep(self.delay_s)
        self.heard += 1
        return JSONResponse({"text": self.hears, "language": "english"})

    async def speak(self, request: Request) -> Response:
        self.said.append(json.loads(await request.body())["input"])
        return Response(TONE, media_type="audio/pcm")


@contextmanager
def speech_stand_in() -> Iterator[SpeechStandIn]:
    """Both APIs on a free port, in a thread with a loop of its own."""
    speech = SpeechStandIn()
    routes = [
        Route("/v1/audio/transcriptions", speech.transcribe, methods=["POST"]),
        Route("/v1/audio/speech", speech.speak, methods=["POST"]),
    ]
    listener = socket.create_server(("127.0.0.1", 0))
    speech.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    config = uvicorn.Config(
        Starlette(routes=routes),
        log_config=None,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        yield speech
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
