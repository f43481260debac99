"""Numbered messages put in order within a bounded window; what is still missing then was lost.

Told no time: how long to wait is counted in later messages, which come at their pace. With
``WINDOW`` of them waiting behind a hole, the hole is given up. A message that comes after its
place was given up is late, and one that comes twice is late the second time: both are counted and
dropped. A number far behind is no late message but a new count, which is taken up where it begins.
"""

from __future__ import annotations

from typing import Generic, TypeVar

#: Messages that may wait for one before them: 100 ms of audio.
WINDOW = 5
#: A number further behind than this (5 s) begins a new count.
RESTART = 250

Item = TypeVar("Item")


class InOrder(Generic[Item]):
    """Takes numbered items in any order, gives them in order."""

    __slots__ = ("_next", "_waiting", "late")

    def __init__(self, first: int) -> None:
        self._next = first
        self._waiting: dict[int, Item] = {}
        #: Items dropped because they came too late, or twice.
        self.late = 0

    def take(self, number: int, item: Item) -> list[tuple[int, Item]]:
        """Take one item; returns, with their numbers, those whose turn has come."""
        behind = self._next - number
        if behind == 0 and not self._waiting:  # nearly always
            self._next += 1
            return [(number, item)]
        if 0 < behind <= RESTART or number in self._waiting:
            self.late += 1
            return []
        before: list[tuple[int, Item]] = []
        if behind > RESTART:
            before, self._next = self.rest(), number
        self._waiting[number] = item
        return before + self._due()

    def rest(self) -> list[tuple[int, Item]]:
        """Everything that still waits: nothing more will come."""
        found = sorted(self._waiting.items(), key=lambda pair: pair[0])
        self._waiting.clear()
        if found:
            self._next = found[-1][0] + 1
        return found

    def _due(self) -> list[tuple[int, Item]]:
        due: list[tuple[int, Item]] = []
        while self._waiting:
            if self._next not in self._waiting:
                if len(self._waiting) < WINDOW:
                    break
                self._next = min(self._waiting)
            due.append((self._next, self._waiting.pop(self._next)))
            self._next += 1
        return due
