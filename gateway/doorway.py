"""A worker's door: accepts connections, places each before a byte of it is read, counts them.

A connection that arrives at our listener goes to the worker with the least to do: ourselves, or
another, to whom the bare descriptor is sent. It is counted when it is taken, not when its
transport is ready: a burst is placed faster than a loop turns, and a count that lags behind would
send all of it to the worker that looked empty a moment ago.

What raises ``Field.CONNECTIONS`` is taking a descriptor; what lowers it is a :class:`Guest` that
leaves, once, whatever ended it: the peer, a failed TLS handshake, a descriptor that is no socket.

When nobody takes a connection it is kept: health is answered as ever, a WebSocket is refused with
503. When we drain, what still waits in the listener's queue is placed like that too, then the
listener is left to whoever serves it next.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from typing_extensions import override

from gateway import clock
from gateway.admission import REASONS
from gateway.channel_events import HttpRequest, HttpResponse, Upgrade
from gateway.limits import (
    ACCEPT_PAUSE_MS,
    ACCEPTS_PER_WAKE_MAX,
    CLOSE_TIMEOUT_MS,
    TLS_HANDSHAKE_TIMEOUT_MS,
)
from gateway.listener import Connection, Handler
from gateway.ops.log import RateLimited, get_logger
from gateway.switchboard import no_room
from supervisor.handover import CONNECTION, REFUSAL, hand_over, receive
from supervisor.placement import UNPLACEABLE_AFTER_MS, candidates, choose
from supervisor.scoreboard import Field, Row, Scoreboard

#: Accepting fails for want of something that only time brings back.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_UNPLACEABLE_NS = UNPLACEABLE_AFTER_MS * clock.NS_PER_MS

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ways:
    """Where connections come from and go to. ``place`` is ours, ``senders[p]`` leads to ``p``."""

    place: int
    board: Scoreboard
    row: Row
    listener: socket.socket
    receiver: socket.socket
    senders: tuple[socket.socket, ...]
    tls: ssl.SSLContext | None = None


class Guest(Connection):
    """A connection that says, once, that it is gone."""

    __slots__ = ("_here", "_on_leaving")

    def __init__(self, handler: Handler, on_leaving: Callable[[], None]) -> None:
        super().__init__(handler)
        self._on_leaving = on_leaving
        self._here = True

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, whatever the reason."""
        super().connection_lost(exc)
        self.leave()

    def leave(self) -> None:
        """It is gone, or will never come."""
        if self._here:
            self._here = False
            self._on_leaving()


class Refusal:
    """Handles the connections that nobody takes: no WebSocket is opened on them."""

    def __init__(self, handler: Handler, row: Row) -> None:
        self._handler = handler
        self._row = row

    def request(self, request: HttpRequest) -> HttpResponse:
        """Answer as ever: a load balancer is to learn that we are full."""
        return self._handler.request(request)

    def admit(self, connection: Connection, upgrade: Upgrade) -> HttpResponse | None:
        """Refuse; a peer that may not come in at all is told so."""
        forbidden = self._handler.admit(connection, upgrade)
        if forbidden is not None:
            return forbidden
        self._row.count("calls_refused")
        self._row.count(f"refusals/{REASONS[self._row.get(Field.ADMITS)]}")
        return no_room()

    def opened(self, connection: Connection) -> Callable[[str | bytes], None]:
        """No WebSocket is ever opened."""
        raise AssertionError("a refused connection was opened")

    def closed(self, connection: Connection) -> None:
        """What was not opened is not closed."""
        raise AssertionError("a refused connection was closed")


class Doorway:
    """Accepts, places and adopts connections on the running loop.

    ``handler`` is asked about every connection that we take, ``on_datagram`` gets what else
    arrives on the hand-over socket.
    """

    def __init__(self, ways: Ways, handler: Handler, on_datagram: Callable[[bytes], None]) -> None:
        self._ways = ways
        self._handler = handler
        self._refusal = Refusal(handler, ways.row)
        self._on_datagram = on_datagram
        self._loop = asyncio.get_running_loop()
        self._adopting: set[asyncio.Task[object]] = set()
        self._warnings = RateLimited()
        self._accepting = False
        self._closing = False
        #: Set once the accept queue was empty after :meth:`close`.
        self.emptied = asyncio.Event()

    @property
    def connections(self) -> int:
        """Connections that we have taken and that are not gone."""
        return self._ways.row.get(Field.CONNECTIONS)

    def open(self) -> None:
        """Begin to accept and to receive."""
        self._loop.add_reader(self._ways.receiver, self._receive)
        self._listen()

    def close(self) -> None:
        """Take nothing new: empty the accept queue on to others, then leave the listener alone.

        The hand-over socket is still read: what is in it was counted on us.
        """
        self._closing = True
        self._accept()

    def shut(self) -> None:
        """Stop reading the hand-over socket as well; what is left in it is for the supervisor."""
        self.emptied.set()
        self._deafen()
        self._loop.remove_reader(self._ways.receiver)

    # From our own listener

    def _listen(self) -> None:
        if not self._accepting and not self.emptied.is_set():
            self._accepting = True
            self._loop.add_reader(self._ways.listener, self._accept)

    def _deafen(self) -> None:
        if self._accepting:
            self._accepting = False
            self._loop.remove_reader(self._ways.listener)

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_WAKE_MAX):
            try:
                # The bare descriptor: no socket object for a connection that is handed on.
                fd, _ = self._ways.listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
            except BlockingIOError:
                if self._closing:
                    self._deafen()
                    self.emptied.set()
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(error)
                    return
                continue  # this one was gone before we came
            self._place(fd, received=False)
        if self._closing and not self.emptied.is_set():  # an empty queue would not wake us
            self._loop.call_soon(self._accept)

    def _pause(self, error: OSError) -> None:
        """The listener stays readable: looking again at once would only burn the CPU."""
        self._warn("cannot accept", reason=error.strerror)
        self._deafen()
        self._loop.call_later(ACCEPT_PAUSE_MS / 1000, self._listen)

    # From other workers

    def _receive(self) -> None:
        for _ in range(ACCEPTS_PER_WAKE_MAX):
            datagram = receive(self._ways.receiver)
            if datagram is None:
                return
            if datagram.body not in (CONNECTION, REFUSAL):
                if datagram.fd >= 0:
                    os.close(datagram.fd)
                self._on_datagram(datagram.body)
            elif datagram.fd < 0:
                self._ways.board.count_got(self._ways.place)
                self._ways.row.count("handovers/lost")
                self._warn("connection lost", reason="no file descriptor was free")
            elif datagram.body == REFUSAL:
                self._adopt(datagram.fd, self._refusal, received=True)
            elif self._closing:
                self._place(datagram.fd, received=True)
            else:
                self._adopt(datagram.fd, self._handler, received=True)

    # Placing and taking

    def _place(self, fd: int, *, received: bool) -> None:
        """Hand a connection on, or keep it; refused when nobody takes it."""
        ways = self._ways
        place = choose(candidates(ways.board, self._seen_ns()), ways.place)
        if place is None:
            self._warn("the gateway is full")
            self._adopt(fd, self._refusal, received=received)
        elif place == ways.place or not self._hand_over(fd, place):
            self._adopt(fd, self._handler, received=received)
        elif received:
            ways.board.count_got(ways.place)

    def _seen_ns(self) -> int:
        """The time by which a silent worker is judged: not long after our own last beat.

        When our loop stalled, or the whole machine did, all would look silent, ourselves included.
        """
        return min(clock.now_ns(), self._ways.row.get(Field.HEARTBEAT_NS) + _UNPLACEABLE_NS)

    def _hand_over(self, fd: int, place: int) -> bool:
        ways = self._ways
        ways.board.count_sent(ways.place, place)  # before it is sent: it is never seen nowhere
        if hand_over(ways.senders[place], fd):
            ways.row.count("handovers/sent")
            return True
        ways.board.count_sent(ways.place, place, -1)
        ways.row.count("handovers/kept")
        return False

    def _adopt(self, fd: int, handler: Handler, *, received: bool) -> None:
        ways = self._ways
        ways.row.count("connections_taken")
        ways.row.set(Field.CONNECTIONS, self.connections + 1)
        if received:
            ways.board.count_got(ways.place)
            ways.row.count("handovers/taken")
        guest = Guest(handler, self._left)
        task: asyncio.Task[object] = self._loop.create_task(self._welcome(guest, fd))
        self._adopting.add(task)
        task.add_done_callback(lambda done: self._adopted(done, guest))

    async def _welcome(self, guest: Guest, fd: int) -> None:
        """Make a transport of a descriptor; ``OSError`` when there is no talking to the peer."""
        try:
            connection = socket.socket(fileno=fd)
        except OSError:
            os.close(fd)
            raise
        try:
            await self._make_transport(guest, connection)
        except BaseException:
            connection.close()  # unless the transport has it: then it is closed with that
            raise

    async def _make_transport(self, guest: Guest, connection: socket.socket) -> None:
        tls = self._ways.tls
        if tls is None:
            await self._loop.connect_accepted_socket(lambda: guest, connection)
            return
        await self._loop.connect_accepted_socket(
            lambda: guest,
            connection,
            ssl=tls,
            ssl_handshake_timeout=TLS_HANDSHAKE_TIMEOUT_MS / 1000,
            ssl_shutdown_timeout=CLOSE_TIMEOUT_MS / 1000,
        )

    def _adopted(self, task: asyncio.Task[object], guest: Guest) -> None:
        self._adopting.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            guest.leave()
            self._ways.row.count("connections_failed")
            self._warn("connection failed", reason=str(error) or type(error).__name__)

    def _left(self) -> None:
        self._ways.row.set(Field.CONNECTIONS, self.connections - 1)

    def _warn(self, event: str, **fields: object) -> None:
        suppressed = self._warnings.allow(event, clock.now_ns())
        if suppressed is not None:
            log.bind(**fields).warning(event, suppressed=suppressed)
