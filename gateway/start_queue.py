"""Which call begins now: callers at the door come before those who are in. Pure; told the time.

When hundreds connect in one moment, each handshake is a carrier that may give up, and each call
that begins meanwhile is work before the next one's handshake. So a call begins when nobody was let
in since the last look, one at a time, and after START_WAIT_MS_MAX whatever comes.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from audio.format import NS_PER_MS
from gateway.limits import START_WAIT_MS_MAX

Start = TypeVar("Start")

_WAIT_NS_MAX = START_WAIT_MS_MAX * NS_PER_MS


class StartQueue(Generic[Start]):
    """The calls of one worker that are about to begin, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Start]] = deque()
        self._let_in = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, start: Start, now_ns: int) -> None:
        """A call wants to begin."""
        self._waiting.append((now_ns, start))

    def due(self, let_in: int, now_ns: int) -> Start | None:
        """The call that begins now, None when it is to wait.

        ``let_in``: a count that is another one when somebody was let in since the last time.
        """
        crowded, self._let_in = let_in != self._let_in, let_in
        if not self._waiting:
            return None
        since_ns, start = self._waiting[0]
        if crowded and now_ns - since_ns < _WAIT_NS_MAX:
            return None
        self._waiting.popleft()
        return start
