"""Providers that follow a script: what the tests and simulations of whole calls run against."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from audio.format import TTS_FRAME_BYTES
from gateway import clock
from gateway.errors import ProviderError
from gateway.providers.base import Ear, Transcript, UtteranceEar


class ScriptedSpeechToText:
    """Answers with the next line of a script; an exception in the script is raised.

    ``heard`` keeps the length in bytes of each utterance that was transcribed to the end.
    """

    def __init__(self, script: Sequence[str | ProviderError], latency_ms: float = 0) -> None:
        self._script = list(script)
        self._latency_ms = latency_ms
        self.heard: list[int] = []

    def listen(self, keywords: Sequence[str] = ()) -> Ear:
        """An ear for one call."""
        return UtteranceEar(self, keywords)

    async def transcribe(
        self, pcm: bytes, language: str, keywords: Sequence[str] = ()
    ) -> Transcript:
        """The next line; "" when the script is over."""
        del keywords
        await clock.sleep_ms(self._latency_ms)
        self.heard.append(len(pcm))
        line = self._script.pop(0) if self._script else ""
        if isinstance(line, ProviderError):
            raise line
        return Transcript(line, language or "en")

    async def aclose(self) -> None:
        """Nothing is held."""


class ScriptedTextToSpeech:
    """Speaks a tone-free stand-in: ``ms_per_char`` of a constant sample for each character."""

    def __init__(self, ms_per_char: int = 10, latency_ms: float = 0) -> None:
        self._ms_per_char = ms_per_char
        self._latency_ms = latency_ms
        self.spoken: list[str] = []
        self.fail_next = False

    async def speak(self, text: str, language: str, voice: str = "") -> AsyncGenerator[bytes, None]:
        """Whole frames, one at a time."""
        del language, voice
        await clock.sleep_ms(self._latency_ms)
        if self.fail_next:
            self.fail_next = False
            raise ProviderError("scripted failure")
        self.spoken.append(text)
        for _ in range(max(1, len(text) * self._ms_per_char // 20)):
            yield b"\x00\x10" * (TTS_FRAME_BYTES // 2)

    async def aclose(self) -> None:
        """Nothing is held."""
