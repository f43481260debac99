"""How an assistant spoke, from the carrier's playout times."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loadtest.schedule import NS_PER_MS
from loadtest.speaking import hear_out, onset_lateness_ms

ALWAYS = (0, 2**62)


def times(*at_ms: float) -> NDArray[np.int64]:
    return (np.array(at_ms, np.float64) * NS_PER_MS).astype(np.int64)


def test_an_utterance_begins_after_more_than_a_second_of_silence() -> None:
    starts = times(1000, 1020, 1620, 2721, 2741)
    heard = hear_out(starts, times(20, 100, 100, 20, 100), ALWAYS)
    assert (heard.onsets_ns // NS_PER_MS).tolist() == [1000, 2721]
    assert (heard.spoken_ns, heard.messages) == (340 * NS_PER_MS, 5)


def test_only_what_is_heard_within_the_window_counts() -> None:
    heard = hear_out(times(0, 100, 200), times(100, 100, 100), (150 * NS_PER_MS, 200 * NS_PER_MS))
    assert (heard.spoken_ns, heard.messages) == (50 * NS_PER_MS, 1)
    nothing = hear_out(times(), times(), ALWAYS)
    assert (nothing.spoken_ns, nothing.messages, nothing.onsets_ns.size) == (0, 0, 0)


@given(
    st.floats(1500, 10_000),
    st.lists(st.floats(0, 10_000), min_size=1, max_size=20),
    st.integers(3, 10),
)
def test_a_steady_rhythm_is_never_late(period: float, phases: list[float], turns: int) -> None:
    calls = [times(*(phase + turn * period for turn in range(turns))) for phase in phases]
    for lateness in onset_lateness_ms(calls):
        assert len(lateness) == turns
        assert lateness.max() < 0.001


def test_each_late_utterance_is_late_by_its_own_delay() -> None:
    steady = times(0, 6000, 12000, 18000)
    late = times(500, 6540, 12500, 18510)
    skipped = times(100, 12100)  # its second was never heard
    found = onset_lateness_ms([steady, late, skipped, times(7), times()])
    assert found[0].tolist() == [0, 0, 0, 0]
    assert found[1].tolist() == [0, 40, 0, 10]
    assert found[2].tolist() == [0, 0]
    assert [len(lateness) for lateness in found[3:]] == [0, 0]
    assert [lateness.size for lateness in onset_lateness_ms([times(3)])] == [0]
    assert onset_lateness_ms([]) == []
