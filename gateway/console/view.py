"""What the page is shown beside the database: live calls, latency, and what has changed there."""

from __future__ import annotations

import asyncio
import contextlib

from gateway import clock
from gateway.console.database import Database, StoreUnavailableError
from gateway.console.latency import LatencyHour
from gateway.console.live import LiveCalls
from gateway.ops.live import CallsSeen
from gateway.ops.records import Event, TurnAnswered

HOUR_MS = 3_600_000
#: Of longer calls the chart does not show what was before a restart of the console.
CALL_MS_MAX = 3 * HOUR_MS
RECALL_TIMEOUT_S = 1.0


class View:
    """The recorder's watcher. ``version`` tells a page when to ask for the lists again."""

    def __init__(self) -> None:
        self.live = LiveCalls()
        self.latency = LatencyHour()
        self.version = 0

    def happened(self, worker: int, event: Event) -> None:
        """A record came."""
        self.live.happened(worker, event, clock.now_ns())
        if isinstance(event, TurnAnswered) and event.response_ms >= 0:
            self.latency.add(event.response_ms, clock.wall_ms())

    async def recall(self, database: Database) -> None:
        """Take the last hour's answers from the database, as far as it has them and is quick."""
        now_ms = clock.wall_ms()
        since_ms = (now_ms - HOUR_MS, now_ms - CALL_MS_MAX - HOUR_MS)
        with contextlib.suppress(StoreUnavailableError, TimeoutError):
            async with asyncio.timeout(RECALL_TIMEOUT_S):
                found = await database.use(lambda store: store.answers_since(*since_ms))
            for at_ms, response_ms in found:
                self.latency.add(response_ms, at_ms)

    def stored(self) -> None:
        """The database has something new."""
        self.version += 1

    def reported(self, worker: int, report: CallsSeen) -> None:
        """A report of live calls came."""
        self.live.reported(worker, report, clock.now_ns())

    def facts(self) -> dict[str, object]:
        """For the page, beside the calls themselves."""
        now_ms = clock.wall_ms()
        return {
            "version": self.version,
            "latency": self.latency.minutes(now_ms),
            "hour": self.latency.overall(now_ms),
        }
