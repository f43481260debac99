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
    """One place as a sender sees it: connections it has or will have, and whether it takes more."""

    place: int
    load: int
    takes: bool


def candidates(board: Scoreboard, now_ns: int) -> Iterator[Candidate]:
    """Look at every place; one takes a connection if it is ready, alive, admits and has room."""
    for row in board.rows(WORKER):
        place = row.name.index
        load = row.get(Field.CONNECTIONS) + board.in_flight(place)
        takes = (
            row.get(Field.PHASE) == Phase.READY
            and row.get(Field.ADMITS) == 1
            and now_ns - row.get(Field.HEARTBEAT_NS) <= _UNPLACEABLE_AFTER_NS
            and load < row.get(Field.CAPACITY)
        )
        yield Candidate(place, load, takes)


def choose(found: Iterable[Candidate], me: int) -> int | None:
    """The least loaded place that takes a connection, ourselves before others; None: all full."""
    open_places = [c for c in found if c.takes]
    if not open_places:
        return None
    return min(open_places, key=lambda c: (c.load, c.place != me, c.place)).place
