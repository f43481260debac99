"""Server-sent events: what the page shows, told to every listener about once a second.

One message is made a second, for all listeners alike, and only while there is one. It holds what
has changed since the one before; a listener who comes, or who could not follow and lost some,
is told everything first. Their number and what waits for each is bounded: a page that does not
read costs a few messages of memory and no time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

import orjson

from gateway import clock
from gateway.console.live import LiveCalls

EVERY_MS = 1_000
LISTENERS_MAX = 16
QUEUE_MAX = 4

Facts = Callable[[], Awaitable[dict[str, object]]]


@dataclass(slots=True, eq=False)
class _Listener:
    queue: deque[bytes]
    wake: asyncio.Event
    behind: bool = True


class Feed:
    """Tells listeners of live calls, and of what ``facts`` gives beside them."""

    def __init__(self, live: LiveCalls, facts: Facts) -> None:
        self._live = live
        self._facts = facts
        self._listeners: set[_Listener] = set()
        self._closed = False

    @property
    def is_full(self) -> bool:
        """Whether nobody else may listen now."""
        return self._closed or len(self._listeners) >= LISTENERS_MAX

    async def run(self) -> None:
        """Look once a second until cancelled."""
        while True:
            await clock.sleep_ms(EVERY_MS)
            self._live.expire(clock.now_ns())
            if self._listeners:
                await self.tell()
            else:
                self._live.changes()  # nobody saw them, and nobody will ask

    async def tell(self) -> None:
        """Make the next message and give it to every listener."""
        facts = await self._facts()
        changes = self._live.changes()
        levels = [call.levels() for call in self._live]
        part = _event("part", facts, [call.row() for call in changes.calls], changes.gone, levels)
        whole = b""
        for listener in self._listeners:
            if len(listener.queue) >= QUEUE_MAX:
                listener.queue.clear()
                listener.behind = True
            if listener.behind:
                whole = whole or _event(
                    "whole", facts, [call.row() for call in self._live], [], levels
                )
                listener.behind = False
                listener.queue.append(whole)
            else:
                listener.queue.append(part)
            listener.wake.set()

    def close(self) -> None:
        """End every stream."""
        self._closed = True
        for listener in self._listeners:
            listener.wake.set()

    async def listen(self) -> AsyncGenerator[bytes, None]:
        """The events for one listener, until it leaves or the feed is closed."""
        listener = _Listener(deque(), asyncio.Event())
        self._listeners.add(listener)
        try:
            yield b": hello\n\n"
            await self.tell()
            while not self._closed:
                await listener.wake.wait()
                listener.wake.clear()
                while listener.queue:
                    yield listener.queue.popleft()
        finally:
            self._listeners.discard(listener)


def _event(
    name: str, facts: dict[str, object], calls: object, gone: object, levels: object
) -> bytes:
    data = orjson.dumps({**facts, "calls": calls, "gone": gone, "levels": levels})
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)
