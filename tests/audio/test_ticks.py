"""The tick gauge against a plain sum of what happened."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from audio.format import NS_PER_MS
from audio.ticks import EVIDENCE_NS, TICKS_MAX, UPDATE_NS, WINDOW_NS, TickGauge

#: (milliseconds to the next pass, whether it finds work: 9 of 10 do)
PASSES = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), min_size=40, max_size=120)


@given(PASSES)
def test_it_is_the_percentile_of_the_ticks_under_load_of_two_seconds(
    passes: list[tuple[int, int]],
) -> None:
    gauge, now = TickGauge(), 0
    began: list[int] = []  # of this series of passes with work
    ticks: list[tuple[int, int]] = []
    for wait_ms, worked in passes:
        now += wait_ms * NS_PER_MS
        if worked:
            gauge.worked(now)
            began.append(now)
            if len(began) > 2:
                ticks.append((now, now - began[-3]))
        else:
            gauge.idled()
            began.clear()
    now += UPDATE_NS
    gauge.update(now)
    told = [(at, duration) for at, duration in ticks if at > now - WINDOW_NS]
    took = [duration for _, duration in told]
    if sum(took) < 2 * EVIDENCE_NS:
        assert gauge.p95_ns == gauge.median_ns == 0
        return
    assert gauge.p95_ns == np.percentile(took, 95, method="inverted_cdf")
    assert min(took) <= gauge.median_ns <= max(took)
    assert sum(t < gauge.median_ns for t in took) <= len(took) / 2
    assert sum(t > gauge.median_ns for t in took) <= len(took) / 2


def loaded(gauge: TickGauge, passes: int, half_tick_ms: int, at: int = 0) -> int:
    for _ in range(passes):
        at += half_tick_ms * NS_PER_MS
        gauge.worked(at)
    return at


def test_a_steady_load_shows_its_tick() -> None:
    gauge = TickGauge()
    gauge.update(loaded(gauge, 400, 5))
    assert gauge.p95_ns == gauge.median_ns == 10 * NS_PER_MS


def test_a_few_stalls_do_not_make_a_slow_process() -> None:
    gauge, now = TickGauge(), 0
    for _ in range(3):  # in the two seconds, for 50 ms each
        now = loaded(gauge, 100, 5, now + 50 * NS_PER_MS)
    gauge.update(now)
    assert gauge.median_ns == 10 * NS_PER_MS
    assert gauge.p95_ns == 10 * NS_PER_MS


def test_who_takes_over_what_was_left_is_not_slow_yet() -> None:
    gauge = TickGauge()
    now = loaded(gauge, 40, 24)
    gauge.update(now)
    assert (gauge.p95_ns, gauge.median_ns) == (0, 0)
    gauge.update(loaded(gauge, 10, 24, now))
    assert gauge.p95_ns == gauge.median_ns == 48 * NS_PER_MS


def test_a_hiccup_beside_one_call_does_not_make_a_slow_process() -> None:
    gauge, at = TickGauge(), 0
    for _ in range(40):  # one frame each 20 ms; the machine is busy with something else
        at = loaded(gauge, 4, 20, at)
        gauge.idled()
        gauge.update(at := at + UPDATE_NS)
        assert gauge.p95_ns == 0


def test_who_sleeps_is_not_slow() -> None:
    gauge = TickGauge()
    for at in range(1, 200):
        gauge.worked(at * 10 * NS_PER_MS)
        gauge.idled()
    gauge.update(2_000 * NS_PER_MS)
    assert gauge.p95_ns == 0


def test_what_was_slow_is_forgotten() -> None:
    gauge = TickGauge()
    now = loaded(gauge, 60, 30)
    gauge.update(now)
    assert gauge.p95_ns == 60 * NS_PER_MS
    gauge.update(now + WINDOW_NS)
    assert gauge.p95_ns == 0


def test_it_is_computed_ten_times_a_second_at_most() -> None:
    gauge = TickGauge()
    gauge.update(now := loaded(gauge, 45, 25))
    before = gauge.p95_ns
    now = loaded(gauge, 3, 33, now)
    gauge.update(now)
    assert gauge.p95_ns == before > 0
    gauge.update(now + UPDATE_NS)
    assert gauge.p95_ns > before


def test_it_holds_no_more_than_it_needs() -> None:
    gauge = TickGauge()
    loaded(gauge, 2 * TICKS_MAX, 1)
    assert len(gauge._ticks) == TICKS_MAX
