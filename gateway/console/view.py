"""What the page is shown beside the database: live calls, latency, and what has changed there."""

from __future__ import annotations

from gateway import clock
from gateway.console.latency import LatencyHour
from gateway.console.live import LiveCalls
from gateway.ops.live import CallAnswered, Report
from gateway.ops.records import CallEnded, Event, MessageTaken


class View:
    """The recorder's watcher. ``versions`` tell a page when to ask for a list again."""

    def __init__(self) -> None:
        self.live = LiveCalls()
        self.latency = LatencyHour()
        self.versions = {"calls": 0, "messages": 0}

    def happened(self, worker: int, event: Event) -> None:
        """A record came."""
        self.live.happened(worker, event, clock.now_ns())
        if isinstance(event, MessageTaken):
            self.versions["messages"] += 1
        elif isinstance(event, CallEnded):
            self.versions["calls"] += 1

    def reported(self, worker: int, report: Report) -> None:
        """A report of live calls came."""
        self.live.reported(worker, report, clock.now_ns())
        if isinstance(report, CallAnswered) and report.response_ms >= 0:
            self.latency.add(report.response_ms, clock.wall_ms())

    def facts(self) -> dict[str, object]:
        """For the page, beside the calls themselves."""
        now_ms = clock.wall_ms()
        return {
            "versions": self.versions,
            "latency": self.latency.minutes(now_ms),
            "hour": self.latency.overall(now_ms),
        }
