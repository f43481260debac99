"""Response latency of the last hour, minute by minute. Pure: told the time.

For the chart on the page; what outlives the console is in the histograms of the metrics.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

MINUTES = 60
SAMPLES_PER_MINUTE_MAX = 512
MS_PER_MINUTE = 60_000


@dataclass(slots=True)
class _Minute:
    number: int
    count: int = 0
    samples: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute's answers: when it began, how many, and their percentiles in milliseconds."""

    at_ms: int
    count: int
    p50_ms: int
    p95_ms: int


class LatencyHour:
    """Answers by minute; of a minute with very many a part stands for all."""

    def __init__(self) -> None:
        self._minutes: deque[_Minute] = deque(maxlen=MINUTES)

    def add(self, response_ms: int, at_ms: int) -> None:
        """Take one answer."""
        number = at_ms // MS_PER_MINUTE
        if not self._minutes or number > self._minutes[-1].number:
            self._minutes.append(_Minute(number))
        minute = self._minutes[-1]  # also when the wall clock was set back
        if len(minute.samples) < SAMPLES_PER_MINUTE_MAX:
            minute.samples.append(response_ms)
        else:
            minute.samples[minute.count % SAMPLES_PER_MINUTE_MAX] = response_ms
        minute.count += 1

    def minutes(self, at_ms: int) -> list[Minute]:
        """The minutes of the last hour that had answers, oldest first."""
        first = at_ms // MS_PER_MINUTE - MINUTES + 1
        return [_summary(minute) for minute in self._minutes if minute.number >= first]

    def overall(self, at_ms: int) -> Minute:
        """All answers of the last hour as if they were one minute's."""
        first = at_ms // MS_PER_MINUTE - MINUTES + 1
        found = [minute for minute in self._minutes if minute.number >= first]
        samples = [sample for minute in found for sample in minute.samples]
        return _summary(_Minute(first, sum(minute.count for minute in found), samples))


def _summary(minute: _Minute) -> Minute:
    ordered = sorted(minute.samples) or [0]
    last = len(ordered) - 1
    return Minute(
        minute.number * MS_PER_MINUTE,
        minute.count,
        ordered[last // 2],
        ordered[-(-last * 95 // 100)],
    )
