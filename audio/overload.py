"""What a DSP process gives up when it cannot keep up with its calls. Pure; told the time.

A tick that usually lasts longer than a frame does (median of two seconds) means that nobody catches
up: all calls would be late for good, by as much as the rings hold. A voice activity window costs
more than all else that is done with a frame, so while slots are behind their windows are judged by
level alone: turn-taking hears worse, and no word is lost. Only if that was not enough, two seconds
later, does a slot lose its oldest frames.
"""

from __future__ import annotations

from typing import NamedTuple

from audio.format import FRAME_NS, NS_PER_MS
from audio.ticks import WINDOW_NS

#: Frames that may wait in a slot before windows are judged by level.
SPARED_FRAMES = 4
#: How long an overload is remembered: the median falls as soon as the model is spared.
HOLD_NS = 5_000 * NS_PER_MS
#: A caller's frames that may wait when nothing else helps, and how many of them are kept then.
AGED_FRAMES = 16
KEPT_FRAMES = 2


class Relief(NamedTuple):
    """What to do without in this pass: the voice activity model; the oldest frames."""

    model: bool
    aged: bool


class Overload:
    """One DSP process's; ``has_model``: whether there is a model that can be done without."""

    __slots__ = ("_patience_ns", "_since_ns", "_until_ns")

    def __init__(self, *, has_model: bool) -> None:
        self._patience_ns = WINDOW_NS if has_model else 0
        self._since_ns = self._until_ns = -HOLD_NS

    def relief(self, now_ns: int, median_ns: int, backlog: int) -> Relief:
        """Judge by the median tick and the longest backlog of a slot (frames)."""
        overloaded = median_ns > FRAME_NS
        if overloaded:
            if now_ns >= self._until_ns:
                self._since_ns = now_ns
            self._until_ns = now_ns + HOLD_NS
        held_out = now_ns - self._since_ns >= self._patience_ns
        return Relief(
            model=self._patience_ns > 0 and now_ns < self._until_ns and backlog > SPARED_FRAMES,
            aged=overloaded and held_out and backlog > AGED_FRAMES,
        )
