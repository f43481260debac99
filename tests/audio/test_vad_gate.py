"""The level gate and the reset of the recurrent state: by rule, and on speech between pauses."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from audio import vad
from audio.format import FRAMES_PER_SECOND
from tests.audio.listening import (
    BARE,
    KEPT,
    NEVER,
    RESET,
    Background,
    amplitude,
    call,
    digital_silence,
    hold_music,
    listen,
    noise,
    onsets,
    pauses,
)

Floats = NDArray[np.float32]
Onsets = NDArray[np.int64]

RATES = pytest.mark.parametrize("rate", [8_000, 16_000])
BACKGROUNDS: dict[str, Background] = {
    "digital silence": digital_silence,
    "-50 dBFS": noise(-50),
    "-40 dBFS": noise(-40),
}

LEVELS = st.floats(0, 1, width=32)
ROWS = st.integers(1, 5)


def columns(rows: int) -> st.SearchStrategy[tuple[Floats, Floats, Floats, Floats]]:
    """Level, floor, quiet frames and settled windows of some rows."""

    def column(values: st.SearchStrategy[float]) -> st.SearchStrategy[Floats]:
        return arrays.arrays(np.float32, rows, elements=values)

    quiet = st.integers(0, vad.QUIET_FRAMES).map(float)
    settled = st.integers(0, vad.WARM_WINDOWS + vad.RESET_WINDOWS).map(float)
    return st.tuples(column(LEVELS), column(LEVELS), column(quiet), column(settled))


def steady(dbfs: float, seconds: float, floor: float = 0.0) -> tuple[Floats, list[bool]]:
    """Gate a warm call with a constant level; the floor after it, and each frame's decision."""
    one = np.ones(1, np.float32)
    floors, quiet, skips = one * np.float32(floor), one * 0, []
    for _ in range(round(seconds * FRAMES_PER_SECOND)):
        level = one * np.float32(amplitude(dbfs))
        skip, floors, quiet = vad.gate(level, floors, quiet, one * (vad.WARM_WINDOWS + 1))
        skips.append(bool(skip[0]))
    return floors, skips


def decibel(ratio: NDArray[np.floating]) -> float:
    return float(20 * np.log10(ratio[0]))


def test_level_is_the_rms() -> None:
    sine = np.sin(2 * np.pi * np.arange(160) / 16)
    frames = np.stack((sine, np.zeros(160), -np.ones(160))).astype(np.float32)
    assert vad.level_of(frames) == pytest.approx([np.sqrt(0.5), 0, 1])


@given(data=ROWS.flatmap(columns))
def test_rows_are_gated_each_for_itself(data: tuple[Floats, ...]) -> None:
    together = vad.gate(*data)
    for row in range(len(data[0])):
        alone = vad.gate(*(column[row : row + 1] for column in data))
        for one, other in zip(together, alone, strict=True):
            assert one[row] == other[0]
            assert one.dtype == other.dtype


@given(data=ROWS.flatmap(columns))
def test_gate_again_gives_the_same_and_changes_no_argument(data: tuple[Floats, ...]) -> None:
    before = [column.copy() for column in data]
    for one, other in zip(vad.gate(*data), vad.gate(*data), strict=True):
        assert np.array_equal(one, other)
    for column, copy in zip(data, before, strict=True):
        assert np.array_equal(column, copy)


@given(data=ROWS.flatmap(columns))
def test_what_is_skipped_is_quiet_and_warm(data: tuple[Floats, ...]) -> None:
    level, floor, quiet, settled = data
    skip, new_floor, new_quiet = vad.gate(*data)
    threshold = np.maximum(2 * floor, np.float32(amplitude(-60)))
    assert np.all(level[skip] <= threshold[skip] * 1.001)
    assert np.all(quiet[skip] >= vad.QUIET_FRAMES - 1)
    assert np.all(settled[skip] > vad.WARM_WINDOWS)
    assert np.all(new_floor >= vad.FLOOR_MIN)
    assert np.all((new_quiet == 0) | (new_quiet == np.minimum(quiet + 1, vad.QUIET_FRAMES)))
    assert new_floor.dtype == new_quiet.dtype == np.float32


@given(data=ROWS.flatmap(columns))
def test_floor_moves_towards_the_level_and_not_beyond(data: tuple[Floats, ...]) -> None:
    level, floor, quiet, settled = data
    before = np.maximum(floor, np.float32(vad.FLOOR_MIN))
    _, after, _ = vad.gate(level, floor, quiet, settled)
    louder = level >= before
    assert np.all(after[louder] > before[louder])
    assert np.all(after[~louder] <= before[~louder])
    assert np.all(after[~louder] >= np.maximum(level[~louder], np.float32(vad.FLOOR_MIN)) * 0.999)


def test_a_new_call_skips_nothing() -> None:
    zeros = np.zeros(3, np.float32)
    quiet, floor = zeros, zeros
    for _ in range(100):
        skip, floor, quiet = vad.gate(zeros, floor, quiet, zeros)
        assert not skip.any()


def test_ten_quiet_frames_are_needed() -> None:
    _, skips = steady(-80, seconds=1)
    assert skips.index(True) == vad.QUIET_FRAMES - 1
    assert all(skips[vad.QUIET_FRAMES :])


def test_a_loud_frame_ends_the_skipping_at_once() -> None:
    one = np.ones(1, np.float32)
    skip, _, quiet = vad.gate(one * 0.01, one * 0.001, one * 10, one * 100)
    assert not skip[0]
    assert quiet[0] == 0


def test_floor_climbs_five_decibels_a_second_and_falls_in_a_tenth() -> None:
    floor, _ = steady(-10, seconds=1, floor=0.001)
    assert decibel(floor / 0.001) == pytest.approx(5.2, abs=0.1)
    fallen, _ = steady(-60, seconds=0.2, floor=0.1)
    assert decibel(fallen) == pytest.approx(-60, abs=1)


@pytest.mark.parametrize("dbfs", [-68, -60, -50, -40])
def test_steady_noise_becomes_the_floor(dbfs: float) -> None:
    _, skips = steady(dbfs, seconds=10)
    assert all(skips[6 * FRAMES_PER_SECOND :])


def test_state_settles_in_silence_and_is_reset_in_the_end() -> None:
    settled, probability = np.zeros(1, np.float32), np.full(1, 0.1, np.float32)
    windows = 0
    while not vad.reset_due(settled)[0]:
        settled = vad.next_settled(settled, probability)
        windows += 1
    assert windows == vad.WARM_WINDOWS + vad.RESET_WINDOWS
    speech = vad.next_settled(settled, np.full(1, vad.NON_SPEECH, np.float32))
    assert speech[0] == vad.WARM_WINDOWS
    assert not vad.reset_due(speech)[0]


def test_level_probability_is_a_smooth_ramp() -> None:
    floor = np.full(5, 0.001, np.float32)
    over = np.array([-20, 6, 9, 12, 60])
    level = (0.001 * 10 ** (over / 20)).astype(np.float32)
    assert vad.level_probability(level, floor) == pytest.approx([0, 0, 0.5, 1, 1], abs=1e-4)
    nothing = np.zeros(1, np.float32)
    assert vad.level_probability(nothing, nothing)[0] == 0
    assert vad.level_probability(nothing + 1, nothing)[0] == 1


@given(level=LEVELS, louder=LEVELS, floor=LEVELS)
def test_louder_is_never_less_probable(level: float, louder: float, floor: float) -> None:
    pair = np.sort(np.array([level, louder], np.float32))
    quiet, loud = vad.level_probability(pair, np.full(2, floor, np.float32))
    assert 0 <= quiet <= loud <= 1


@cache
def onsets_between_pauses(rate: int) -> dict[str, tuple[Onsets, Onsets]]:
    """Every clip once, after pauses up to 20 s: by the bare model on every window, and gated."""
    said = [call(rate, between, rows=6, each=3, seed=1) for between in BACKGROUNDS.values()]
    bare, gated = (list(map(onsets, heard, said)) for heard in listen(said, BARE, RESET))
    return dict(zip(BACKGROUNDS, zip(bare, gated, strict=True), strict=True))


@RATES
@pytest.mark.parametrize("between", BACKGROUNDS)
def test_no_onset_is_lost_or_late(rate: int, between: str) -> None:
    bare, gated = onsets_between_pauses(rate)[between]
    assert np.all(bare < NEVER)
    assert np.max(gated - bare) <= 1
    assert gated.mean() < bare.mean(), "a state that does not drift is quicker"


def test_most_of_a_pause_is_skipped() -> None:
    calls = [call(8_000, noise(dbfs), rows=6, each=3, seed=11) for dbfs in (-68, -50, -40)]
    for said, heard in zip(calls, *listen(calls, RESET), strict=True):
        assert heard.skipped[pauses(said)].mean() > 0.8
        assert heard.skipped[~pauses(said)].mean() < 0.1


@RATES
def test_hold_music_does_not_deafen(rate: int) -> None:
    """The reset's reason: without it speech after music is noticed late, or never."""
    said = call(rate, hold_music, rows=6, each=3, seed=21)
    bare, kept, reset = (onsets(heard, said) for (heard,) in listen([said], BARE, KEPT, RESET))
    assert np.all(reset < NEVER)
    assert np.max(reset - bare) <= 1
    assert np.mean(np.minimum(reset, 20)) + 1 < np.mean(np.minimum(bare, 20))
    assert np.mean(np.minimum(reset, 20)) + 1 < np.mean(np.minimum(kept, 20))


@pytest.mark.slow
@RATES
@pytest.mark.parametrize("between", [digital_silence, noise(-50), noise(-40), hold_music])
def test_of_hundreds_of_onsets_hardly_one_is_late(rate: int, between: Background) -> None:
    """Where the bare model itself hovers at 0.5, chance decides: one in 200, by two windows.

    After music more, for a reset may fall anywhere; but music makes the bare model far later.
    """
    bare, gated = [], []
    for seed in range(4):
        said = call(rate, between, rows=18, each=3, seed=100 + seed)
        (without,), (with_gate,) = listen([said], BARE, RESET)
        bare.append(onsets(without, said))
        gated.append(onsets(with_gate, said))
    later = np.concatenate(gated) - np.concatenate(bare)
    assert np.count_nonzero(later > 1) <= len(later) // 200
    assert np.max(later) <= (5 if between is hold_music else 2)
    assert np.max(np.concatenate(gated)) < NEVER
    assert later.mean() < 0
