"""How calls end from our side: at their carrier, where that is possible, then the stream.

Closing the stream alone ends a call only where the stream is the call. A carrier with an API is
told first; the stream is closed when it has answered, or did not in time. Whatever fails, the
stream is closed: a caller is never left on a line where nobody speaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import ProviderError
from gateway.ops.log import Log
from supervisor.scoreboard import Row

DONE = "done"


class Carrier(Protocol):
    """Ends and hands over phone calls. Both raise ProviderError."""

    async def hang_up(self, call_id: str, log: Log) -> None:
        """End a call; one that is over is no error."""
        ...

    async def transfer(self, call_id: str, number: str, log: Log) -> None:
        """Have a call go on with a number."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


@dataclass(frozen=True, slots=True)
class Leg:
    """One call on its wire."""

    wire: str
    call_id: str
    stream_id: str
    log: Log


class Departures:
    """The calls of a worker that are being ended. ``end`` closes a stream, told the reason."""

    def __init__(
        self, carriers: Mapping[str, Carrier], row: Row, end: Callable[[str, str], None]
    ) -> None:
        self._carriers = carriers
        self._row = row
        self._end = end
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def can_transfer(self, wire: str) -> bool:
        """Whether calls of this wire can be handed over."""
        return wire in self._carriers

    def hang_up(self, leg: Leg) -> None:
        """End the call."""

        async def work() -> None:
            carrier = self._carriers.get(leg.wire)
            if carrier is not None:
                await self._act(carrier.hang_up(leg.call_id, leg.log), leg)
            self._end(leg.stream_id, "hang-up")

        self._depart(leg, work())

    def transfer(self, leg: Leg, number: str, told: Callable[[str], None]) -> None:
        """Hand the call over; ``told`` is called with ``done`` or with what was in the way."""

        async def work() -> None:
            carrier = self._carriers.get(leg.wire)
            if carrier is None:
                told("this wire cannot")
            else:
                told(await self._act(carrier.transfer(leg.call_id, number, leg.log), leg))
            self._end(leg.stream_id, "transfer")

        self._depart(leg, work())

    async def _act(self, deed: Awaitable[None], leg: Leg) -> str:
        try:
            await deed
        except ProviderError as error:
            self._row.count("call_control_errors")
            leg.log.warning("carrier did not obey", reason=str(error))
            return str(error)
        return DONE

    def _depart(self, leg: Leg, work: Coroutine[None, None, None]) -> None:
        """Do it, once a call, in a task of its own: it may be the call's own task that asks."""
        if leg.stream_id in self._under_way:
            work.close()
            return
        task = self._under_way[leg.stream_id] = asyncio.create_task(work)
        task.add_done_callback(lambda _: self._under_way.pop(leg.stream_id, None))
