"""The table of live calls, as the workers' events and reports tell it. Pure: told the time.

A call is entered by its start (or by the first report that names it, when the console came later),
and removed by its end, or when its worker has not named it for LEASE_NS: that covers a killed
worker, a hung one, and an end that took the way of the spool file. The state is told by what was
said last and who is heard, so that every kind of responder has one.

Watchers are told only what differs: ``changes`` gives the rows whose facts have changed and the
calls that are gone since it was last asked; levels, which always change, are three numbers a call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from gateway.ops.live import CallSeen, CallsSeen
from gateway.ops.records import (
    CallEnded,
    CallStarted,
    Event,
    TurnAnswered,
    TurnInterrupted,
    TurnTaken,
)

LEASE_NS = 4_000_000_000
CALLS_MAX = 8_192
TEXT_CHARS_MAX = 240

State = Literal["listening", "caller", "thinking", "assistant"]


@dataclass(slots=True)
class LiveCall:
    """One call: what both said last, cut to TEXT_CHARS_MAX, and who of them (``role``) came last.

    ``heard_text``: what was heard of the assistant's text when it was interrupted, else None.
    """

    call_id: str
    worker: int
    seen_ns: int
    started_at_ms: int | None = None
    wire: str = ""
    responder: str = ""
    caller_number: str = ""
    called_number: str = ""
    language: str = ""
    role: str = ""
    caller_text: str = ""
    assistant_text: str = ""
    heard_text: str | None = None
    response_ms: int | None = None
    turns: int = 0
    state: State = "listening"
    caller_dbfs: int = -90
    assistant_dbfs: int = -90

    def row(self) -> dict[str, str | int | None]:
        """What a watcher is told when it has changed."""
        names = (
            "call_id", "worker", "started_at_ms", "wire", "responder", "caller_number",
            "called_number", "language", "caller_text", "assistant_text", "heard_text",
            "response_ms", "turns",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def levels(self) -> tuple[str, State, int, int]:
        """What a watcher is told each time."""
        return self.call_id, self.state, self.caller_dbfs, self.assistant_dbfs

    def say(self, turn: TurnTaken) -> None:
        """Take what a party has said."""
        self.role, text = turn.role, turn.text[:TEXT_CHARS_MAX]
        if turn.role == "caller":
            self.caller_text = text
        else:
            self.assistant_text, self.heard_text = text, None
        self.turns += 1
        self.language = turn.language or self.language

    def hear(self, said: CallSeen) -> None:
        """Take a report's numbers, and find out whose turn it is."""
        self.caller_dbfs, self.assistant_dbfs = said.caller_dbfs, said.assistant_dbfs
        if said.caller_speaks:
            self.state = "caller"
        elif said.assistant_speaks:
            self.state = "assistant"
        else:
            self.state = "thinking" if self.role == "caller" else "listening"


@dataclass(slots=True)
class Changes:
    """Since the last time: calls whose row is to be drawn again, ids of those that are gone."""

    calls: list[LiveCall] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


class LiveCalls:
    """All live calls of the gateway; more than CALLS_MAX are counted and not shown."""

    def __init__(self) -> None:
        self._calls: dict[str, LiveCall] = {}
        self._changed: set[str] = set()
        self._gone: set[str] = set()
        self.not_shown = 0

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[LiveCall]:
        return iter(self._calls.values())

    def happened(self, worker: int, event: Event, now_ns: int) -> None:
        """A worker has sent a record."""
        if isinstance(event, CallEnded):
            self._remove(event.call_id)
            return
        known = isinstance(event, CallStarted) or event.call_id in self._calls
        # What is stored after a call's end (a message, a summary) does not make it live again.
        call = self._call(worker, event.call_id, now_ns) if known else None
        if call is None:
            return
        if isinstance(event, CallStarted):
            for name in ("wire", "responder", "caller_number", "called_number", "language"):
                setattr(call, name, getattr(event, name)[:TEXT_CHARS_MAX])
            call.started_at_ms = event.at_ms
        elif isinstance(event, TurnTaken):
            call.say(event)
        elif isinstance(event, TurnInterrupted) and call.assistant_text:
            call.heard_text = event.heard_text[:TEXT_CHARS_MAX]
        elif isinstance(event, TurnAnswered):
            call.response_ms = event.response_ms
        self._changed.add(call.call_id)

    def reported(self, worker: int, report: CallsSeen, now_ns: int) -> None:
        """A worker has told of its live calls."""
        for seen in report.calls:
            call = self._call(worker, seen.call_id, now_ns)
            if call is not None:
                call.hear(seen)

    def expire(self, now_ns: int) -> None:
        """Remove the calls that nobody has told of for too long."""
        for call in list(self._calls.values()):
            if now_ns - call.seen_ns > LEASE_NS:
                self._remove(call.call_id)
        self.not_shown = 0

    def changes(self) -> Changes:
        """What has changed since this was last asked."""
        found = Changes([self._calls[call_id] for call_id in self._changed], sorted(self._gone))
        self._changed.clear()
        self._gone.clear()
        return found

    def _call(self, worker: int, call_id: str, now_ns: int) -> LiveCall | None:
        call = self._calls.get(call_id)
        if call is None:
            if len(self._calls) >= CALLS_MAX:
                self.not_shown += 1
                return None
            call = self._calls[call_id] = LiveCall(call_id, worker, now_ns)
            self._changed.add(call_id)
            self._gone.discard(call_id)
        call.worker, call.seen_ns = worker, now_ns
        return call

    def _remove(self, call_id: str) -> None:
        if self._calls.pop(call_id, None) is not None:
            self._changed.discard(call_id)
            self._gone.add(call_id)
