"""A call with real voices in virtual time: voice detector, Whisper and synthesizer are real.

What the caller says is audio, through mu-law and the DSP process's step. The engines run while the
virtual clock stands still; how long they take is set, so that what is measured does not depend on
the machine: ``STT_MS`` and ``TTS_MS`` are what they need on an idle core.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Sequence
from functools import cache

import numpy as np
import soxr  # has no py.typed
from numpy.typing import NDArray
from typing_extensions import override

from audio.arena import Arena
from audio.format import PCM_RATE, TTS_RATE, WIRE_RATE, Encoding
from audio.g711 import decode, encode
from gateway import clock
from gateway.providers.base import Ear, Speech, Transcript, UtteranceEar
from gateway.responders.base import Responder
from gateway.speech_server.engines import Voice
from gateway.speech_server.voices import load_espeak, load_festival, load_hibari
from gateway.speech_server.whisper import Whisper
from tests.simulation.stage import Call, Rings

Samples = NDArray[np.float32]  # 8 kHz, full scale 1
STT_MS = 200
TTS_MS = 50
FRAME = WIRE_RATE // 50
_ROOM_DBFS = -60.0


@cache
def whisper() -> Whisper:
    return Whisper.load()


@cache
def voices() -> dict[str, Voice]:
    """By name: hibari's for English, espeak-ng's for all, festival's for Russian if it is here."""
    found = (*load_espeak(), *load_hibari(), *load_festival())
    return {voice.info.name: voice for voice in found}


@cache
def spoken(text: str, voice: str, speech_dbfs: float = -22.0) -> Samples:
    """A text as a caller says it over the telephone, at this level."""
    pcm = np.frombuffer(voices()[voice].speak(text), "<i2").astype(np.float32) / 32768
    samples: Samples = soxr.resample(pcm, TTS_RATE, WIRE_RATE, "HQ").astype(np.float32)
    loud = np.abs(samples) > np.abs(samples).max() * 10 ** (-35 / 20)
    begin, end = np.flatnonzero(loud)[[0, -1]]
    samples = samples[begin : end + 1]
    rms = float(np.sqrt((samples**2).mean()))
    return samples * np.float32(10 ** (speech_dbfs / 20) / rms)


def by_phone(samples: Samples) -> Samples:
    """What is left at 16 kHz of audio that went through mu-law."""
    pcm = np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)
    heard = decode(Encoding.MULAW, encode(Encoding.MULAW, pcm)) / np.float32(32768)
    wide: Samples = soxr.resample(heard, WIRE_RATE, PCM_RATE, "HQ").astype(np.float32)
    return wide


class WhisperSpeechToText:
    def listen(self, keywords: Sequence[str] = ()) -> Ear:
        return UtteranceEar(self)

    async def transcribe(
        self, pcm: bytes, language: str, keywords: Sequence[str] = ()
    ) -> Transcript:
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)
        heard = whisper().transcribe(samples, language)
        await clock.sleep_ms(STT_MS)
        return Transcript(heard.text.strip(), heard.language)

    async def aclose(self) -> None:
        pass


class VoiceTextToSpeech:
    """The voice of the language, and the same text only once."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names
        self._cache: dict[str, bytes] = {}

    async def speak(self, text: str, language: str, voice: str = "") -> AsyncGenerator[bytes, None]:
        if text not in self._cache:
            self._cache[text] = voices()[self._names[language]].speak(text)
        await clock.sleep_ms(TTS_MS)
        yield self._cache[text]

    async def aclose(self) -> None:
        pass


class Aloud(Call):
    """``say`` audio; ``echo`` = (how much softer, in dB; how late, in ms) our voice comes back."""

    def __init__(
        self,
        arena: Arena,
        responder: Responder,
        *,
        language: str = "en",
        echo: tuple[float, int] | None = None,
        tts: VoiceTextToSpeech | None = None,
    ) -> None:
        self._lines = Rings(arena, "silero")
        self._saying: deque[Samples] = deque()
        self._noise = np.random.default_rng(1)
        self._echo = echo
        self._frames = 0
        self.ended_ns = 0
        tts = tts or VoiceTextToSpeech({"en": "heart", "ru": "espeak-ru", "ar": "espeak-ar"})
        speech = Speech(WhisperSpeechToText(), tts)
        super().__init__(self._lines, speech, responder, language=language)

    @override
    def caller_frame(self) -> None:
        frame = self._noise.standard_normal(FRAME).astype(np.float32) * np.float32(
            10 ** (_ROOM_DBFS / 20)
        )
        if self._saying:
            said = self._saying.popleft()
            frame[: len(said)] += said
            if not self._saying:
                self.ended_ns = clock.now_ns()
        if self._echo is not None:
            loss_db, delay_ms = self._echo
            at = clock.now_ns() // 20_000_000 - delay_ms // 20
            played = self.carrier.audio.get(at)
            if played is not None:
                back = decode(Encoding.MULAW, np.frombuffer(played, np.uint8)) / np.float32(32768)
                frame[: len(back)] += back * np.float32(10 ** (-loss_db / 20))
        pcm = np.clip(np.rint(frame * 32768), -32768, 32767).astype(np.int16)
        self._frames += 1
        payload = encode(Encoding.MULAW, pcm).tobytes()
        for heard in self._lines.listen(payload, self._frames * 20):
            self.pipeline.hear(*heard)

    def begin(self, samples: Samples) -> None:
        """Say this from now on."""
        self._saying.extend(samples[at : at + FRAME] for at in range(0, len(samples), FRAME))

    async def said(self) -> None:
        """Until it was said."""
        while self._saying:
            await self.wait(20)

    def answer_ns(self, since_ns: int) -> int | None:
        """When the assistant was heard after that."""
        return next((a for a, _, _ in self.carrier.playing if a >= since_ns), None)


assert PCM_RATE == 2 * WIRE_RATE
