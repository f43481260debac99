"""Connects carriers to conversations: who may come in, which wire they speak, which call is whose.

The listener's handler. A :class:`Peer` is one WebSocket: its wire is found by the first message,
its calls (one for a carrier, several for the plain protocol) are sessions in the registry. What a
peer gets wrong is counted and logged a few times a second at most; too much of it closes that
peer and nobody else.
"""

from __future__ import annotations

import asyncio
import ipaddress

import orjson

from gateway import clock
from gateway.bridge import Bridge
from gateway.channel_events import (
    HttpRequest,
    HttpResponse,
    Upgrade,
)
from gateway.errors import CapacityError, RemoteWireError
from gateway.ledger import Channels, Ledger
from gateway.limits import BAD_MESSAGES_MAX, START_TIMEOUT_MS
from gateway.listener import Connection
from gateway.ops.health import readiness
from gateway.ops.log import RateLimited, get_logger
from gateway.ops.records import RecordsSender
from gateway.player import Player
from gateway.reception import Reception
from gateway.session import Session, SessionParts
from gateway.sessions import SessionRegistry
from gateway.settings import Settings
from gateway.wire.base import Wire
from gateway.wire.detect import WIRES, WireName, detect
from gateway.wire.events import (
    CallerAudio,
    Digit,
    Event,
    MarkPlayed,
    StreamStarted,
    StreamStopped,
)
from supervisor.scoreboard import Field, Row, Scoreboard

NORMAL, GOING_AWAY, INVALID, POLICY, TRY_LATER = 1000, 1001, 1007, 1008, 1013

log = get_logger(__name__)


class Peer:
    """One WebSocket: its wire, and the calls on it by stream id."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.wire: Wire | None = None
        self.wire_name: WireName | None = None
        self.sessions: dict[str, Session] = {}
        self.bad_messages = 0
        self.start_timer: asyncio.TimerHandle | None = None
        self._gaps = self._unknown = 0

    def wire_counts(self, wire: Wire) -> tuple[int, int]:
        """Gaps and unknown messages since the last time."""
        new = (wire.media_gaps - self._gaps, wire.messages_unknown - self._unknown)
        self._gaps, self._unknown = wire.media_gaps, wire.messages_unknown
        return new


class Switchboard:
    """Every connection and call of one worker."""

    def __init__(
        self,
        settings: Settings,
        board: Scoreboard,
        row: Row,
        bridge: Bridge,
        reception: Reception,
        records: RecordsSender,
    ) -> None:
        self._settings = settings
        self._board = board
        self._row = row
        self._bridge = bridge
        self._reception = reception
        self._records = records
        self._peers: dict[Connection, Peer] = {}
        self._warnings = RateLimited()
        self._by_slot: dict[int, Session] = {}
        self._finishing: set[asyncio.Task[None]] = set()
        self.registry = SessionRegistry()
        self.draining = False
        #: What an operator should know although calls are taken; shown by /readyz.
        self.warnings: list[str] = []

    # The listener's handler

    def request(self, request: HttpRequest) -> HttpResponse:
        """Health, for load balancers; nothing else is served on the public port."""
        if request.target not in ("/healthz", "/readyz"):
            return HttpResponse(404, b"not found\n")
        if request.method not in ("GET", "HEAD"):
            return HttpResponse(405, b"use GET\n", headers={"Allow": "GET, HEAD"})
        if request.target == "/healthz":
            return HttpResponse(200, b"ok\n")
        state = readiness(self._board, self._settings, clock.now_ns(), self.warnings)
        ready = state.ready and not self.draining
        body = {"ready": ready, "reasons": state.reasons, "warnings": state.warnings}
        return HttpResponse(200 if ready else 503, orjson.dumps(body), "application/json")

    def admit(self, connection: Connection, upgrade: Upgrade) -> HttpResponse | None:
        """Loopback only unless INSECURE_OPEN; no foreign web pages; nobody when full."""
        refusal = self._refusal(connection, upgrade)
        if refusal is not None:
            self._row.count("calls_refused")
            self._warn("connection refused", status=refusal.status, peer=connection.peer_host)
        return refusal

    def opened(self, connection: Connection) -> None:
        """A new peer; it must start a call soon."""
        peer = self._peers[connection] = Peer(connection)
        loop = asyncio.get_running_loop()
        peer.start_timer = loop.call_later(START_TIMEOUT_MS / 1000, self._start_is_late, peer)
        self._row.count("connections")
        log.info("connection opened", peer=connection.peer_host)

    def message(self, connection: Connection, message: str | bytes) -> None:
        """Read a message and do what its events say."""
        peer = self._peers.get(connection)
        if peer is None:
            return
        try:
            if isinstance(message, bytes):
                raise RemoteWireError("binary messages are not understood", kind="binary")
            wire = peer.wire or self._detect(peer, message)
            for event in wire.receive(message):
                if type(event) is CallerAudio:  # 99 % of all events
                    session = peer.sessions.get(event.stream_id)
                    if session is not None:
                        session.audio(event.payload, event.timestamp_ms)
                else:
                    self._event(peer, wire, event)
        except RemoteWireError as error:
            self._mistake(peer, error)

    def closed(self, connection: Connection) -> None:
        """The peer is gone, and its calls with it."""
        peer = self._peers.pop(connection, None)
        if peer is None:
            return
        if peer.start_timer is not None:
            peer.start_timer.cancel()
        for stream_id in tuple(peer.sessions):
            self._end(stream_id, "disconnected")
        log.info("connection closed", peer=connection.peer_host)

    # The worker's side

    def results(self) -> None:
        """The DSP process has finished something: serve the calls concerned."""
        heard, encoded = self._bridge.changed()
        sessions, now_ns = self._by_slot, clock.now_ns()
        for slot in heard:
            session = sessions.get(slot)  # None: results of a call that has ended
            if session is not None:
                try:
                    session.heard()
                except Exception as error:  # noqa: BLE001 - it must not end the other calls
                    self._crashed(session, error)
        self._pump(encoded, now_ns)

    def tick(self) -> None:
        """Time has passed: serve the calls that wait for nothing else."""
        waiting = [slot for slot, session in self._by_slot.items() if session.waits_for_time]
        self._pump(waiting, clock.now_ns())

    def _pump(self, slots: list[int], now_ns: int) -> None:
        for slot in slots:
            session = self._by_slot.get(slot)
            if session is not None:
                try:
                    session.pump(now_ns)
                except Exception as error:  # noqa: BLE001 - it must not end the other calls
                    self._crashed(session, error)

    def _crashed(self, session: Session, error: Exception) -> None:
        log.error("call crashed", stream=session.stream_id, exc_info=error)
        self._end(session.stream_id, "error")

    def report(self) -> None:
        """Bring the board up to date."""
        for session in self.registry.list():
            session.report()
        for peer in self._peers.values():
            if peer.wire is not None:
                gaps, unknown = peer.wire_counts(peer.wire)
                self._row.count("media_gaps", gaps)
                self._row.count("messages_unknown", unknown)
        self._row.count("rings_damaged", self._bridge.check())
        self._row.set(Field.CALLS, len(self.registry))

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

    def _refusal(self, connection: Connection, upgrade: Upgrade) -> HttpResponse | None:
        settings = self._settings
        if not settings.insecure_open and not _is_loopback(connection.peer_host):
            return HttpResponse(403, b"no credentials are configured: loopback peers only\n")
        origin = upgrade.headers.get("origin")
        if origin is not None and origin not in settings.allowed_origins:
            return HttpResponse(403, b"this origin is not allowed\n")
        if self.draining or not self._bridge.slots_free:
            return HttpResponse(503, b"no slot is free\n", headers={"Retry-After": "5"})
        return None

    def _detect(self, peer: Peer, message: str) -> Wire:
        peer.wire_name = detect(message)
        peer.wire = WIRES[peer.wire_name]()
        return peer.wire

    def _event(self, peer: Peer, wire: Wire, event: Event) -> None:
        if isinstance(event, StreamStarted):
            self._start(peer, wire, event)
            return
        session = peer.sessions.get(event.stream_id)
        if session is None:
            return  # the call has just ended from our side; the peer does not know yet
        if isinstance(event, MarkPlayed):
            session.mark(event.name)
        elif isinstance(event, Digit):
            session.digit(event.digit)
        else:
            assert isinstance(event, StreamStopped)
            self._end(event.stream_id, "stopped")

    def _start(self, peer: Peer, wire: Wire, started: StreamStarted) -> None:
        if self.registry.get(started.stream_id) is not None:
            peer.connection.close(POLICY, "this stream is already live")
            return
        if peer.start_timer is not None:
            peer.start_timer.cancel()
        try:
            session = self._make_session(peer, wire, started)
        except CapacityError:
            self._row.count("calls_refused")
            self._warn("call refused", reason="no slot is free")
            peer.connection.close(TRY_LATER, "no slot is free")
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
        line = self._bridge.lease(started.encoding)
        if line is None:
            raise CapacityError("no slot is free")
        assert peer.wire_name is not None
        choice = self._reception.choose(started)
        player = Player(line, wire, started.stream_id, peer.connection.send)
        ledger = Ledger(started, self._channels(peer, wire, started))
        ledger.started(peer.wire_name, choice.responder, choice.call)
        conversation = self._reception.conversation(choice, player, ledger)
        parts = SessionParts(self._bridge, line, player, conversation, ledger, self._row)
        return self.registry.get_or_create(started.stream_id, lambda: Session(started, parts))

    def _channels(self, peer: Peer, wire: Wire, started: StreamStarted) -> Channels:
        return Channels(
            log=log.bind(call=started.call_id, stream=started.stream_id),
            records=self._records,
            row=self._row,
            wire=wire,
            send=peer.connection.send,
            hang_up=lambda reason: self._hang_up(started.stream_id, reason),
        )

    def _hang_up(self, stream_id: str, reason: str) -> None:
        """End a call from our side; later, because a task of the call itself may be asking."""
        asyncio.get_running_loop().call_soon(self._end, stream_id, reason)

    def _end(self, stream_id: str, reason: str) -> None:
        session = self.registry.remove(stream_id)
        if session is None:
            return
        del self._by_slot[session.slot]
        session.close(reason)
        self._row.set(Field.CALLS, len(self.registry))
        task = asyncio.get_running_loop().create_task(session.finish())
        self._finishing.add(task)
        task.add_done_callback(self._finishing.discard)
        for peer in self._peers.values():
            if peer.sessions.pop(stream_id, None) is not None:
                if not peer.sessions:
                    peer.connection.close(NORMAL, reason)
                break

    def _start_is_late(self, peer: Peer) -> None:
        if not peer.sessions:
            self._warn("no call was started", peer=peer.connection.peer_host)
            peer.connection.close(POLICY, "no start")

    def _mistake(self, peer: Peer, error: RemoteWireError) -> None:
        self._row.count("messages_invalid")
        peer.bad_messages += 1
        self._warn("bad message", kind=error.kind, reason=str(error), stream=error.stream_id)
        if peer.bad_messages >= BAD_MESSAGES_MAX:
            peer.connection.close(INVALID, "too many bad messages")
        elif peer.wire is not None:
            answer = peer.wire.error(error.stream_id, str(error))
            if answer is not None:
                peer.connection.send(answer)

    def _warn(self, event: str, **fields: object) -> None:
        suppressed = self._warnings.allow(event, clock.now_ns())
        if suppressed is not None:
            log.bind(**fields).warning(event, suppressed=suppressed)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
