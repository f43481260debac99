"""Speech to text by any server with the OpenAI audio API: an utterance, one request.

The audio travels as a WAV made in memory. Models of OpenAI that can, stream their text, so that a
server that has died half-way is noticed. Of the others, one that is given no language is asked
for ``verbose_json``, the one format that tells which language it heard; a server that refuses the
long format once is asked for the short one from then on. An answer that is not streamed is parsed
here and not by the client library, whose models are stricter than the servers.
"""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from typing import TypedDict

import httpx2
import openai
import orjson

from audio.format import PCM_BYTES_PER_SAMPLE, PCM_RATE
from gateway.errors import ProviderError
from gateway.providers.base import Transcript
from gateway.providers.openai_client import open_client, provider_errors

STAGE = "speech-to-text"
LANGUAGE_CODES = {
    "english": "en",
    "russian": "ru",
    "arabic": "ar",
    "en": "en",
    "ru": "ru",
    "ar": "ar",
}
#: Those a caller may speak, for a model that takes several.
_LANGUAGES = ["en", "ru", "ar"]
#: The end of an answer comes with its last event, as a rule; a connection is not worth more.
FINISH_MS_MAX = 20
_STREAMING = ("gpt-transcribe", "gpt-4o-transcribe", "gpt-4o-mini-transcribe")
_TAKES_KEYWORDS = ("gpt-transcribe",)


class _Form(TypedDict):
    path: str
    files: list[tuple[str, tuple[str, bytes, str]]]
    body: dict[str, object]
    options: openai.RequestOptions


class OpenAISpeechToText:
    """One server that transcribes."""

    def __init__(self, *, base_url: str, api_key: str, model: str) -> None:
        """``base_url`` ends with the API's version, as in ``https://api.openai.com/v1``."""
        self._client = open_client(base_url, api_key)
        self._model = model
        self._streams = model.startswith(_STREAMING)
        self._takes_keywords = model.startswith(_TAKES_KEYWORDS)
        self._verbose = True

    async def transcribe(
        self, pcm: bytes, language: str, keywords: Sequence[str] = ()
    ) -> AsyncGenerator[Transcript, None]:
        """The one transcript of 16 kHz PCM; ``language`` "" = decide. Raises ``ProviderError``."""
        wav = to_wav(pcm)
        async with provider_errors(STAGE):
            if self._streams:
                yield await self._streamed(wav, language, keywords)
            else:
                yield await self._whole(wav, language, keywords)

    async def _whole(self, wav: bytes, language: str, keywords: Sequence[str]) -> Transcript:
        if not language and self._verbose:
            try:
                return parse(await self._ask(wav, "", keywords, "verbose_json"), "")
            except openai.BadRequestError as error:
                if not _is_about_the_format(error):
                    raise
                self._verbose = False
        return parse(await self._ask(wav, language, keywords, "json"), language)

    async def _ask(
        self, wav: bytes, language: str, keywords: Sequence[str], response_format: str
    ) -> bytes:
        fields = {
            "language": language,
            "prompt": ", ".join(keywords),
            "response_format": response_format,
        }
        answer = await self._client.post(**self._form(wav, fields), cast_to=httpx2.Response)
        return answer.content

    async def _streamed(self, wav: bytes, language: str, keywords: Sequence[str]) -> Transcript:
        fields: dict[str, object] = {"response_format": "json", "stream": True}
        if self._takes_keywords:
            fields |= {"keywords": list(keywords), "languages": [] if language else _LANGUAGES}
        else:
            fields |= {"prompt": ", ".join(keywords)}
        stream = await self._client.post(
            **self._form(wav, fields | {"language": language}),
            cast_to=object,
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )
        async with stream:
            async for event in stream:
                if isinstance(event, dict) and event.get("type") == "transcript.text.done":
                    await _finish(stream)
                    return read(event, language)
        raise ProviderError(f"{STAGE}: the stream ended without a text", retryable=True)

    def _form(self, wav: bytes, fields: Mapping[str, object]) -> _Form:
        """A request past the library's models, which cost as much as all the rest of it."""
        return {
            "path": "/audio/transcriptions",
            "files": [("file", ("utterance.wav", wav, "audio/wav"))],
            "body": {"model": self._model, **{k: v for k, v in fields.items() if v}},
            "options": {"headers": {"Content-Type": "multipart/form-data"}},
        }

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()


async def _finish(stream: openai.AsyncStream[object]) -> None:
    """Read the end of an answer that has told all: only then is its connection kept."""
    with suppress(TimeoutError, openai.APIError, ProviderError, ValueError):
        async with asyncio.timeout(FINISH_MS_MAX / 1000):
            async for _ in stream:
                pass


def to_wav(pcm: bytes) -> bytes:
    """16 kHz 16-bit mono PCM with a WAV header before it."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(PCM_BYTES_PER_SAMPLE)
        writer.setframerate(PCM_RATE)
        writer.writeframes(pcm)
    return buffer.getvalue()


def parse(body: bytes, language: str) -> Transcript:
    """A server's JSON answer. Raises ``ProviderError`` for anything without a text."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ProviderError(f"{STAGE}: the answer is not JSON") from error
    if not isinstance(fields, dict):
        raise ProviderError(f"{STAGE}: the answer holds no text")
    return read(fields, language)


def read(fields: Mapping[str, object], language: str) -> Transcript:
    """An answer's fields; ``language`` is what was asked for, it wins over what was heard.

    An unknown language is "". Raises ``ProviderError`` when there is no text.
    """
    text = fields.get("text")
    if not isinstance(text, str):
        raise ProviderError(f"{STAGE}: the answer holds no text")
    return Transcript(text.strip(), language or _heard_language(fields))


def _heard_language(fields: Mapping[str, object]) -> str:
    """The first that we know of what a server says it heard, in either of two forms."""
    listed = fields.get("languages")
    codes = (
        [one.get("code") for one in listed if isinstance(one, dict)]
        if (isinstance(listed, list))
        else [fields.get("language")]
    )
    known = (LANGUAGE_CODES.get(str(code).lower(), "") for code in codes)
    return next((code for code in known if code), "")


def _is_about_the_format(error: openai.BadRequestError) -> bool:
    return error.param == "response_format" or "response_format" in error.message
