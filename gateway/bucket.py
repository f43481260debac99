"""A token bucket: so much a second in the long run, so much at once. Pure, told the time."""

from __future__ import annotations

from typing import NamedTuple

NS_PER_SECOND = 1_000_000_000


class Rate(NamedTuple):
    """What is allowed: ``per_second`` in the long run, ``burst`` at once."""

    per_second: int
    burst: int


class Bucket:
    """Full at first. Whatever does not fit is told, and not owed."""

    __slots__ = ("_at_ns", "_left")

    def __init__(self, rate: Rate, now_ns: int) -> None:
        self._left = float(rate.burst)
        self._at_ns = now_ns

    def spend(self, count: int, rate: Rate, now_ns: int) -> bool:
        """Take ``count`` out; False when there was not so much in it."""
        filled = self._left + (now_ns - self._at_ns) * rate.per_second / NS_PER_SECOND
        self._at_ns = now_ns
        left = min(filled, rate.burst) - count
        self._left = max(0.0, left)
        return left >= 0

    def is_full(self, rate: Rate, now_ns: int) -> bool:
        """Whether it has forgotten all that was spent."""
        filled = self._left + (now_ns - self._at_ns) * rate.per_second / NS_PER_SECOND
        return filled >= rate.burst
