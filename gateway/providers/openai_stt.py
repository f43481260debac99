"""Speech to text by any server with the OpenAI audio API, and what its providers share.

The audio travels as a WAV made in memory. Without a language the server is asked for
``verbose_json``, the one format that tells which language it heard. Some models only know
``json``: a server that refuses the long format once is asked for the short one from then on. The
answer is parsed here and not by the client library, whose models are stricter than the servers.

A request has one deadline, over everything, and is never repeated here: a caller waits, and the
turn table knows better than this file whether to ask again.

Errors of the library and of its HTTP client become ``ProviderError`` with a short text of ours:
theirs may quote the request, headers and key included.
"""

from __future__ import annotations

import asyncio
import io
import ipaddress
import wave
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import openai
import orjson

from audio.format import PCM_BYTES_PER_SAMPLE, PCM_RATE
from gateway.errors import ConfigurationError, ProviderError
from gateway.providers.base import Ear, Transcript, UtteranceEar

TRANSCRIBE_TIMEOUT_MS = 10_000
CONNECT_TIMEOUT_MS = 2_000
#: What the client library wants of a key where the server wants none.
KEY_FOR_NOBODY = "local"
#: Every call of a worker may speak at once; a connection is busy until its clause was played.
CONNECTIONS_MAX = 1024
CONNECTIONS_IDLE_MAX = 32
IDLE_TIMEOUT_S = 30

LANGUAGE_CODES = {
    "english": "en",
    "russian": "ru",
    "arabic": "ar",
    "en": "en",
    "ru": "ru",
    "ar": "ar",
}
_RETRYABLE_STATUSES = frozenset({408, 409, 425, 429})


class OpenAISpeechToText:
    """A ``SpeechToText`` that asks a server."""

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        model: str,
        timeout_ms: int = TRANSCRIBE_TIMEOUT_MS,
        connect_timeout_ms: int = CONNECT_TIMEOUT_MS,
    ) -> None:
        """``base_url`` ends with the API's version, as in ``https://api.openai.com/v1``."""
        self._client = open_client(base_url, api_key, timeout_ms, connect_timeout_ms)
        self._model = model
        self._timeout_ms = timeout_ms
        self._verbose = True

    def listen(self) -> Ear:
        """An ear for one call."""
        return UtteranceEar(self)

    async def transcribe(self, pcm: bytes, language: str) -> Transcript:
        """Transcribe 16 kHz PCM; ``language`` "" = decide. Raises ``ProviderError``."""
        wav = to_wav(pcm)
        async with provider_errors("speech-to-text"), asyncio.timeout(self._timeout_ms / 1000):
            if not language and self._verbose:
                try:
                    return parse(await self._ask(wav, "", "verbose_json"), "")
                except openai.BadRequestError as error:
                    if not _is_about_the_format(error):
                        raise
                    self._verbose = False
            return parse(await self._ask(wav, language, "json"), language)

    async def _ask(self, wav: bytes, language: str, response_format: str) -> bytes:
        answer = await self._client.audio.transcriptions.with_raw_response.create(
            file=("utterance.wav", wav, "audio/wav"),
            model=self._model,
            language=language or openai.omit,
            response_format="verbose_json" if response_format == "verbose_json" else "json",
        )
        return answer.content

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()


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
    """A server's JSON answer; ``language`` is what was asked for, it wins over what was heard.

    An unknown language is "". Raises ``ProviderError`` for anything without a text.
    """
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ProviderError("speech-to-text: the answer is not JSON") from error
    text = fields.get("text") if isinstance(fields, dict) else None
    if not isinstance(text, str):
        raise ProviderError("speech-to-text: the answer holds no text")
    heard = LANGUAGE_CODES.get(str(fields.get("language", "")).lower(), "")
    return Transcript(text.strip(), language or heard)


def _is_about_the_format(error: openai.BadRequestError) -> bool:
    return error.param == "response_format" or "response_format" in error.message


# --------------------------------------------------------------------------- shared


def open_client(
    base_url: str, api_key: str, read_timeout_ms: int, connect_timeout_ms: int
) -> openai.AsyncOpenAI:
    """A client that never repeats a request and sends it to nobody but ``base_url``.

    Proxies of the environment are used, except for a server on this host; redirects are not
    followed. Raises ``ConfigurationError`` for a URL or a key that no request could be made with.
    """
    if not (api_key.isascii() and (api_key.isprintable() or not api_key)):
        raise ConfigurationError("the API key holds characters that no key has")
    connect_s = connect_timeout_ms / 1000
    timeout = httpx2.Timeout(read_timeout_ms / 1000, connect=connect_s, pool=connect_s)
    limits = httpx2.Limits(
        max_connections=CONNECTIONS_MAX,
        max_keepalive_connections=CONNECTIONS_IDLE_MAX,
        keepalive_expiry=IDLE_TIMEOUT_S,
    )
    http = httpx2.AsyncClient(timeout=timeout, limits=limits, trust_env=not is_loopback(base_url))
    return openai.AsyncOpenAI(
        base_url=base_url,
        api_key=api_key or KEY_FOR_NOBODY,
        max_retries=0,
        timeout=timeout,
        http_client=http,
    )


def is_loopback(base_url: str) -> bool:
    """Whether a URL means this host. Raises ``ConfigurationError`` if it is none."""
    try:
        host = httpx2.URL(base_url).host
    except httpx2.InvalidURL as error:
        raise ConfigurationError(f"{base_url!r} is not a URL: {error}") from error
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@asynccontextmanager
async def provider_errors(what: str) -> AsyncIterator[None]:
    """Turn what the client library may raise into ``ProviderError``; ``what`` begins its text."""
    try:
        yield
    except (TimeoutError, openai.APITimeoutError, httpx2.TimeoutException) as error:
        raise ProviderError(f"{what}: no answer in time", retryable=True) from error
    except openai.APIStatusError as error:
        status = error.status_code
        retryable = status >= 500 or status in _RETRYABLE_STATUSES
        raise ProviderError(f"{what}: refused with status {status}", retryable=retryable) from error
    except (openai.APIConnectionError, httpx2.TransportError) as error:
        raise ProviderError(f"{what}: the connection failed", retryable=True) from error
    except (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError) as error:
        raise ProviderError(f"{what}: {type(error).__name__}") from error
