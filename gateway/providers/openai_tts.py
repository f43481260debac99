"""Text to speech by any server with the OpenAI audio API, streamed.

PCM at 24 kHz is the one raw format of that API, so nothing is decoded here; but the network cuts
it anywhere, and a sample has two bytes: ``whole_samples`` keeps an odd byte for the next chunk.

Deadlines: one until the first audio (what the caller hears as a slow answer), one for each later
chunk. The time the consumer takes between two chunks counts for neither. Whoever stops listening
half-way must close the generator (``contextlib.aclosing``): that closes the request, and the
server stops speaking.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing

from audio.format import PCM_BYTES_PER_SAMPLE
from gateway.errors import ProviderError
from gateway.providers.openai_stt import CONNECT_TIMEOUT_MS, open_client, provider_errors

FIRST_AUDIO_TIMEOUT_MS = 5_000
NEXT_AUDIO_TIMEOUT_MS = 3_000
#: Words of content types that are certainly something else; servers name PCM in many ways.
_NOT_PCM = ("json", "text/", "mpeg", "mp3", "ogg", "opus", "aac", "flac")


class OpenAITextToSpeech:
    """A ``TextToSpeech`` that asks a server."""

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        model: str,
        voice: str,
        first_audio_timeout_ms: int = FIRST_AUDIO_TIMEOUT_MS,
        next_audio_timeout_ms: int = NEXT_AUDIO_TIMEOUT_MS,
    ) -> None:
        """``voice`` "" = the code of the text's language, which our own server takes."""
        longest_ms = max(first_audio_timeout_ms, next_audio_timeout_ms)
        self._client = open_client(base_url, api_key, longest_ms, CONNECT_TIMEOUT_MS)
        self._model = model
        self._voice = voice
        self._first_s = first_audio_timeout_ms / 1000
        self._next_s = next_audio_timeout_ms / 1000

    async def speak(self, text: str, language: str) -> AsyncGenerator[bytes, None]:
        """Stream 24 kHz PCM, any chunk size, whole samples. Raises ``ProviderError``."""
        async with provider_errors("text-to-speech"), AsyncExitStack() as stack:
            async with asyncio.timeout(self._first_s):
                answer = await stack.enter_async_context(
                    self._client.audio.speech.with_streaming_response.create(
                        model=self._model,
                        voice=self._voice or language,
                        input=text,
                        response_format="pcm",
                    )
                )
                content_type = answer.headers.get("content-type", "")
                if not may_be_pcm(content_type):
                    raise ProviderError(f"text-to-speech: {content_type[:40]} is not PCM")
                chunks = await stack.enter_async_context(
                    aclosing(whole_samples(answer.iter_bytes()))
                )
                chunk = await anext(chunks, b"")
            while chunk:
                yield chunk
                async with asyncio.timeout(self._next_s):
                    chunk = await anext(chunks, b"")

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()


def may_be_pcm(content_type: str) -> bool:
    """Whether an answer of this type can be played: another, played as PCM, would be noise."""
    return not any(word in content_type.lower() for word in _NOT_PCM)


async def whole_samples(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The same bytes in pieces of whole samples, none empty; half a sample at the end is lost."""
    carry = b""
    async for piece in pieces:
        joined = carry + piece
        even = len(joined) - len(joined) % PCM_BYTES_PER_SAMPLE
        carry = joined[even:]
        if even:
            yield joined[:even]
