"""The local speech server: the OpenAI audio API in front of offline engines, a main of its own.

``POST /v1/audio/transcriptions`` (multipart: file, model, language, response_format) and
``POST /v1/audio/speech`` (JSON: model, voice, input, response_format) answer in OpenAI's shapes,
errors too, so that any OpenAI client can use it; fields not named here are ignored. ``model`` is
asked for and not compared, there is one model for each task. Speech is streamed as it is made, a
sentence at a time, 24 kHz 16-bit mono. ``GET /healthz``, ``/metrics``, ``/v1/models`` and
``/v1/voices`` tell.

The event loop only parses and sends. Work goes to the engines' threads (see ``engines``), bodies
are bounded before they are read, and a request whose client is gone leaves the queue. While the
engines load, the loop runs already: it beats on the scoreboard and can be told to stop.

``main`` is what the supervisor runs; numpy and the engines are imported after that. It ends on
SIGTERM or when the alive pipe gives end of file (supervisor and workers are gone). A Ctrl-C
reaches the whole process group and is left to the supervisor.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import struct
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass
from functools import partial
from typing import TypeVar

import orjson
import uvloop
from starlette.applications import Starlette
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from audio.format import PCM_BYTES_PER_SAMPLE, TTS_RATE
from gateway.errors import CapacityError, ConfigurationError
from gateway.ops import log as logs
from gateway.ops.serving import Server, beat, server_config, stop_when_told
from gateway.speech_server.batches import Batches
from gateway.speech_server.engines import (
    INSTALL,
    LANGUAGES,
    AudioError,
    Engines,
    Segment,
    Speaker,
    SynthesisError,
    UnknownVoiceError,
)
from gateway.speech_server.meters import CONTENT_TYPE, Counted, Meters
from supervisor.scoreboard import Field, Phase, Row

#: Exit status of a child whose configuration cannot work; the supervisor's convention.
EXIT_CONFIG = 2

AUDIO_BYTES_MAX = 25 * 1024 * 1024
FORM_BYTES_MAX = 64 * 1024
JSON_BYTES_MAX = 128 * 1024
INPUT_CHARS_MAX = 4096
BODY_TIMEOUT_MS = 10_000
RETRY_AFTER_S = 1

CONNECTIONS_MAX = 4096
KEEP_ALIVE_S = 60
STOP_TIMEOUT_S = 3
BEAT_MS = 100

MODELS = ("whisper-base", "local")
LANGUAGE_NAMES = {"en": "english", "ru": "russian", "ar": "arabic"}
WAV_LENGTH_UNKNOWN = 0xFFFF_FFFF

T = TypeVar("T")
log = logs.get_logger(__name__)


class ApiError(Exception):
    """A request refused: becomes OpenAI's error object with this status."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param

    def response(self) -> Response:
        """``{"error": {"message", "type", "param", "code"}}``."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        headers = {"Retry-After": str(RETRY_AFTER_S)} if self.status == 503 else None
        return _json({"error": error}, self.status, headers)


def _json(content: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, "application/json")


# --------------------------------------------------------------------------- requests


@dataclass(frozen=True, slots=True)
class TranscriptionRequest:
    """The fields of ``POST /v1/audio/transcriptions`` that we read; ``language`` "" = decide."""

    wav: bytes
    language: str
    response_format: str

    @classmethod
    async def of(cls, form: FormData) -> TranscriptionRequest:
        """Check a form. Raises ``ApiError`` (400)."""
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise ApiError(400, "file: a WAV file is required", param="file")
        _required_text(form.get("model"), "model")
        language = form.get("language") or ""
        if language not in ("", *LANGUAGES):
            raise ApiError(400, f"language: one of {', '.join(LANGUAGES)}", param="language")
        response_format = _one_of(form.get("response_format"), ("json", "verbose_json", "text"))
        return cls(await file.read(), str(language), response_format)


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """The fields of ``POST /v1/audio/speech`` that we read."""

    text: str
    voice: str
    response_format: str

    @classmethod
    def of(cls, body: bytes) -> SpeechRequest:
        """Check a JSON body. Raises ``ApiError`` (400)."""
        try:
            fields = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise ApiError(400, f"the body is not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise ApiError(400, "the body is not a JSON object")
        _required_text(fields.get("model"), "model")
        voice = _required_text(fields.get("voice"), "voice")
        text = _required_text(fields.get("input"), "input")
        if len(text) > INPUT_CHARS_MAX:
            message = f"input: {len(text)} characters; at most {INPUT_CHARS_MAX}"
            raise ApiError(400, message, code="string_above_max_length", param="input")
        return cls(text, voice, _one_of(fields.get("response_format"), ("wav", "pcm")))


def _required_text(value: object, param: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ApiError(400, f"{param}: a text that is not empty is required", param=param)
    return value


def _one_of(value: object, choices: Sequence[str]) -> str:
    """A response format; the first choice when none is named."""
    if value is None or value == "":
        return choices[0]
    if isinstance(value, str) and value in choices:
        return value
    message = f"response_format: one of {', '.join(choices)}"
    raise ApiError(400, message, param="response_format")


async def _pieces(request: Request, bytes_max: int) -> AsyncGenerator[bytes, None]:
    """The request's body in pieces. Raises ``ApiError`` (413) beyond ``bytes_max``."""
    length = 0
    async for piece in request.stream():
        length += len(piece)
        if length > bytes_max:
            raise ApiError(413, f"the body is larger than {bytes_max} bytes")
        yield piece


class _FormParser(MultiPartParser):
    """Keeps the file in memory: it is bounded, and a spooled file would block the loop."""

    spool_max_size = AUDIO_BYTES_MAX + FORM_BYTES_MAX


async def _form(request: Request) -> TranscriptionRequest:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise ApiError(400, "the body is not multipart/form-data")
    async with aclosing(_pieces(request, AUDIO_BYTES_MAX + FORM_BYTES_MAX)) as pieces:
        parser = _FormParser(
            request.headers, pieces, max_files=1, max_fields=16, max_part_size=FORM_BYTES_MAX
        )
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise ApiError(400, f"the form cannot be read: {error.message}") from error
    try:
        return await TranscriptionRequest.of(form)
    finally:
        await form.close()


async def _json_body(request: Request) -> SpeechRequest:
    async with aclosing(_pieces(request, JSON_BYTES_MAX)) as pieces:
        return SpeechRequest.of(b"".join([piece async for piece in pieces]))


async def _in_time(reading: Coroutine[None, None, T]) -> T:
    """What is read from a request's body. Raises ``ApiError`` (408) when it comes too slowly."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_MS / 1000):
            return await reading
    except TimeoutError as error:
        raise ApiError(408, "the body did not arrive in time") from error


async def _unless_gone(request: Request, work: Coroutine[None, None, T]) -> T:
    """The work's result; cancels it and raises ``ClientDisconnect`` when the client goes away."""
    job = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_until_gone(request))
    try:
        await asyncio.wait({job, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not job.done():
            raise ClientDisconnect
        return job.result()
    finally:
        job.cancel()
        gone.cancel()


async def _until_gone(request: Request) -> None:
    """Return when the client is gone; only after the body was read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


# --------------------------------------------------------------------------- answers


def transcription_response(segments: Sequence[Segment], response_format: str) -> Response:
    """What was heard in the wanted format."""
    text = " ".join(s.heard.text for s in segments if s.heard.text)
    if response_format == "text":
        return Response(text + "\n", media_type="text/plain")
    if response_format == "json":
        return _json({"text": text})
    language = next((s.heard.language for s in segments if s.heard.text), "")
    return _json(
        {
            "task": "transcribe",
            "language": LANGUAGE_NAMES.get(language, ""),
            "duration": segments[-1].end_s,
            "text": text,
            "segments": [_segment(number, s) for number, s in enumerate(segments)],
        }
    )


def _segment(number: int, segment: Segment) -> dict[str, object]:
    return {
        "id": number,
        "start": segment.start_s,
        "end": segment.end_s,
        "text": segment.heard.text,
        "avg_logprob": segment.heard.logprob_mean,
        "no_speech_prob": segment.heard.no_speech_prob,
    }


def wav_header() -> bytes:
    """44 bytes before a stream of 24 kHz 16-bit mono PCM whose length is not known yet."""
    rate, width = TTS_RATE, PCM_BYTES_PER_SAMPLE
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * width, width, 8 * width)
    data = struct.pack("<4sI", b"data", WAV_LENGTH_UNKNOWN)
    return struct.pack("<4sI4s", b"RIFF", WAV_LENGTH_UNKNOWN, b"WAVE") + form + data


Speak = Callable[[str], Coroutine[None, None, bytes]]


async def spoken(first: bytes, speak: Speak, rest: Sequence[str]) -> AsyncIterator[bytes]:
    """The first sentence, then the others, each made when the one before it was sent."""
    yield first
    for sentence in rest:
        yield await speak(sentence)


class Api:
    """The endpoints."""

    def __init__(self, engines: Engines) -> None:
        self._engines = engines
        self._meters = meters = Meters()
        self._batches = Batches(engines.recognizer, engines.thread, meters)
        for thread in {engines.thread, *(speaker.thread for speaker in engines.speakers)}:
            meters.watch(thread.name, partial(getattr, thread, "places"))

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/healthz", self.health),
            Route("/metrics", self.metrics),
            Route("/v1/models", self.models),
            Route("/v1/voices", self.voices),
            Route("/v1/audio/transcriptions", self.transcribe, methods=["POST"]),
            Route("/v1/audio/speech", self.speak, methods=["POST"]),
        ]
        app = Starlette(routes=routes, middleware=[Middleware(Counted, meters=self._meters)])
        for kind in (ApiError, CapacityError, AudioError, UnknownVoiceError, SynthesisError):
            app.add_exception_handler(kind, _refuse)
        app.add_exception_handler(HTTPException, _refuse)
        app.add_exception_handler(ClientDisconnect, _refuse)
        app.add_exception_handler(Exception, _refuse)
        return app

    async def health(self, _: Request) -> Response:
        """Nothing is answered before the engines are loaded: if this is, they are."""
        return _json({"status": "ok"})

    async def metrics(self, _: Request) -> Response:
        """Prometheus' text."""
        return Response(self._meters.page(), media_type=CONTENT_TYPE)

    async def models(self, _: Request) -> Response:
        """OpenAI's list of models."""
        models = [
            {"id": name, "object": "model", "created": 0, "owned_by": "local"} for name in MODELS
        ]
        return _json({"object": "list", "data": models})

    async def voices(self, _: Request) -> Response:
        """Language -> its voices, best first, or what to install for one."""
        listed: dict[str, dict[str, object]] = {}
        for language in LANGUAGES:
            infos = [s.voice.info for s in self._engines.speakers]
            found = [asdict(info) for info in infos if info.language == language]
            listed[language] = {"voices": found} if found else {"install": INSTALL[language]}
        return _json(listed)

    async def transcribe(self, request: Request) -> Response:
        """``POST /v1/audio/transcriptions``."""
        with self._engines.thread.place():
            wanted = await _in_time(_form(request))
            work = self._batches.segments(wanted.wav, wanted.language)
            segments = await _unless_gone(request, work)
        return transcription_response(segments, wanted.response_format)

    async def speak(self, request: Request) -> Response:
        """``POST /v1/audio/speech``; the status is decided when the first sentence is there."""
        wanted = await _in_time(_json_body(request))
        speaker = self._engines.speaker(wanted.voice)
        speak = partial(self._sentence, speaker)
        sentences = self._engines.sentences(wanted.text)
        first = b""
        if sentences:
            with speaker.thread.place():
                first = await _unless_gone(request, speak(sentences[0]))
        if wanted.response_format == "wav":
            first = wav_header() + first
        media_type = {"wav": "audio/wav", "pcm": "audio/pcm"}[wanted.response_format]
        return StreamingResponse(spoken(first, speak, sentences[1:]), media_type=media_type)

    async def _sentence(self, speaker: Speaker, sentence: str) -> bytes:
        with self._meters.speaking.labels(speaker.voice.info.name).time():
            return await speaker.speak(sentence)


async def _refuse(_: Request, error: Exception) -> Response:
    """Any error of a request in OpenAI's shape."""
    match error:
        case ApiError():
            return error.response()
        case CapacityError():
            return ApiError(503, f"{error}; try again", code="server_busy").response()
        case AudioError():
            return ApiError(400, str(error), code="invalid_audio", param="file").response()
        case UnknownVoiceError():
            return ApiError(400, str(error), code="unknown_voice", param="voice").response()
        case HTTPException():
            return ApiError(error.status_code, error.detail).response()
        case ClientDisconnect():
            return Response(status_code=499)  # for nobody: the connection is closed
        case SynthesisError():
            log.warning("synthesis failed", reason=str(error))
            return ApiError(500, str(error), code="synthesis_failed").response()
    return ApiError(500, "internal error").response()


# --------------------------------------------------------------------------- the process


def main(*, row: Row, listener: socket.socket, alive_fd: int, log_level: str) -> int:
    """Serve until told to stop; exit status 0, 1 when something broke, 2 when it cannot work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return run(row, listener, alive_fd, log_level)


def run(row: Row, listener: socket.socket, alive_fd: int, log_level: str) -> int:
    """``main`` without touching SIGINT."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # read when numpy and ctranslate2 are imported
    process = f"{row.name.kind}-{row.name.index}"
    logs.configure(log_level, process)
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of each bad form
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(row, listener, alive_fd))
    except ConfigurationError as error:
        sys.stderr.write(f"{process}: {error}\n")
        return EXIT_CONFIG
    except Exception as error:  # noqa: BLE001 - the last place that can say why it ends
        log.fatal("speech server failed", exc_info=error)
        return 1
    finally:
        logs.shutdown()
    return 0


def server_of(engines: Engines, on_serving: Callable[[], None]) -> Server:
    """The server of the API, not started."""
    config = server_config(
        Api(engines).app(),
        connections_max=CONNECTIONS_MAX,
        keep_alive_s=KEEP_ALIVE_S,
        stop_timeout_s=STOP_TIMEOUT_S,
    )
    return Server(config, on_serving)


async def _serve(row: Row, listener: socket.socket, alive_fd: int) -> None:
    stop = asyncio.Event()
    stop_when_told(stop, alive_fd)
    beating = asyncio.create_task(beat(row))
    loading = asyncio.create_task(Engines.load())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            engines = loading.result()
            log.info("engines loaded", voices=[s.voice.info.name for s in engines.speakers])
            server = server_of(engines, row.ready)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            row.set(Field.PHASE, Phase.DRAINING)
            log.info("stopping")
            server.should_exit = True
            await serving
            engines.close()
    finally:
        for task in (beating, loading, stopping):
            task.cancel()
