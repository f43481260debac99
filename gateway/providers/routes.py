"""The servers of one stage, in order of preference, and the way of a request through them.

A :class:`Server` is one provider as this worker knows it: its circuit breaker, and how many of
our requests may wait for its first answer at once. :class:`Routes` asks: it follows a ``Plan``
(``deadlines.py`` decides, this file waits), so that a provider needs to know one attempt only.

Everything a provider does is a stream here; a transcript is a stream of one. Until its first
item a request may go elsewhere and nobody notices; what breaks after it is the asker's to mend,
since half of it may have been spoken. Closing the stream aborts the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from gateway import clock
from gateway.errors import ProviderError, ProviderFault
from gateway.limits import PROVIDER_REQUESTS_MAX
from gateway.providers.breaker import Breaker
from gateway.providers.deadlines import Patience, Plan, RetryAllowance, Step
from gateway.providers.openai_client import out_of_time
from supervisor.scoreboard import Row

_P = TypeVar("_P")
_T = TypeVar("_T")

#: What tells of a server's health; a request that it does not like does not.
_UNHEALTHY: frozenset[ProviderFault] = frozenset(
    {"timeout", "connection", "server", "limited", "key", "garbage"}
)
_COUNTERS: dict[ProviderFault, str] = {
    "timeout": "provider_timeouts",
    "connection": "provider_connections_failed",
    "server": "provider_server_errors",
    "limited": "provider_rate_limits",
    "key": "provider_keys_refused",
    "refused": "provider_requests_refused",
    "garbage": "provider_garbage",
    "closed": "provider_not_asked",
}


@dataclass(frozen=True, slots=True)
class Server(Generic[_P]):
    """One server of a stage; ``index`` is its place in the order of preference."""

    index: int
    provider: _P
    breaker: Breaker = field(default_factory=Breaker)
    waiting: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(PROVIDER_REQUESTS_MAX)
    )


class Routes(Generic[_P]):
    """All servers of one stage; one a worker, shared by its calls."""

    def __init__(self, stage: str, patience: Patience, providers: Sequence[_P], row: Row) -> None:
        """``stage`` is stt, llm or tts: what errors and counters begin with."""
        assert providers
        self._stage = stage
        self._patience = patience
        self.servers = [Server(index, provider) for index, provider in enumerate(providers)]
        self._retries = RetryAllowance()
        self._row = row

    async def ask(
        self, start: Callable[[Server[_P]], AsyncGenerator[_T, None]]
    ) -> AsyncGenerator[_T, None]:
        """What a server gives, from its first item on. Raises ``ProviderError``."""
        now_ns = clock.now_ns()
        plan = Plan(self._patience, len(self.servers), now_ns)
        step = plan.first(now_ns)
        self._retries.requested()
        begun = None
        while begun is None:
            try:
                begun = await self._begin(start, step)
            except ProviderError as error:
                self._failed(self.servers[step.server], error)
                following = self._after(plan, step, error)
                if following is None:
                    raise
                step = following
        stream, items = begun
        async with aclosing(stream):
            while items:
                yield items[0]
                items = await self._next(self.servers[step.server], stream)

    async def _begin(
        self, start: Callable[[Server[_P]], AsyncGenerator[_T, None]], step: Step
    ) -> tuple[AsyncGenerator[_T, None], list[_T]]:
        """The stream of one attempt and its first item, in a list: an empty one is none."""
        server = self.servers[step.server]
        if step.wait_ms:
            await clock.sleep_ms(step.wait_ms)
        if not server.breaker.allows(clock.now_ns()):
            raise ProviderError(f"{self._stage}: the server failed too often", fault="closed")
        self._row.count(f"{self._stage}_requests")
        stream = start(server)
        try:
            async with asyncio.timeout(step.within_ms / 1000):
                if server.waiting.locked():
                    self._row.count("provider_waits")
                async with server.waiting:
                    first = await _take(stream)
        except TimeoutError as error:
            await stream.aclose()
            raise out_of_time(self._stage) from error
        self._succeeded(server)
        return stream, first

    async def _next(self, server: Server[_P], stream: AsyncGenerator[_T, None]) -> list[_T]:
        """The next item; the time until it is asked for does not count."""
        try:
            async with asyncio.timeout(self._patience.stall_ms / 1000):
                return await _take(stream)
        except TimeoutError as error:
            stalled = out_of_time(self._stage)
            self._failed(server, stalled)
            raise stalled from error
        except ProviderError as error:
            self._failed(server, error)
            raise

    def _after(self, plan: Plan, step: Step, error: ProviderError) -> Step | None:
        now_ns = clock.now_ns()
        allowed = self._retries.allows
        following = plan.after(error.fault, error.retry_after_ms, now_ns, may_retry=allowed)
        if following is None:
            return None
        if following.server == step.server:
            self._retries.retried()
            self._row.count("provider_retries")
        else:
            self._row.count("provider_fallbacks")
        return following

    def _succeeded(self, server: Server[_P]) -> None:
        if server.breaker.is_open:
            self._row.count("provider_breakers_open", -1)
        server.breaker.succeeded()

    def _failed(self, server: Server[_P], error: ProviderError) -> None:
        self._row.count(_COUNTERS[error.fault])
        if error.fault in _UNHEALTHY:
            was_open = server.breaker.is_open
            server.breaker.failed(clock.now_ns())
            if server.breaker.is_open and not was_open:
                self._row.count("provider_breakers_open")
                self._row.count("provider_breakers_opened")


async def _take(stream: AsyncGenerator[_T, None]) -> list[_T]:
    """The next item in a list; an empty list when there is none."""
    try:
        return [await anext(stream)]
    except StopAsyncIteration:
        return []
