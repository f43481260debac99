"""Which DSP process serves which arena. Pure.

Arena ``a`` belongs at first to DSP process ``a mod (n - 1)``: the last one is the standby. An
owner keeps its arenas until its exit is confirmed, also when it hangs or is being killed: two
processes over the same rings would corrupt them. Then whoever is ready and has the fewest arenas
takes over, and the replacement is the new standby.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from supervisor.actions import Action, Assign
from supervisor.child import Child, State
from supervisor.spec import NOBODY


class Arenas:
    """Owner of each arena; every method returns the assignments to write."""

    def __init__(self, count: int, dsps: Sequence[Child]) -> None:
        self._dsps = {child.spec.index: child for child in dsps}
        self._owners = [NOBODY] * count

    def start(self) -> Iterator[Action]:
        """No arena is served until a DSP process is ready."""
        return (Assign(arena, NOBODY) for arena in range(len(self._owners)))

    def take_from(self, dsp: int) -> Iterator[Action]:
        """This DSP process is confirmed dead."""
        for arena, owner in enumerate(self._owners):
            if owner == dsp:
                self._owners[arena] = NOBODY
                yield Assign(arena, NOBODY)

    def place(self) -> Iterator[Action]:
        """Give arenas that nobody serves to whoever can."""
        for arena, owner in enumerate(self._owners):
            if owner == NOBODY:
                self._owners[arena] = self._server_for(arena)
                if self._owners[arena] != NOBODY:
                    yield Assign(arena, self._owners[arena])

    def _server_for(self, arena: int) -> int:
        ready = [i for i, child in self._dsps.items() if child.state is State.READY]
        home = arena % max(1, len(self._dsps) - 1)
        if not ready or self._dsps[home].first_start:
            return NOBODY
        if home in ready:
            return home
        return min(ready, key=lambda index: (self._owners.count(index), index))
