"""Silero in numpy against ONNX Runtime, its oracle, on speech, noise and silence."""

from __future__ import annotations

from functools import cache
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audio import vad
from audio.vad_onnx import OnnxSilero
from tests.audio.listening import amplitude, clips, hold_music, model, over_the_wire, silero

RATES = pytest.mark.parametrize("rate", [8_000, 16_000])
PROBABILITY_TOLERANCE = 1e-5
STATE_TOLERANCE = 1e-3
STEPS = 100

Floats = NDArray[np.float32]


@cache
def windows(rate: int) -> Floats:
    """(steps, rows, context + window): every clip, loud, faint and in noise; music, noise, zeros.

    As they come from a wire: signals far below one step of PCM16 do not occur, and the network
    has such a gain for them that any rounding would show.
    """
    rng = np.random.default_rng(rate)
    length = STEPS * silero(rate).window
    streams = [np.zeros(length), np.full(length, 0.5), hold_music(rng, length, rate)]
    streams += [rng.normal(0, amplitude(dbfs), length) for dbfs in (-80, -50, -40, -20, -3)]
    for clip in clips(rate):
        speech = np.resize(np.concatenate((clip, np.zeros(rate))), length)
        streams += [speech, speech + rng.normal(0, amplitude(-45), length), speech / 10]
    context = silero(rate).context
    samples = over_the_wire(rate, np.stack(streams).astype(np.float32))
    padded = np.pad(samples, ((0, 0), (context, 0)))
    views = np.lib.stride_tricks.sliding_window_view(padded, context + silero(rate).window, axis=1)
    found = views[:, :: silero(rate).window].transpose(1, 0, 2).copy()
    assert found.shape[0] * found.shape[1] >= 5000
    return found


def run(scorer: vad.Silero | OnnxSilero, heard: Floats, batch: int) -> tuple[Floats, Floats]:
    """Follow every row through all steps, ``batch`` rows at a time; all probabilities and states.

    Each step starts from the state that the same scorer reached in the step before.
    """
    steps, rows, _ = heard.shape
    probabilities = np.empty((steps, rows), np.float32)
    states = np.zeros((steps + 1, rows, 2, 128), np.float32)
    for step in range(steps):
        for first in range(0, rows, batch):
            some = slice(first, first + batch)
            probabilities[step, some], states[step + 1, some] = scorer.score(
                heard[step, some], states[step, some]
            )
    return probabilities, states


def test_the_model_file_is_the_one_this_was_written_for() -> None:
    assert sha256(model()).hexdigest() == vad.MODEL_SHA256


@RATES
@pytest.mark.parametrize("batch", [7, 62])
def test_equals_onnx_runtime(rate: int, batch: int) -> None:
    probabilities, states = run(silero(rate), windows(rate), batch)
    expected, expected_states = run(OnnxSilero(model(), rate), windows(rate), batch)
    assert np.abs(probabilities - expected).max() <= PROBABILITY_TOLERANCE
    assert np.abs(states - expected_states).max() <= STATE_TOLERANCE
    assert expected.min() < 0.01, "some of it is silence"
    assert 0.2 < np.mean(expected > 0.5) < 0.8, "about half of it is speech"


@RATES
def test_the_comparison_would_notice_a_wrong_state(rate: int) -> None:
    heard = windows(rate)[:20]
    right, states = run(silero(rate), heard, 62)
    swapped = np.ascontiguousarray(states[-1][:, ::-1])
    probability, _ = silero(rate).score(heard[0], swapped)
    expected, _ = silero(rate).score(heard[0], states[-1])
    assert np.abs(probability - expected).max() > 1000 * PROBABILITY_TOLERANCE
    assert right.shape == (20, heard.shape[1])


@RATES
def test_batched_equals_single(rate: int) -> None:
    """Whole streams, one row at a time against all at once."""
    heard = windows(rate)[:40, ::3]
    together, states = run(silero(rate), heard, heard.shape[1])
    alone, states_alone = run(silero(rate), heard, 1)
    assert np.abs(together - alone).max() <= PROBABILITY_TOLERANCE
    assert np.abs(states - states_alone).max() <= STATE_TOLERANCE


@RATES
@settings(max_examples=25)
@given(rows=st.sampled_from([1, 2, 3, 31, 127, 128, 129, 257, 512]), seed=st.integers(0, 2**32 - 1))
def test_rows_do_not_depend_on_their_company(rate: int, rows: int, seed: int) -> None:
    """Any rows, in any order, across the borders of the sub-batches."""
    rng = np.random.default_rng(seed)
    heard = windows(rate).reshape(-1, windows(rate).shape[2])
    chosen = heard[rng.integers(0, len(heard), rows)]
    state = rng.normal(0, 0.3, (rows, 2, 128)).astype(np.float32)
    probability, after = silero(rate).score(chosen, state)
    order = rng.permutation(rows)
    shuffled, shuffled_after = silero(rate).score(chosen[order], state[order])
    assert np.abs(probability[order] - shuffled).max() <= PROBABILITY_TOLERANCE
    assert np.abs(after[order] - shuffled_after).max() <= STATE_TOLERANCE
    row = int(rng.integers(rows))
    single, _ = silero(rate).score(chosen[row : row + 1], state[row : row + 1])
    assert abs(single[0] - probability[row]) <= PROBABILITY_TOLERANCE


@RATES
def test_scoring_again_gives_the_same_bytes_and_changes_no_input(rate: int) -> None:
    heard = windows(rate)[50]
    _, state = silero(rate).score(windows(rate)[49], np.zeros((len(heard), 2, 128), np.float32))
    before = heard.tobytes(), state.tobytes()
    first = silero(rate).score(heard, state)
    again = vad.Silero(model(), rate).score(heard, state)
    assert [array.tobytes() for array in first] == [array.tobytes() for array in again]
    assert (heard.tobytes(), state.tobytes()) == before


@RATES
def test_no_rows_are_no_error(rate: int) -> None:
    width = silero(rate).context + silero(rate).window
    empty = np.zeros((0, width), np.float32), np.zeros((0, 2, 128), np.float32)
    probability, state = silero(rate).score(*empty)
    assert probability.shape == (0,)
    assert state.shape == (0, 2, 128)


def test_windows_and_context() -> None:
    assert (silero(8_000).window, silero(8_000).context) == (256, 32)
    assert (silero(16_000).window, silero(16_000).context) == (512, 64)


def test_another_file_is_refused_with_its_hash() -> None:
    for other in (b"", model()[:-1], model() + b"\0"):
        with pytest.raises(ValueError, match=sha256(other).hexdigest()):
            vad.Silero(other, 8_000)


def test_another_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="not 44100"):
        vad.Silero(model(), 44_100)


def test_tensors_of_another_shape_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file with the expected hash but a branch that lacks a tensor cannot exist; pretend."""
    monkeypatch.setattr(vad, "MODEL_SHA256", sha256(b"").hexdigest())
    with pytest.raises(ValueError, match=r"stft\.forward_basis_buffer has 0 values"):
        vad.Silero(b"", 8_000)


def test_a_wrong_shape_is_our_own_mistake() -> None:
    state = np.zeros((1, 2, 128), np.float32)
    with pytest.raises(AssertionError):
        silero(8_000).score(np.zeros((1, 256), np.float32), state)
    with pytest.raises(AssertionError):
        silero(8_000).score(np.zeros((1, 288)), state)  # type: ignore[arg-type] # float64
