"""The worker's providers as one call uses them: with the names and the voice of its profile."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from gateway.providers.base import Ear, SpeechToText, TextToSpeech, Transcript


class Attuned:
    """A ``SpeechToText`` for one call: names that its profile knows are likely to be said."""

    __slots__ = ("_keywords", "_stt")

    def __init__(self, stt: SpeechToText, keywords: Sequence[str]) -> None:
        self._stt = stt
        self._keywords = keywords

    def listen(self, keywords: Sequence[str] = ()) -> Ear:
        """The call's ear."""
        return self._stt.listen((*self._keywords, *keywords))

    async def transcribe(
        self, pcm: bytes, language: str, keywords: Sequence[str] = ()
    ) -> Transcript:
        """Transcribe 16 kHz PCM. Raises ProviderError."""
        return await self._stt.transcribe(pcm, language, (*self._keywords, *keywords))

    async def aclose(self) -> None:
        """The provider is the worker's, not the call's."""


class Voiced:
    """A ``TextToSpeech`` for one call: it speaks with the voice of its profile."""

    __slots__ = ("_tts", "_voice")

    def __init__(self, tts: TextToSpeech, voice: str) -> None:
        self._tts = tts
        self._voice = voice

    def speak(self, text: str, language: str, voice: str = "") -> AsyncGenerator[bytes, None]:
        """Stream 24 kHz PCM. Raises ProviderError."""
        return self._tts.speak(text, language, voice or self._voice)

    async def aclose(self) -> None:
        """The provider is the worker's, not the call's."""
