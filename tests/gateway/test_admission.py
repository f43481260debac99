"""When a worker closes its door, and how long it stays closed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.format import NS_PER_MS
from gateway.admission import SENTENCES, Admission, Admits, Pulse
from gateway.limits import DSP_LAG_MS_MAX, LAG_BEATS, LAG_MS_MAX, REOPEN_AFTER_MS

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
        (SLOW_DSP, Admits.DSP_LATE),
        (replace(FINE, descriptors=89), Admits.YES),
        (FEW, Admits.FEW_DESCRIPTORS),
        (FULL, Admits.NO_SLOT),
        (replace(SLOW_DSP, slots_free=0), Admits.DSP_LATE),
    ],
)
def test_one_beat(pulse: Pulse, answer: Admits) -> None:
    assert judged(pulse) == [answer]


def test_three_late_beats_of_the_last_twenty_are_too_many() -> None:
    assert judged(LATE, LATE, *[FINE] * (LAG_BEATS - 2), LATE)[-1] is Admits.YES
    assert judged(LATE, LATE, *[FINE] * (LAG_BEATS - 3), LATE)[-1] is Admits.LOOP_LATE


def test_exactly_the_limit_is_not_late() -> None:
    limit = replace(FINE, lag_ns=LAG_MS_MAX * NS_PER_MS)
    assert set(judged(*[limit] * LAG_BEATS)) == {Admits.YES}


def test_a_free_slot_opens_at_once() -> None:
    assert judged(FULL, FINE) == [Admits.NO_SLOT, Admits.YES]


@pytest.mark.parametrize("bad", [SLOW_DSP, FEW])
def test_it_opens_after_five_good_seconds_and_not_before(bad: Pulse) -> None:
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
            assert SLOW_DSP not in recent
            assert FEW not in recent
            assert pulses[max(0, n - LAG_BEATS + 1) : n + 1].count(LATE) <= 2
            assert pulses[n] is not FULL
    calm = [FINE] * (beats + LAG_BEATS)
    assert judged(*pulses, *calm)[-1] is Admits.YES
