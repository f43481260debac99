"""What the page is shown beside the database: live calls, latency, and what has changed there."""

from __future__ import annotations

from gateway import clock
from gateway.console.latency import LatencyHour
from gateway.console.live import LiveCalls
from gateway.ops.live import CallsSeen
from gateway.ops.records import Event, TurnAnswered


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
