"""Connects carriers to conversations: which wire they speak, which call is whose.

The listener's handler. A :class:`~gateway.peer.Peer` is one WebSocket, its calls (one for a
carrier, several for the plain protocol) are sessions in the registry. What a peer gets wrong is
counted and logged a few times a second at most; too much of it closes that peer and nobody else.

A call begins when no worker has one of its ids live: that is asked of the mesh first. What its
carrier sends in the meantime (a millisecond, mostly) waits in the peer, and is done in order then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway import clock, live_view
from gateway.bridge import Bridge
from gateway.departures import Carrier, Departures, Leg
from gateway.errors import CapacityError, RemoteWireError
from gateway.gate import Gate
from gateway.ledger import Channels, Ledger
from gateway.limits import (
    BAD_MESSAGES_MAX,
    LOOK_TURNS,
    START_TIMEOUT_MS,
)
from gateway.listener import Connection
from gateway.mesh import Mesh
from gateway.ops.log import RateLimited, get_logger
from gateway.ops.records import RecordsSender
from gateway.peer import POLICY, Peer
from gateway.player import Player
from gateway.reception import Reception
from gateway.session import Session, SessionParts
from gateway.sessions import SessionRegistry
from gateway.settings import Settings
from gateway.wire.base import Wire
from gateway.wire.detect import Dialects
from gateway.wire.events import (
    CallerAudio,
    CarrierError,
    Digit,
    Event,
    MarkPlayed,
    StreamStarted,
    StreamStopped,
)
from supervisor.scoreboard import Field, Row, Scoreboard

NORMAL, GOING_AWAY, INVALID, TRY_LATER = 1000, 1001, 1007, 1013
GOING_DOWN = "the gateway is going down"

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchboardParts:
    """What a switchboard is put together from."""

    settings: Settings
    board: Scoreboard
    row: Row
    bridge: Bridge
    reception: Reception
    records: RecordsSender
    mesh: Mesh
    carriers: Mapping[str, Carrier]


class Switchboard:
    """Every connection and call of one worker."""

    def __init__(self, parts: SwitchboardParts) -> None:
        self._settings = settings = parts.settings
        #: How carriers are spoken to.
        self.dialects = Dialects(
            settings.twilio_dialect, settings.telnyx_codec, settings.telnyx_byte_order
        )
        self._board = parts.board
        self._row = parts.row
        self._bridge = parts.bridge
        self._reception = parts.reception
        self._records = parts.records
        self._mesh = parts.mesh
        self._departures = Departures(parts.carriers, parts.row, self._end)
        self._peers: dict[Connection, Peer] = {}
        self._warnings = RateLimited()
        self._by_slot: dict[int, Session] = {}
        self._starting: set[asyncio.Task[None]] = set()
        self._finishing: set[asyncio.Task[None]] = set()
        self._leaving = False
        self._turn = 0
        self.registry = SessionRegistry()
        self.draining = False
        self._gate = Gate(parts.settings, parts.board, parts.row, self._has_room, parts.mesh.mint)
        #: The listener's questions that are answered at the gate.
        self.request, self.admit = self._gate.request, self._gate.admit
        self.warnings = self._gate.warnings

    # The listener's handler

    def opened(self, connection: Connection) -> Callable[[str | bytes], None]:
        """A new peer; it must start a call soon."""
        assert connection.verdict is not None
        peer = self._peers[connection] = Peer(connection, connection.verdict, self)
        self._gate.entered(connection)
        loop = asyncio.get_running_loop()
        peer.start_timer = loop.call_later(START_TIMEOUT_MS / 1000, self._start_is_late, peer)
        self._row.count("connections")
        log.debug("connection opened", peer=connection.peer_host)
        return peer.receive

    def closed(self, connection: Connection) -> None:
        """The peer is gone, and its calls with it."""
        peer = self._peers.pop(connection, None)
        if peer is None:
            return
        self._gate.left(connection)
        peer.count(self._row)
        if peer.start_timer is not None:
            peer.start_timer.cancel()
        for stream_id in tuple(peer.sessions):
            self._end(stream_id, "disconnected")
        log.debug("connection closed", peer=connection.peer_host)

    # The peers' side

    def event(self, peer: Peer, event: Event) -> None:
        """Do what a carrier's event says; audio never gets here."""
        if isinstance(event, StreamStarted):
            self._start(peer, event)
            return
        if isinstance(event, CarrierError):
            self._row.count("carrier_errors")
            self._warn("error from the carrier", code=event.code, title=event.title)
            return
        session = peer.sessions.get(event.stream_id)
        if session is None:
            peer.early(event)  # or it has just ended from our side; the peer does not know yet
        elif isinstance(event, MarkPlayed):
            session.mark(event.name)
        elif isinstance(event, Digit):
            session.digit(event.digit)
        else:
            assert isinstance(event, StreamStopped)
            self._end(event.stream_id, "stopped")

    def mistake(self, peer: Peer, error: RemoteWireError) -> None:
        """Count and answer a bad message; too many end the connection."""
        self._row.count("messages_invalid")
        peer.bad_messages += 1
        self._warn("bad message", kind=error.kind, reason=str(error), stream=error.stream_id)
        if error.kind == "no-credentials":
            self.expel(peer, POLICY, str(error))
        elif peer.bad_messages >= BAD_MESSAGES_MAX:
            self.expel(peer, INVALID, "too many bad messages")
        elif peer.wire is not None:
            answer = peer.wire.error(error.stream_id, str(error))
            if answer is not None:
                peer.connection.send(answer)

    def expel(self, peer: Peer, code: int, reason: str) -> None:
        """Send a peer away, once."""
        if peer.connection.is_open:
            self._row.count("peers_expelled")
            self._warn("peer expelled", reason=reason, peer=peer.connection.peer_host)
            peer.connection.expel(code, reason)

    # The worker's side

    def results(self) -> None:
        """The DSP process has finished something: serve the calls concerned."""
        sessions, now_ns = self._by_slot, clock.now_ns()
        for slot, pcm, probability, level in self._bridge.heard():
            session = sessions.get(slot)  # None: results of a call that has just ended
            if session is not None:
                hear = session.hear
                try:
                    hear(pcm, probability, level)
                except Exception as error:  # noqa: BLE001 - it must not end the other calls
                    self._crashed(session, error)
        for slot, payload in self._bridge.encoded():
            session = sessions.get(slot)
            if session is not None:
                play = session.play
                try:
                    play(payload, now_ns)
                except Exception as error:  # noqa: BLE001 - it must not end the other calls
                    self._crashed(session, error)

    def tick(self) -> None:
        """Time has passed: serve the calls that wait for nothing else."""
        sessions, now_ns = list(self._by_slot.values()), clock.now_ns()
        for session in [session for session in sessions if session.backlog]:
            session.flush_backlog()
        for session in [session for session in sessions if session.player.waits]:
            try:
                session.player.pump(now_ns)
            except Exception as error:  # noqa: BLE001 - it must not end the other calls
                self._crashed(session, error)

    def _crashed(self, session: Session, error: Exception) -> None:
        log.error("call crashed", stream=session.stream_id, exc_info=error)
        self._end(session.stream_id, "error")

    def look(self, now_ns: int) -> None:
        """Look after the manners of some of the peers: of each once in LOOK_TURNS beats."""
        self._turn = (self._turn + 1) % LOOK_TURNS
        for peer in [peer for peer in self._peers.values() if peer.turn == self._turn]:
            peer.look(now_ns)

    def report(self) -> None:
        """Bring the board up to date."""
        live_view.report(self.registry.list(), self._bridge.meter, self._records)
        for peer in self._peers.values():
            peer.count(self._row)
        self._row.count("rings_damaged", self._bridge.check())
        self._row.set(Field.CALLS, len(self.registry))

    @property
    def is_idle(self) -> bool:
        """Whether there is no call, and nobody who could begin one."""
        return not self._peers and not len(self.registry)

    def say_goodbye(self) -> None:
        """Have every caller told that the call ends now, and end each when that was heard."""
        self._leaving = True
        for session in self.registry.list():
            if not session.say_goodbye():
                self._end(session.stream_id, GOING_DOWN)

    def close_all(self, code: int, reason: str) -> None:
        """End every call and every connection."""
        for session in self.registry.list():
            self._end(session.stream_id, reason)
        for peer in list(self._peers.values()):
            peer.connection.close(code, reason)

    async def finished(self) -> None:
        """Wait until every ended call has stored what it knew."""
        while self._finishing:
            await asyncio.gather(*self._finishing, return_exceptions=True)

    # Inside

    def _has_room(self) -> bool:
        return not self.draining and self._bridge.slots_free > 0

    def _start(self, peer: Peer, started: StreamStarted) -> None:
        if peer.start_timer is not None:
            peer.start_timer.cancel()
        peer.starting[started.stream_id] = []
        task = asyncio.get_running_loop().create_task(self._start_if_new(peer, started))
        self._starting.add(task)
        task.add_done_callback(lambda done: self._started(done, peer))

    async def _start_if_new(self, peer: Peer, started: StreamStarted) -> None:
        """Begin a call unless an id of it is live on any worker, or its address was another's."""
        ids = _claims_of(started.stream_id, started.call_id)
        token = peer.verdict.token
        if token and await self._mesh.redeem(token) != started.call_id:
            del peer.starting[started.stream_id]
            self.expel(peer, POLICY, "call identity")
            return
        if not await self._mesh.take_all(ids):
            del peer.starting[started.stream_id]
            self._row.count("refusals/already_live")
            self._warn("call refused", reason="it is already live")
            self._refuse(peer, started.stream_id, POLICY, "this call is already live")
            return
        early = peer.starting.pop(started.stream_id)
        try:
            self._begin(peer, started)
        finally:
            if self.registry.get(started.stream_id) is None:
                self._mesh.release_all(ids)
        for event in early:
            self._replay(peer, event)
        if peer.connection not in self._peers:
            self._end(started.stream_id, "disconnected")

    def _replay(self, peer: Peer, event: Event) -> None:
        if isinstance(event, CallerAudio):
            session = peer.sessions.get(event.stream_id)
            if session is not None:
                session.audio(event.payload, event.timestamp_ms)
        else:
            self.event(peer, event)

    def _started(self, task: asyncio.Task[None], peer: Peer) -> None:
        self._starting.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:  # a bug of ours: it ends this connection, loudly, and no other
            log.error("call not started", exc_info=error)
            peer.connection.abort()

    def _begin(self, peer: Peer, started: StreamStarted) -> None:
        wire = peer.wire
        assert wire is not None
        try:
            session = self._make_session(peer, wire, started)
        except CapacityError:
            self._row.count("calls_refused")
            self._row.count("refusals/full")
            self._warn("call refused", reason="no slot is free")
            self._refuse(peer, started.stream_id, TRY_LATER, "no slot is free")
            return
        peer.sessions[started.stream_id] = session
        self._by_slot[session.slot] = session
        self._row.count("calls")
        self._row.set(Field.CALLS, len(self.registry))
        ready = wire.ready(started.stream_id)
        if ready is not None:
            peer.connection.send(ready)
        session.start()

    def _make_session(self, peer: Peer, wire: Wire, started: StreamStarted) -> Session:
        line = self._bridge.lease(started.encoding, started.assistant_encoding)
        if line is None:
            raise CapacityError("no slot is free")
        assert peer.wire_name is not None
        transferable = self._departures.can_transfer(peer.wire_name)
        choice = self._reception.choose(started, transferable=transferable)
        player = Player(line, wire, started.stream_id, peer.connection.send)
        ledger = Ledger(started, self._channels(peer, wire, started))
        ledger.started(peer.wire_name, ",".join(choice.responders), choice.call)
        conversation = self._reception.conversation(choice, player, ledger)
        parts = SessionParts(self._bridge, line, player, conversation, ledger, self._row)
        return self.registry.get_or_create(started.stream_id, lambda: Session(started, parts))

    def _channels(self, peer: Peer, wire: Wire, started: StreamStarted) -> Channels:
        assert peer.wire_name is not None
        bound = log.bind(call=started.call_id, stream=started.stream_id)
        leg = Leg(peer.wire_name, started.call_id, started.stream_id, bound)
        return Channels(
            log=bound,
            records=self._records,
            row=self._row,
            wire=wire,
            send=peer.connection.send,
            hang_up=lambda reason: self._hang_up(started.stream_id, reason),
            end_call=lambda: self._departures.hang_up(leg),
            transfer=lambda number, told: self._departures.transfer(leg, number, told),
        )

    def _hang_up(self, stream_id: str, reason: str) -> None:
        """End a call from our side; later, because a task of the call itself may be asking."""
        asyncio.get_running_loop().call_soon(self._end, stream_id, reason)

    def _end(self, stream_id: str, reason: str) -> None:
        session = self.registry.remove(stream_id)
        if session is None:
            return
        del self._by_slot[session.slot]
        self._mesh.release_all(_claims_of(session.stream_id, session.call_id))
        session.close(reason)
        self._row.set(Field.CALLS, len(self.registry))
        task = asyncio.get_running_loop().create_task(session.finish())
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        for peer in self._peers.values():
            if peer.sessions.pop(stream_id, None) is not None:
                self._let_go(peer, stream_id, GOING_AWAY if self._leaving else NORMAL, reason)
                break

    def _refuse(self, peer: Peer, stream_id: str, code: int, reason: str) -> None:
        """A call does not begin; others on its connection go on."""
        assert peer.wire is not None
        answer = peer.wire.error(stream_id, reason)
        if answer is not None:
            peer.connection.send(answer)
        self._let_go(peer, stream_id, code, reason)

    def _let_go(self, peer: Peer, stream_id: str, code: int, reason: str) -> None:
        """A call is over, and with the last one its connection."""
        farewell = None if peer.wire is None else peer.wire.hang_up(stream_id)
        if farewell is not None:
            peer.connection.send(farewell)
        if not peer.sessions and not peer.starting:
            peer.connection.close(code, reason)

    def _start_is_late(self, peer: Peer) -> None:
        if not peer.sessions and not peer.starting:
            self.expel(peer, POLICY, "no start")

    def _warn(self, event: str, **fields: object) -> None:
        suppressed = self._warnings.allow(event, clock.now_ns())
        if suppressed is not None:
            log.bind(**fields).warning(event, suppressed=suppressed)


def _claims_of(stream_id: str, call_id: str) -> tuple[str, str]:
    """What is live while a call is, by kind: a stream may be called like another's call."""
    return f"stream:{stream_id}", f"call:{call_id}"
