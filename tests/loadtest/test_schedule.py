"""The schedule is a function of the seed and never drifts."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from loadtest.schedule import FRAME_NS, NS_PER_SECOND, SETUP_NS, make_schedule, sid

seeds = st.integers(-(2**40), 2**40)
sizes = st.integers(1, 300)
durations = st.floats(0.02, 7200)
ramps = st.floats(0, 600)


@given(seeds, sizes, durations, ramps)
def test_same_seed_same_schedule(seed: int, calls: int, seconds: float, ramp: float) -> None:
    assert make_schedule(seed, calls, seconds, ramp) == make_schedule(seed, calls, seconds, ramp)


@given(seeds, sizes, durations, ramps)
def test_frames_are_exactly_twenty_ms_apart_however_long_the_call(
    seed: int, calls: int, seconds: float, ramp: float
) -> None:
    for plan in make_schedule(seed, calls, seconds, ramp).calls:
        last = plan.frames - 1
        assert plan.due_ns(last) - plan.due_ns(0) == last * FRAME_NS


@given(seeds, sizes, durations, ramps)
def test_all_calls_send_throughout_the_steady_window(
    seed: int, calls: int, seconds: float, ramp: float
) -> None:
    schedule = make_schedule(seed, calls, seconds, ramp)
    assert schedule.steady_to_ns - schedule.steady_from_ns == round(seconds * NS_PER_SECOND)
    for plan in schedule.calls:
        assert plan.due_ns(0) <= schedule.steady_from_ns
        assert plan.due_ns(plan.frames - 1) < schedule.steady_to_ns <= plan.due_ns(plan.frames)


@given(seeds, sizes, durations, ramps)
def test_with_a_holding_time_each_call_lasts_as_long_from_its_own_start(
    seed: int, calls: int, hold: float, ramp: float
) -> None:
    schedule = make_schedule(seed, calls, 1.0, ramp, hold)
    assert {plan.frames for plan in schedule.calls} == {-(-round(hold * 1e9) // FRAME_NS)}
    assert schedule.steady_from_ns <= schedule.calls[0].first_frame_ns
    last = schedule.calls[-1].due_ns(schedule.calls[-1].frames)
    assert abs(schedule.steady_to_ns - last) <= ramp * NS_PER_SECOND / calls + 3 * FRAME_NS


@given(seeds, sizes, ramps)
def test_a_call_has_time_to_connect_and_calls_connect_over_the_ramp(
    seed: int, calls: int, ramp: float
) -> None:
    plans = make_schedule(seed, calls, 1, ramp).calls
    assert [plan.index for plan in plans] == list(range(calls))
    assert all(plan.due_ns(0) - plan.connect_ns >= SETUP_NS for plan in plans)
    connects = [plan.connect_ns for plan in plans]
    assert connects == sorted(connects)
    assert connects[0] == 0
    assert connects[-1] <= ramp * NS_PER_SECOND


@given(seeds, sizes, ramps)
def test_frames_are_spread_evenly_over_the_frame(seed: int, calls: int, ramp: float) -> None:
    phases = sorted(p.first_frame_ns % FRAME_NS for p in make_schedule(seed, calls, 1, ramp).calls)
    around = [*phases[1:], phases[0] + FRAME_NS]
    apart = [b - a for a, b in zip(phases, around, strict=True)]
    assert max(apart) - min(apart) <= 2
    assert len(set(phases)) == calls


def test_seeds_differ() -> None:
    one, two = (make_schedule(seed, 20, 1).calls for seed in (1, 2))
    assert [p.first_frame_ns for p in one] != [p.first_frame_ns for p in two]
    assert {p.stream_sid for p in one}.isdisjoint(p.stream_sid for p in two)
    assert [p.material for p in one] != [p.material for p in two]


@given(seeds, sizes)
def test_sids_have_twilios_shape_and_are_unique(seed: int, calls: int) -> None:
    sids = [sid(prefix, seed, i) for prefix in ("MZ", "CA") for i in range(calls)]
    assert len(set(sids)) == 2 * calls
    for found in sids:
        assert len(found) == 34
        assert found[:2] in ("MZ", "CA")
        assert set(found[2:]) <= set(string.hexdigits.lower())
