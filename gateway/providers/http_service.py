"""One HTTP server that is asked small things during calls: one client a worker, kept alive.

Whatever the server does, a question ends by its deadline, retries and pauses included, and holds
at most ``ANSWER_BYTES_MAX`` of its answer. Redirects are not followed, cookies not kept (the
client serves all calls), compressed answers not unfolded.

The keep-alive time is shorter than the five seconds after which Node closes an idle connection: a
question must not be written into a connection that is being closed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import TypeVar

import httpx2

from gateway import clock
from gateway.errors import ConfigurationError, ProviderError
from gateway.ops.log import Log
from gateway.providers.breaker import Breaker
from gateway.providers.retry import Attempts, Outcome, outcome, retry_after_ms

ANSWER_BYTES_MAX = 256 * 1024
CONNECT_TIMEOUT_S = 1.0
KEEP_ALIVE_S = 4.0
CONNECTIONS_MAX = 128
CONNECTIONS_IDLE_MAX = 32
#: Less than this is no attempt.
ATTEMPT_MS_MIN = 50
_SERVER_ERROR = 500

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """One POST; its bytes and headers are the same at every attempt."""

    path: str
    content: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said, whatever it was."""

    status: int
    content_type: str
    body: bytes

    @property
    def is_success(self) -> bool:
        """Any 2xx: servers differ in which one they think right."""
        return 200 <= self.status < 300


class GarbageError(ProviderError):
    """A server answered with a success, and with nothing that could be understood."""


class _MissedError(Exception):
    """An attempt that did not bring the answer that was wanted; perhaps it brought another."""

    def __init__(
        self,
        outcome: Outcome,
        reason: str,
        answer: Answer | None = None,
        after_ms: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.answer = answer
        self.after_ms = after_ms


class HttpService:
    """A server. ``what`` names it in logs and errors."""

    def __init__(
        self,
        what: str,
        base_url: str,
        *,
        idempotent: bool,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
    ) -> None:
        self._what = what
        self._base_url = base_url.rstrip("/")
        self._idempotent = idempotent
        self._client = _open_client(base_url, headers or {}, auth)
        self._breaker = Breaker()
        self._random = random.Random()

    async def post(
        self, question: Question, within_ms: int, log: Log, read: Callable[[Answer], T]
    ) -> T:
        """Ask, and read the answer, which may be a refusal; ``read`` says what is garbage.

        Raises what ``read`` does, and ProviderError when there is no answer by the deadline.
        """
        answer = await self._answer(question, within_ms, log)
        sane = answer.status < _SERVER_ERROR  # a refusal is a sign of life
        try:
            return read(answer)
        except GarbageError:
            sane = False
            self._breaker.failed(clock.now_ns())
            raise
        finally:
            if sane:
                self._breaker.succeeded()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _answer(self, question: Question, within_ms: int, log: Log) -> Answer:
        ends_ns = clock.now_ns() + within_ms * clock.NS_PER_MS
        attempts = Attempts(idempotent=self._idempotent)
        while True:
            try:
                return await self._attempt(question, attempts.within_ms(_left_ms(ends_ns)), log)
            except _MissedError as error:
                missed = error
            luck = self._random.random()
            pause_ms = attempts.pause_ms(missed.outcome, missed.after_ms, luck)
            if pause_ms is None or pause_ms + ATTEMPT_MS_MIN > _left_ms(ends_ns):
                if missed.answer is not None:
                    return missed.answer
                raise ProviderError(f"{self._what}: {missed}", retryable=True) from missed
            await clock.sleep_ms(pause_ms)

    async def _attempt(self, question: Question, within_ms: int, log: Log) -> Answer:
        if not self._breaker.allows(clock.now_ns()):
            raise ProviderError(f"{self._what}: not asked, it has failed too often just now")
        try:
            async with asyncio.timeout(within_ms / 1000):
                answer, headers = await self._exchange(question)
        except (TimeoutError, _MissedError) as error:
            self._breaker.failed(clock.now_ns())
            reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            log.warning("no answer", server=self._what, reason=reason, within_ms=within_ms)
            if isinstance(error, TimeoutError):
                raise _MissedError(Outcome.NO_ANSWER, reason) from error
            raise
        self._note(answer, log)
        after_ms = retry_after_ms(headers.get("retry-after"))
        happened = outcome(answer.status, after_ms)
        if happened is not Outcome.FINAL:
            raise _MissedError(happened, f"answered {answer.status}", answer, after_ms)
        return answer

    def _note(self, answer: Answer, log: Log) -> None:
        if answer.status >= _SERVER_ERROR:
            self._breaker.failed(clock.now_ns())
        if not answer.is_success:
            log.warning("request refused", server=self._what, status=answer.status)

    async def _exchange(self, question: Question) -> tuple[Answer, httpx2.Headers]:
        url = self._base_url + question.path
        try:
            async with self._client.stream(
                "POST", url, content=question.content, headers=dict(question.headers)
            ) as response:
                body = await _read(response)
                content_type = response.headers.get("content-type", "")
                return Answer(response.status_code, content_type, body), response.headers
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise _MissedError(Outcome.NOT_SENT, "no connection") from error
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise _MissedError(Outcome.NO_ANSWER, "the connection broke") from error


def _left_ms(ends_ns: int) -> int:
    return max(0, (ends_ns - clock.now_ns()) // clock.NS_PER_MS)


async def _read(response: httpx2.Response) -> bytes:
    """The whole body as it came. Reading stops, and the connection ends, beyond the limit."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _MissedError(Outcome.FINAL, "the answer is compressed, which was not asked for")
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > ANSWER_BYTES_MAX:
            raise _MissedError(Outcome.FINAL, f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
    return bytes(body)


def _open_client(
    base_url: str, headers: Mapping[str, str], auth: tuple[str, str] | None
) -> httpx2.AsyncClient:
    try:
        host = httpx2.URL(base_url).host
    except httpx2.InvalidURL as error:
        raise ConfigurationError(f"{base_url!r} is not a URL: {error}") from error
    client = httpx2.AsyncClient(
        timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S, pool=CONNECT_TIMEOUT_S),
        limits=httpx2.Limits(
            max_connections=CONNECTIONS_MAX,
            max_keepalive_connections=CONNECTIONS_IDLE_MAX,
            keepalive_expiry=KEEP_ALIVE_S,
        ),
        auth=auth,
        headers={"Accept-Encoding": "identity", "User-Agent": "voice-gateway", **headers},
        follow_redirects=False,
        trust_env=not _is_loopback(host),
    )
    client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return client


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
