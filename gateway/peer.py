"""One WebSocket: which wire it speaks, which calls are on it, how it behaves."""

from __future__ import annotations

import asyncio
import itertools
from typing import Protocol

from gateway import clock
from gateway.credentials import Verdict
from gateway.errors import RemoteWireError
from gateway.flow import Flow, Order, Seen
from gateway.limits import BAD_MESSAGES_LOOKS, EARLY_EVENTS_MAX, LOOK_TURNS
from gateway.listener import Connection
from gateway.session import Session
from gateway.wire.base import Wire
from gateway.wire.detect import WIRES, Dialects, WireName, detect, wire_of_path
from gateway.wire.events import CallerAudio, Event
from supervisor.scoreboard import Row

POLICY = 1008

_turns = itertools.count()
_WHY = {Order.FLOOD: "too much at once", Order.STUCK: "a message was never completed"}


class PeerOwner(Protocol):
    """Who a peer's events are for."""

    @property
    def dialects(self) -> Dialects:
        """How carriers are spoken to."""
        ...

    def event(self, peer: Peer, event: Event) -> None:
        """Do what a carrier's event says; audio is the peer's own affair."""
        ...

    def mistake(self, peer: Peer, error: RemoteWireError) -> None:
        """Count and answer a bad message."""
        ...

    def expel(self, peer: Peer, code: int, reason: str) -> None:
        """Send a peer away, once."""
        ...


class Peer:
    """One WebSocket: its wire, and the calls on it by stream id."""

    __slots__ = (
        "_counted",
        "_flow",
        "_owner",
        "bad_messages",
        "connection",
        "sessions",
        "start_timer",
        "starting",
        "turn",
        "verdict",
        "wire",
        "wire_name",
    )

    def __init__(self, connection: Connection, verdict: Verdict, owner: PeerOwner) -> None:
        self.connection = connection
        self.verdict = verdict
        self._owner = owner
        self.wire: Wire | None = None
        self.wire_name: WireName | None = wire_of_path(connection.target)
        if self.wire_name is not None:
            self.wire = WIRES[self.wire_name](owner.dialects)
        self.sessions: dict[str, Session] = {}
        #: By stream id: what came for a call whose ids are still being claimed.
        self.starting: dict[str, list[Event]] = {}
        self.bad_messages = 0
        self.start_timer: asyncio.TimerHandle | None = None
        self._counted = (0, 0, 0)
        self._flow = Flow(clock.now_ns())
        #: In which of LOOK_TURNS beats it is looked at: a second's looks are not all at once.
        self.turn = next(_turns) % LOOK_TURNS

    def receive(self, message: str | bytes) -> None:
        """Read a message and do what its events say."""
        try:
            if isinstance(message, bytes):
                raise RemoteWireError("binary messages are not understood", kind="binary")
            wire = self.wire or self._detect(message)
            if wire is None:
                return
            for event in wire.receive(message):
                if type(event) is CallerAudio:  # 99 % of all events
                    stream_id, payload, timestamp_ms = event
                    session = self.sessions.get(stream_id)
                    if session is not None:
                        session.audio(payload, timestamp_ms)
                    else:
                        self.early(event)
                else:
                    self._owner.event(self, event)
        except RemoteWireError as error:
            self._owner.mistake(self, error)

    def early(self, event: Event) -> None:
        """Keep what comes for a call that is about to begin; of one that is over, nothing."""
        waiting = self.starting.get(event.stream_id)
        if waiting is not None and len(waiting) < EARLY_EVENTS_MAX:
            waiting.append(event)

    def _detect(self, message: str) -> Wire | None:
        name = detect(message)
        if name is not None and name not in self.verdict.wires:
            raise RemoteWireError("this wire wants credentials", kind="no-credentials")
        self.wire_name = name
        if name is not None:
            self.wire = WIRES[name](self._owner.dialects)
        return self.wire

    def look(self, now_ns: int) -> None:
        """Once a second: stop reading, or read again, or send away who sends too much."""
        nbytes, unfinished = self.connection.look()
        frames = sum(session.frames_in for session in self.sessions.values())
        order = self._flow.look(Seen(frames, nbytes, len(self.sessions), unfinished), now_ns)
        if self._flow.looks % BAD_MESSAGES_LOOKS == 0:
            self.bad_messages = 0
        if order in _WHY:
            self._owner.expel(self, POLICY, _WHY[order])
        else:
            self.connection.read(on=order is Order.READ)

    def count(self, row: Row) -> None:
        """Add what the wire counted since the last time."""
        wire, before = self.wire, self._counted
        if wire is None:
            return
        self._counted = now = (wire.media_gaps, wire.media_late, wire.messages_unknown)
        row.count("media_gaps", now[0] - before[0])
        row.count("media_late", now[1] - before[1])
        row.count("messages_unknown", now[2] - before[2])
