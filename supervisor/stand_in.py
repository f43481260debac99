"""Serves the queues of a worker that does not: its accept queue and its hand-over socket.

While a worker hangs, is dead, parked or still starting, callers arrive in its listener all the
same (the kernel does not know), and connections may be on their way to it. The supervisor holds
both sockets, takes what is in them and hands it to the worker with the least to do, as a worker
would. It never reads a byte of a call.

When every worker is full, late or draining, the connection goes to one of them all the same, to be
refused: an answer is worth more than a silent queue. ``unattended`` is the decision, from the board
alone; ``StandIn`` does it. It watches the queues only while there is somebody to hand to: where no
worker lives a connection waits, and a readable socket that one does not read would keep the
supervisor busy for nothing.

Every cell of the board has one writer, so what is taken from a hung worker's hand-over socket is
booked in the supervisor's own column (``sent`` goes down), never in that worker's ``got``.
"""

from __future__ import annotations

import logging
import os
import select
import socket
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from supervisor.handover import CONNECTION, REFUSAL, hand_over, receive
from supervisor.kinds import WORKER
from supervisor.placement import (
    UNPLACEABLE_AFTER_MS,
    candidates,
    choose,
    choose_to_refuse,
)
from supervisor.scoreboard import Field, Phase, Row, Scoreboard
from supervisor.spec import NOBODY

#: Connections handed on before the supervisor looks at its children again.
TAKEN_PER_WAKE_MAX = 64

#: More than a hand-over socket holds (its buffer is full after some 280).
BURIED_MAX = 1024

_LOOK_EVERY_NS = 50_000_000
_REPORT_EVERY_NS = 1_000_000_000
_UNPLACEABLE_AFTER_NS = UNPLACEABLE_AFTER_MS * 1_000_000
_DEAD = (Phase.EXITED, Phase.PARKED, Phase.SPARE)

log = logging.getLogger("supervisor")


@dataclass(frozen=True, slots=True)
class Unattended:
    """Listeners that nobody accepts from, places whose hand-over socket nobody reads."""

    listeners: frozenset[int]
    places: frozenset[int]


def unattended(board: Scoreboard, listeners: int, now_ns: int) -> Unattended:
    """What nobody serves at this moment.

    A listener is served by a ready worker that beats, a hand-over socket by one that drains, too.
    """
    alive = [row for row in board.rows(WORKER) if _serves(row, now_ns)]
    ready = {r.get(Field.LISTENER) for r in alive if r.get(Field.PHASE) == Phase.READY}
    attended = {row.name.index for row in alive}
    return Unattended(
        frozenset(range(listeners)) - ready, frozenset(range(board.places)) - attended
    )


def _serves(row: Row, now_ns: int) -> bool:
    return (
        row.get(Field.PHASE) in (Phase.READY, Phase.DRAINING)
        and now_ns - row.get(Field.HEARTBEAT_NS) <= _UNPLACEABLE_AFTER_NS
    )


@dataclass(frozen=True, slots=True)
class _To:
    """Who gets a connection, and whether to be served or refused."""

    place: int
    kind: bytes


class StandIn:
    """Takes connections out of unattended queues, while ``epoll`` says that there are any.

    ``handovers[p]`` is the reading and the writing end of place ``p``'s hand-over socket; without
    them there is nobody to hand to and nothing is done.
    """

    def __init__(
        self,
        board: Scoreboard,
        listeners: Sequence[socket.socket],
        handovers: Sequence[tuple[socket.socket, socket.socket]],
        epoll: select.epoll,
    ) -> None:
        self._board = board
        self._listeners = listeners
        self._handovers = handovers
        self._epoll = epoll
        #: By descriptor: how to take a connection from a queue that is watched.
        self._watched: dict[int, Callable[[], int]] = {}
        #: A connection that was taken and found no room in a hand-over socket.
        self._held = NOBODY
        self._next_look_ns = self._next_report_ns = 0
        self._unreported = 0

    def close(self) -> None:
        """Watch nothing any more; a connection that is held is lost."""
        self._watch({})
        if self._held != NOBODY:
            os.close(self._held)
            self._held = NOBODY

    def look(self, now_ns: int) -> None:
        """Every 50 ms: decide which queues to watch, and book what the dead have not taken."""
        if now_ns < self._next_look_ns or not self._handovers:
            return
        self._next_look_ns = now_ns + _LOOK_EVERY_NS
        found = unattended(self._board, len(self._listeners), now_ns)
        for place in found.places:
            self._settle(place)
        to = self._choose(now_ns)
        if to is not None and self._held != NOBODY:
            self._offer(to)
        idle = to is None or self._held != NOBODY
        self._watch({} if idle else self._queues(found))
        if self._unreported and now_ns >= self._next_report_ns:
            log.info("stood_in connections=%d", self._unreported)
            self._unreported = 0
            self._next_report_ns = now_ns + _REPORT_EVERY_NS

    def serve(self, readable: Collection[int], now_ns: int) -> None:
        """Hand on what is in those watched queues that are readable, up to a limit."""
        taken = 0
        for fd in self._watched.keys() & set(readable):
            count = self._hand_on(self._watched[fd], TAKEN_PER_WAKE_MAX - taken, now_ns)
            taken += count
            if not count and taken < TAKEN_PER_WAKE_MAX:
                # It would wake us at once again: leave it until the next look.
                self._epoll.unregister(fd)
                del self._watched[fd]

    def bury(self, place: int, now_ns: int) -> None:
        """The worker of this place is dead: hand on what it has not taken, book the rest."""
        if not self._handovers:
            return
        self._hand_on(partial(self._take_back, place), BURIED_MAX, now_ns)
        self._settle(place)

    def _queues(self, found: Unattended) -> dict[int, Callable[[], int]]:
        """By descriptor: how to take a connection from each of these queues."""
        listeners = (self._listeners[index] for index in found.listeners)
        ends = ((self._handovers[place][0].fileno(), place) for place in found.places)
        return {
            **{listener.fileno(): partial(_accept, listener) for listener in listeners},
            **{fd: partial(self._take_back, place) for fd, place in ends},
        }

    def _watch(self, queues: dict[int, Callable[[], int]]) -> None:
        for fd in self._watched.keys() - queues.keys():
            self._epoll.unregister(fd)
        for fd in queues.keys() - self._watched.keys():
            self._epoll.register(fd, select.EPOLLIN)
        self._watched = queues

    def _hand_on(self, take: Callable[[], int], limit: int, now_ns: int) -> int:
        """Take from a queue while somebody takes from us; returns how many."""
        count = 0
        while count < limit and self._held == NOBODY:
            to = self._choose(now_ns)
            fd = NOBODY if to is None else take()
            if to is None or fd == NOBODY:
                break
            count += 1
            self._held = fd
            self._offer(to)
        self._unreported += count
        return count

    def _choose(self, now_ns: int) -> _To | None:
        found = list(candidates(self._board, now_ns))
        place = choose(found, NOBODY)
        if place is not None:
            return _To(place, CONNECTION)
        place = choose_to_refuse(found)
        return None if place is None else _To(place, REFUSAL)

    def _offer(self, to: _To) -> None:
        """Hand over the connection we hold; we go on holding it when there is no room."""
        self._board.count_sent(self._board.places, to.place)
        if hand_over(self._handovers[to.place][1], self._held, to.kind):
            self._held = NOBODY
        else:
            self._board.count_sent(self._board.places, to.place, -1)

    def _take_back(self, place: int) -> int:
        """A connection from a place's hand-over socket; what else is in there is dropped."""
        while (datagram := receive(self._handovers[place][0])) is not None:
            if datagram.body in (CONNECTION, REFUSAL):
                self._board.count_sent(self._board.places, place, -1)
                if datagram.fd != NOBODY:
                    return datagram.fd
            elif datagram.fd != NOBODY:
                os.close(datagram.fd)
        return NOBODY

    def _settle(self, place: int) -> None:
        """Nothing is on its way to a dead worker whose queue is empty, whatever was counted."""
        phase = self._board.row(WORKER, place).get(Field.PHASE)
        lost = self._board.in_flight(place)
        if lost and phase in _DEAD and _is_empty(self._handovers[place][0]):
            self._board.count_sent(self._board.places, place, -lost)


def _accept(listener: socket.socket) -> int:
    with suppress(OSError):  # nobody is waiting, or the caller has given up, or no descriptor left
        return listener.accept()[0].detach()
    return NOBODY


def _is_empty(end: socket.socket) -> bool:
    try:
        return not end.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
