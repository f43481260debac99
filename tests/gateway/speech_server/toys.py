"""Engines that are no engines, behind the real API on a real server; and a real WAV."""

from __future__ import annotations

import asyncio
import io
import threading
import wave
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx2
import numpy as np

from gateway.speech_server import app as server_app
from gateway.speech_server.engines import (
    Engines,
    Heard,
    InferenceThread,
    Speaker,
    SynthesisError,
    Utterance,
    Voice,
    VoiceInfo,
)
from gateway.speech_server.voices import sentences
from gateway.speech_server.whisper import RATE, context_samples, pieces, read_wav

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

PATIENCE_S = 20


def wav(pcm: bytes, *, rate: int = RATE, width: int = 2, channels: int = 1) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate)
        writer.writeframes(pcm)
    return buffer.getvalue()


@dataclass
class ToyRecognizer:
    """Hears the number of samples. While ``closed`` it holds its thread, until it is opened."""

    rate: int = RATE
    asked: list[str] = field(default_factory=list)
    batches: list[list[int]] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.open.set()

    def read(self, wav: bytes) -> Sequence[Samples]:
        return pieces(read_wav(wav))

    def window(self, samples: Samples) -> int:
        return context_samples(len(samples))

    def transcribe_all(self, utterances: Sequence[Utterance]) -> list[Heard]:
        self.asked += [utterance.language for utterance in utterances]
        self.batches.append([len(utterance.samples) for utterance in utterances])
        self.begun.set()
        assert self.open.wait(PATIENCE_S)
        return [self.heard(utterance) for utterance in utterances]

    def heard(self, utterance: Utterance) -> Heard:
        samples = utterance.samples
        text = f"{len(samples)} samples" if samples.any() else ""
        return Heard(text, utterance.language or "ru", 0.25, -0.5)


@dataclass
class ToyVoice:
    """Says each sentence as as many samples as it has characters; fails on "fail"."""

    info: VoiceInfo = field(default_factory=lambda: VoiceInfo("toy", "en", "toy", "none"))
    spoken: list[str] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.open.set()

    def speak(self, sentence: str) -> bytes:
        self.spoken.append(sentence)
        self.begun.set()
        assert self.open.wait(PATIENCE_S)
        if "fail" in sentence:
            raise SynthesisError("the toy failed")
        return b"\x01\x02" * len(sentence)


def toy_engines(recognizer: ToyRecognizer, *voices: Voice, waiting_max: int = 2) -> Engines:
    return Engines(
        recognizer,
        InferenceThread("toy-ear", waiting_max),
        [Speaker(voice, InferenceThread(voice.info.name, waiting_max)) for voice in voices],
        sentences,
    )


@asynccontextmanager
async def serving(engines: Engines) -> AsyncIterator[httpx2.AsyncClient]:
    """The real API on a free port, and a client of it."""
    started = asyncio.Event()
    server = server_app.server_of(engines, started.set)
    server.config.port = 0
    running = asyncio.create_task(server.serve())
    await asyncio.wait_for(started.wait(), PATIENCE_S)
    port = server.servers[0].sockets[0].getsockname()[1]
    client = httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE_S
    )
    try:
        async with client:
            yield client
    finally:
        server.should_exit = True
        await running
        engines.close()


async def until(event: threading.Event) -> None:
    """Wait for a thread's event without stopping the loop."""
    assert await asyncio.to_thread(event.wait, PATIENCE_S)
