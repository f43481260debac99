"""What the providers that speak the OpenAI API share: a client, its bounds, its errors.

The library's own defaults (600 s of patience, two retries, a ``Retry-After`` of two minutes slept
out) never apply: a request is made once here, with a connect timeout; whoever asks sets the
deadline and decides about another attempt (``routes.py``).

An answer of any length would be read into memory by the library, and one event of a stream too.
So the bytes of each answer are counted as they arrive, uncompressed, and a client is told how
many may come.

Errors of the library and of its HTTP client become ``ProviderError`` with a short text of ours:
theirs may quote the request, headers and key included.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import openai
from typing_extensions import override

from gateway.errors import ConfigurationError, ProviderError, ProviderFault
from gateway.limits import PROVIDER_TEXT_BYTES_MAX
from gateway.providers.deadlines import CONNECT_TIMEOUT_MS

#: What the client library wants of a key where the server wants none.
KEY_FOR_NOBODY = "local"
#: Every call of a worker may speak at once; a connection is busy until its clause was played.
CONNECTIONS_MAX = 1024
#: Kept for the next answer: another one costs a TLS handshake, which the caller waits for.
CONNECTIONS_IDLE_MAX = 256
IDLE_TIMEOUT_S = 30
#: No single read waits longer, whatever the deadline of the request; it is a second line only.
READ_TIMEOUT_S = 30
RETRY_AFTER_MS_MAX = 3_600_000

_RETRYABLE_STATUSES = frozenset({408, 409, 425, 429})


def open_client(
    base_url: str, api_key: str, bytes_max: int = PROVIDER_TEXT_BYTES_MAX
) -> openai.AsyncOpenAI:
    """A client that never repeats a request and sends it to nobody but ``base_url``.

    Proxies of the environment are used, except for a server on this host; redirects are not
    followed. Raises ``ConfigurationError`` for a URL or a key that no request could be made with.
    """
    if not (api_key.isascii() and (api_key.isprintable() or not api_key)):
        raise ConfigurationError("the API key holds characters that no key has")

    async def bound(response: httpx2.Response) -> None:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise ProviderError("the answer is compressed, which was not asked for")
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Counted(response.stream, bytes_max)

    connect_s = CONNECT_TIMEOUT_MS / 1000
    timeout = httpx2.Timeout(READ_TIMEOUT_S, connect=connect_s, pool=connect_s)
    limits = httpx2.Limits(
        max_connections=CONNECTIONS_MAX,
        max_keepalive_connections=CONNECTIONS_IDLE_MAX,
        keepalive_expiry=IDLE_TIMEOUT_S,
    )
    http = httpx2.AsyncClient(
        timeout=timeout,
        limits=limits,
        trust_env=not is_loopback(base_url),
        headers={"Accept-Encoding": "identity"},
        event_hooks={"request": [_join], "response": [bound]},
    )
    return openai.AsyncOpenAI(
        base_url=base_url,
        api_key=api_key or KEY_FOR_NOBODY,
        max_retries=0,
        timeout=timeout,
        http_client=http,
    )


async def _join(request: httpx2.Request) -> None:
    """Make one body of a form's twenty parts: each would be a system call of its own."""
    await request.aread()


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
        raise out_of_time(what) from error
    except openai.APIStatusError as error:
        raise _refused(what, error) from error
    except (openai.APIConnectionError, httpx2.TransportError) as error:
        raise ProviderError(
            f"{what}: the connection failed", retryable=True, fault="connection"
        ) from error
    except openai.APIError as error:  # one that came within a stream
        raise ProviderError(f"{what}: it broke off", retryable=True, fault="server") from error
    except (openai.OpenAIError, httpx2.HTTPError, httpx2.StreamError, ValueError) as error:
        raise ProviderError(f"{what}: {type(error).__name__}") from error


def out_of_time(what: str) -> ProviderError:
    """The error of a deadline."""
    return ProviderError(f"{what}: no answer in time", retryable=True, fault="timeout")


def _refused(what: str, error: openai.APIStatusError) -> ProviderError:
    status = error.status_code
    return ProviderError(
        f"{what}: refused with status {status}",
        retryable=status >= 500 or status in _RETRYABLE_STATUSES,
        fault=_fault(status),
        retry_after_ms=_retry_after_ms(error.response.headers),
    )


def _fault(status: int) -> ProviderFault:
    if status >= 500:
        return "server"
    named: dict[int, ProviderFault] = {401: "key", 403: "key", 408: "timeout", 429: "limited"}
    return named.get(status, "refused")


def _retry_after_ms(headers: httpx2.Headers) -> int | None:
    """How long the server asks us to wait; a date is no answer for a call that lasts minutes."""
    for name, scale in (("retry-after-ms", 1), ("retry-after", 1000)):
        try:
            waits_ms = float(headers[name]) * scale
        except (KeyError, ValueError):
            continue
        if 0 <= waits_ms <= RETRY_AFTER_MS_MAX:
            return round(waits_ms)
    return None


class _Counted(httpx2.AsyncByteStream):
    """A stream that ends with an error when it brings too much."""

    def __init__(self, stream: httpx2.AsyncByteStream, bytes_max: int) -> None:
        self._stream = stream
        self._left = bytes_max

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._stream:
            self._left -= len(piece)
            if self._left < 0:
                raise ProviderError("the answer is far too long")
            yield piece

    @override
    async def aclose(self) -> None:
        await self._stream.aclose()
