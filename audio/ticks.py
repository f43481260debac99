"""How long a DSP process's ticks take: what a frame waits at worst before it is seen. Pure.

A tick is two passes, one of each kind, so it lasts from the start of a pass to the start of the
next but one. Only ticks under load count: a pass that found nothing ends the series, and the
time that a process slept because nobody had anything for it is nobody's wait. Sleeping out the
rest of a half tick is part of the tick.
"""

from __future__ import annotations

from collections import deque

from audio.format import NS_PER_MS

WINDOW_NS = 2_000 * NS_PER_MS
UPDATE_NS = 100 * NS_PER_MS
#: Who has just begun, perhaps with what another one left undone, is not slow yet; and who has
#: one call has few ticks, where a single hiccup would be the percentile. This much work says more.
EVIDENCE_NS = 1_000 * NS_PER_MS
#: Twice what a window holds at half ticks of 5 ms; beyond that the oldest go first.
TICKS_MAX = 800
PASSES_PER_TICK = 2


class TickGauge:
    """The 95th percentile and the median of the ticks of the last two seconds.

    Both are 0 until the ticks under load of these two seconds fill one second.
    """

    __slots__ = ("_began", "_next_update_ns", "_ticks", "median_ns", "p95_ns")

    def __init__(self) -> None:
        self._ticks: deque[tuple[int, int]] = deque(maxlen=TICKS_MAX)
        self._began: deque[int] = deque(maxlen=PASSES_PER_TICK)
        self._next_update_ns = 0
        self.p95_ns = 0
        self.median_ns = 0

    def worked(self, began_ns: int) -> None:
        """A pass that found work began then."""
        if len(self._began) == PASSES_PER_TICK:
            self._ticks.append((began_ns, began_ns - self._began[0]))
        self._began.append(began_ns)

    def idled(self) -> None:
        """A pass found nothing."""
        self._began.clear()

    def update(self, now_ns: int) -> None:
        """Compute both values anew, at most every 100 ms: a sort of a few hundred numbers."""
        if now_ns < self._next_update_ns:
            return
        self._next_update_ns = now_ns + UPDATE_NS
        while self._ticks and self._ticks[0][0] <= now_ns - WINDOW_NS:
            self._ticks.popleft()
        took = sorted(duration for _, duration in self._ticks)
        if sum(took) < PASSES_PER_TICK * EVIDENCE_NS:  # ticks overlap by a pass
            self.p95_ns = self.median_ns = 0
            return
        self.p95_ns = took[-(len(took) // 20) - 1]
        self.median_ns = took[len(took) // 2]
