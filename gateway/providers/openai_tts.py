"""Text to speech by any server with the OpenAI audio API, streamed.

PCM at 24 kHz is the one raw format of that API, so nothing is decoded here; but the network cuts
it anywhere, and a sample has two bytes: ``whole_samples`` keeps an odd byte for the next chunk.

Whoever stops listening half-way must close the generator (``contextlib.aclosing``): that closes
the request, and the server stops speaking.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing

import openai

from audio.format import PCM_BYTES_PER_SAMPLE
from gateway.errors import ProviderError
from gateway.limits import PROVIDER_AUDIO_BYTES_MAX
from gateway.providers.openai_client import open_client, provider_errors

STAGE = "text-to-speech"
#: What the API takes at once is 4096.
INPUT_CHARS_MAX = 4_000
#: Words of content types that are certainly something else; servers name PCM in many ways.
_NOT_PCM = ("json", "text/", "mpeg", "mp3", "ogg", "opus", "aac", "flac")


class OpenAITextToSpeech:
    """One server that speaks."""

    def __init__(
        self, *, base_url: str, api_key: str, model: str, voice: str, speed: float = 1.0
    ) -> None:
        """``voice`` "" = the code of the text's language, which our own server takes."""
        self._client = open_client(base_url, api_key, PROVIDER_AUDIO_BYTES_MAX)
        self._model = model
        self._voice = voice
        self._speed = speed

    async def speak(self, text: str, language: str, voice: str = "") -> AsyncGenerator[bytes, None]:
        """Stream 24 kHz PCM, any chunk size, whole samples. Raises ``ProviderError``.

        Nothing to say is no audio; ``voice`` is another one than usual.
        """
        for part in parts(text):
            async with aclosing(self._speak(part, voice or self._voice or language)) as stream:
                async for chunk in stream:
                    yield chunk

    async def _speak(self, text: str, voice: str) -> AsyncGenerator[bytes, None]:
        async with (
            provider_errors(STAGE),
            self._client.audio.speech.with_streaming_response.create(
                model=self._model,
                voice=voice,
                input=text,
                response_format="pcm",
                speed=openai.omit if self._speed == 1.0 else self._speed,
            ) as answer,
        ):
            content_type = answer.headers.get("content-type", "")
            if not may_be_pcm(content_type):
                raise ProviderError(f"{STAGE}: {content_type[:40]} is not PCM")
            async with aclosing(whole_samples(answer.iter_bytes())) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()


def may_be_pcm(content_type: str) -> bool:
    """Whether an answer of this type can be played: another, played as PCM, would be noise."""
    return not any(word in content_type.lower() for word in _NOT_PCM)


def parts(text: str) -> Iterator[str]:
    """A text in parts that a server takes, cut at white space where there is any."""
    left = text.strip()
    while left:
        end = len(left)
        if end > INPUT_CHARS_MAX:
            end = left.rfind(" ", 1, INPUT_CHARS_MAX)
            end = INPUT_CHARS_MAX if end < 0 else end
        yield left[:end]
        left = left[end:].lstrip()


async def whole_samples(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The same bytes in pieces of whole samples, none empty; half a sample at the end is lost."""
    carry = b""
    async for piece in pieces:
        joined = carry + piece
        even = len(joined) - len(joined) % PCM_BYTES_PER_SAMPLE
        carry = joined[even:]
        if even:
            yield joined[:even]
