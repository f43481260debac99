"""When a worker closes its door, and how long it stays closed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.format import NS_PER_MS
from gateway.admission import SENTENCES, Admission, Admits, Pulse
from gateway.limits import (
    DSP_LAG_BEATS,
    DSP_LAG_BEATS_LATE_MAX,
    DSP_LAG_MS_MAX,
    LAG_BEATS,
    LAG_BEATS_LATE_MAX,
    LAG_MS_MAX,
    REOPEN_AFTER_MS,
)

BEAT_NS = 100 * NS_PER_MS
FINE = Pulse(lag_ns=0, dsp_lag_ns=0, descriptors=10, descriptors_max=100, slots_free=1)
LATE = replace(FINE, lag_ns=(LAG_MS_MAX + 1) * NS_PER_MS)
SLOW_DSP = replace(FINE, dsp_lag_ns=(DSP_LAG_MS_MAX + 1) * NS_PER_MS)
FEW = replace(FINE, descriptors=90)
FULL = replace(FINE, slots_free=0)


def judged(*pulses: Pulse) -> list[Admits]:
    admission = Admission()
    return [admission.beat(pulse, n * BEAT_NS) for n, pulse in enumerate(pulses)]


@pytest.mark.parametrize(
    ("pulse", "answer"),
    [
        (FINE, Admits.YES),
        (LATE, Admits.YES),  # one late beat is no overload
        (replace(FINE, dsp_lag_ns=DSP_LAG_MS_MAX * NS_PER_MS), Admits.YES),
        (SLOW_DSP, Admits.YES),  # nor is one slow pass
        (replace(FINE, descriptors=89), Admits.YES),
        (FEW, Admits.FEW_DESCRIPTORS),
        (FULL, Admits.NO_SLOT),
        (replace(FEW, slots_free=0), Admits.FEW_DESCRIPTORS),
    ],
)
def test_one_beat(pulse: Pulse, answer: Admits) -> None:
    assert judged(pulse) == [answer]


@pytest.mark.parametrize(
    ("bad", "window", "allowed", "fault"),
    [
        (LATE, LAG_BEATS, LAG_BEATS_LATE_MAX, Admits.LOOP_LATE),
        (SLOW_DSP, DSP_LAG_BEATS, DSP_LAG_BEATS_LATE_MAX, Admits.DSP_LATE),
    ],
)
def test_lateness_counts_when_it_lasts(
    bad: Pulse, window: int, allowed: int, fault: Admits
) -> None:
    fine = [FINE] * (window - allowed)
    assert judged(*[bad] * allowed, *fine, bad)[-1] is Admits.YES
    assert judged(*[bad] * allowed, *fine[1:], bad)[-1] is fault


def test_exactly_the_limit_is_not_late() -> None:
    limit = replace(FINE, lag_ns=LAG_MS_MAX * NS_PER_MS)
    assert set(judged(*[limit] * LAG_BEATS)) == {Admits.YES}


def test_a_free_slot_opens_at_once() -> None:
    assert judged(FULL, FINE) == [Admits.NO_SLOT, Admits.YES]


def test_it_opens_after_five_good_seconds_and_not_before() -> None:
    bad = FEW
    beats = REOPEN_AFTER_MS // 100
    answers = judged(bad, *[FINE] * beats)
    assert set(answers[:-1]) == {answers[0]}
    assert answers[0] in SENTENCES
    assert answers[-1] is Admits.YES
    admission = Admission()
    for n, pulse in enumerate([bad, bad, *[FINE] * beats, FULL, bad]):
        admission.beat(pulse, n * BEAT_NS)
    assert admission.closings == 2
    relapsed = judged(bad, *[FINE] * (beats - 1), bad, *[FINE] * (beats - 1))
    assert Admits.YES not in relapsed


@given(st.lists(st.sampled_from([FINE, LATE, SLOW_DSP, FEW, FULL]), max_size=120))
def test_open_means_nothing_was_wrong_for_five_seconds(pulses: list[Pulse]) -> None:
    """Whatever the history; and once nothing is wrong it opens again."""
    answers = judged(*pulses)
    beats = REOPEN_AFTER_MS // 100
    for n, answer in enumerate(answers):
        if answer is Admits.YES:
            recent = pulses[max(0, n - beats + 1) : n + 1]
            assert FEW not in recent
            assert pulses[max(0, n - LAG_BEATS + 1) : n + 1].count(LATE) <= LAG_BEATS_LATE_MAX
            slow = pulses[max(0, n - DSP_LAG_BEATS + 1) : n + 1].count(SLOW_DSP)
            assert slow <= DSP_LAG_BEATS_LATE_MAX
            assert pulses[n] is not FULL
    calm = [FINE] * (beats + DSP_LAG_BEATS)
    assert judged(*pulses, *calm)[-1] is Admits.YES
