"""Latency by minute, against the plain computation."""

from __future__ import annotations

import statistics

from hypothesis import given
from hypothesis import strategies as st

from gateway.console.latency import (
    MINUTES,
    MS_PER_MINUTE,
    SAMPLES_PER_MINUTE_MAX,
    LatencyHour,
    Minute,
)


@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(0, 20)), min_size=1, max_size=50))
def test_minutes_of_the_last_hour(answers: list[tuple[int, int]]) -> None:
    hour, at, kept = LatencyHour(), 0, dict[int, list[int]]()
    for response_ms, minutes in answers:
        at += minutes
        hour.add(response_ms, at * MS_PER_MINUTE)
        kept.setdefault(at, []).append(response_ms)
    found = hour.minutes(at * MS_PER_MINUTE)
    expected = {minute: values for minute, values in kept.items() if minute > at - MINUTES}
    assert [(m.at_ms // MS_PER_MINUTE, m.count) for m in found] == [
        (minute, len(values)) for minute, values in expected.items()
    ]
    for minute, values in zip(found, expected.values(), strict=True):
        assert minute.p50_ms == statistics.median_low(values)
        assert minute.p50_ms <= minute.p95_ms <= max(values)
    everything = [value for values in expected.values() for value in values]
    whole = hour.overall(at * MS_PER_MINUTE)
    assert (whole.count, whole.p50_ms) == (len(everything), statistics.median_low(everything))


def test_an_hour_without_answers() -> None:
    hour = LatencyHour()
    hour.add(100, 0)
    later = MINUTES * MS_PER_MINUTE
    assert hour.minutes(later) == []
    assert hour.overall(later) == Minute(MS_PER_MINUTE, 0, 0, 0)


def test_very_many_answers_are_bounded_and_counted() -> None:
    hour = LatencyHour()
    for n in range(3 * SAMPLES_PER_MINUTE_MAX):
        hour.add(n, 0)
    (minute,) = hour.minutes(0)
    assert minute.count == 3 * SAMPLES_PER_MINUTE_MAX
    assert minute.p50_ms >= 2 * SAMPLES_PER_MINUTE_MAX


def test_a_clock_that_was_set_back_adds_to_the_last_minute() -> None:
    hour = LatencyHour()
    hour.add(1, 10 * MS_PER_MINUTE)
    hour.add(2, 5 * MS_PER_MINUTE)
    assert [m.count for m in hour.minutes(10 * MS_PER_MINUTE)] == [2]
