"""The worker's providers as one call uses them: with the names and the voice of its profile."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from gateway import clock
from gateway.errors import ProviderError
from gateway.limits import APOLOGY_EVERY_MS
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
    """A ``TextToSpeech`` for one call: it speaks with the voice of its profile.

    When a text cannot be spoken the caller hears an apology instead of silence, if that can be:
    it is among the sentences that are kept. It is no second attempt, the failure is raised too.
    """

    __slots__ = ("_apologies", "_quiet_until_ns", "_tts", "_voice")

    def __init__(self, tts: TextToSpeech, voice: str, apologies: Mapping[str, str]) -> None:
        """``apologies`` holds the sentence of each language."""
        self._tts = tts
        self._voice = voice
        self._apologies = apologies
        self._quiet_until_ns = 0

    async def speak(self, text: str, language: str, voice: str = "") -> AsyncGenerator[bytes, None]:
        """Stream 24 kHz PCM. Raises ProviderError."""
        voice = voice or self._voice
        audible = False
        try:
            async with aclosing(self._tts.speak(text, language, voice)) as stream:
                async for piece in stream:
                    audible = True
                    yield piece
        except ProviderError:
            apology = "" if audible else self._apology(text, language)
            if apology:
                async with aclosing(self._tts.speak(apology, language, voice)) as stream:
                    async for piece in stream:
                        yield piece
            raise

    def _apology(self, text: str, language: str) -> str:
        """What to say instead; "" when that was said just now."""
        now_ns = clock.now_ns()
        apology = self._apologies.get(language, "")
        if now_ns < self._quiet_until_ns or text == apology:
            return ""
        self._quiet_until_ns = now_ns + APOLOGY_EVERY_MS * clock.NS_PER_MS
        return apology

    async def aclose(self) -> None:
        """The provider is the worker's, not the call's."""
