"""The live ear: onsets and ends of speech in playout time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loadtest.ear import ONSET_QUIET_NS, Ear
from loadtest.schedule import FRAME_NS

BLOCK = 160
LOUD = np.full(BLOCK, 3000, np.int16)
QUIET = np.full(BLOCK, 50, np.int16)


@given(st.lists(st.booleans(), max_size=80), st.integers(1, 6))
def test_onsets_follow_quiet(speech: list[bool], frames_a_message: int) -> None:
    ear = Ear(BLOCK)
    for first in range(0, len(speech), frames_a_message):
        blocks = [LOUD if loud else QUIET for loud in speech[first : first + frames_a_message]]
        ear.hear(first * FRAME_NS, np.concatenate(blocks))
    quiet_frames = ONSET_QUIET_NS // FRAME_NS
    expected = [
        i * FRAME_NS
        for i, loud in enumerate(speech)
        if loud and not any(speech[max(0, i - quiet_frames) : i])
    ]
    assert ear.onsets_ns == expected
    last = max((i for i, loud in enumerate(speech) if loud), default=None)
    assert ear.speech_end_ns == (None if last is None else (last + 1) * FRAME_NS)


def test_what_is_cut_is_not_heard() -> None:
    ear = Ear(BLOCK)
    ear.hear(0, np.tile(LOUD, 10))
    ear.hear(100 * FRAME_NS, np.tile(LOUD, 10))
    ear.cut(5 * FRAME_NS)
    assert ear.onsets_ns == [0]
    assert ear.speech_end_ns == 5 * FRAME_NS


def test_the_first_onset_after() -> None:
    ear = Ear(BLOCK)
    for at in (0, 100, 200):
        ear.hear(at * FRAME_NS, LOUD)
    assert ear.first_onset_after(100 * FRAME_NS) == 100 * FRAME_NS
    assert ear.first_onset_after(100 * FRAME_NS + 1) == 200 * FRAME_NS
    assert ear.first_onset_after(201 * FRAME_NS) is None


def test_how_long_speech_goes_on_is_told_of_any_moment() -> None:
    ear = Ear(BLOCK)
    ear.hear(0, np.tile(LOUD, 10))
    ear.hear(100 * FRAME_NS, np.tile(LOUD, 10))
    assert ear.speaks_until(3 * FRAME_NS) == 10 * FRAME_NS
    assert ear.speaks_until(50 * FRAME_NS) == 50 * FRAME_NS
    assert ear.speaks_until(100 * FRAME_NS) == 110 * FRAME_NS
