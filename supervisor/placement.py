"""Which worker a new connection goes to: a pure choice over what the board shows.

The load of a place is what it has and what is on its way to it. Published counts alone would herd
a burst into the worker that looked empty a moment ago.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from supervisor.kinds import WORKER
from supervisor.scoreboard import Field, Phase, Scoreboard

#: A worker whose heartbeat is older than this gets no connection.
UNPLACEABLE_AFTER_MS = 300
_UNPLACEABLE_AFTER_NS = UNPLACEABLE_AFTER_MS * 1_000_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """One place as a sender sees it.

    Connections it has or will have, whether it takes more, whether it can at least say no.
    """

    place: int
    load: int
    takes: bool
    answers: bool


def candidates(board: Scoreboard, now_ns: int) -> Iterator[Candidate]:
    """Look at every place; one takes a connection if it is ready, alive, admits and has room."""
    for row in board.rows(WORKER):
        place = row.name.index
        load = row.get(Field.CONNECTIONS) + board.in_flight(place)
        phase = row.get(Field.PHASE)
        beats = now_ns - row.get(Field.HEARTBEAT_NS) <= _UNPLACEABLE_AFTER_NS
        has_room = row.get(Field.ADMITS) == 1 and load < row.get(Field.CAPACITY)
        takes = beats and has_room and phase == Phase.READY
        answers = beats and phase in (Phase.READY, Phase.DRAINING)
        yield Candidate(place, load, takes, answers)


def choose(found: Iterable[Candidate], me: int) -> int | None:
    """The least loaded place that takes a connection, ourselves before others; None: all full."""
    open_places = [c for c in found if c.takes]
    if not open_places:
        return None
    return min(open_places, key=lambda c: (c.load, c.place != me, c.place)).place


def choose_to_refuse(found: Iterable[Candidate]) -> int | None:
    """The least loaded place that can tell a caller that everything is full; None: all silent."""
    answering = [c for c in found if c.answers]
    return min(answering, key=lambda c: (c.load, c.place)).place if answering else None
