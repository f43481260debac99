"""What the pipeline needs of a provider, as Protocols. PCM is 16-bit little endian, mono."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was heard: ``text`` "" is no speech, ``language`` is ``en``, ``ar``, ``ru`` or ""."""

    text: str
    language: str


class SpeechToText(Protocol):
    """Turns one utterance into text."""

    async def transcribe(self, pcm: bytes, language: str) -> Transcript:
        """Transcribe 16 kHz PCM; ``language`` "" = decide. Raises ProviderError."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


class TextToSpeech(Protocol):
    """Turns text into speech."""

    def speak(self, text: str, language: str) -> AsyncGenerator[bytes, None]:
        """Stream 24 kHz PCM, any chunk size, whole samples. Raises ProviderError."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...
