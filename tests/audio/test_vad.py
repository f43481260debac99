"""Silero in numpy against ONNX Runtime, its oracle, on speech, noise and silence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from hashlib import sha256

import numpy as np
import pytest
from numpy.typing import NDArray

from audio import vad
from audio.vad_onnx import OnnxSilero
from tests.audio.listening import amplitude, clips, hold_music, model, over_the_wire, silero

RATES = pytest.mark.parametrize("rate", [8_000, 16_000])
STEPS = 100
ORACLE_TOLERANCE = 1e-5
STATE_TOLERANCE = 1e-3
#: What float32 allows: ONNX Runtime itself is 7e-6 from exact arithmetic at 16 kHz.
COMPANY_TOLERANCE = {8_000: 1e-5, 16_000: 2e-5}
FREE_RUNNING_TOLERANCE = 1e-4

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """Windows (n, samples) of whole streams, and what ONNX Runtime made of them.

    Rows are steps of streams in turn; a state is that from which the window was scored.
    """

    windows: Floats
    states: Floats
    probability: Floats
    after: Floats

    def stream_steps(self) -> tuple[Floats, Floats]:
        """(steps, streams, ...): windows and the oracle's probabilities."""
        windows = self.windows.reshape(STEPS, -1, self.windows.shape[1])
        return windows, self.probability.reshape(STEPS, -1)


@cache
def reference(rate: int) -> Reference:
    """Every clip, loud, fainter and in noise; music, noises of five levels, zeros, a constant."""
    rng = np.random.default_rng(rate)
    length = STEPS * silero(rate).window
    streams = [np.zeros(length), np.full(length, 0.5), hold_music(rng, length, rate)]
    streams += [rng.normal(0, amplitude(dbfs), length) for dbfs in (-80, -50, -40, -20, -3)]
    for clip in clips(rate):
        speech = np.resize(np.concatenate((clip, np.zeros(rate))), length)
        streams += [speech, speech + rng.normal(0, amplitude(-45), length), speech / 10]
    samples = over_the_wire(rate, np.stack(streams).astype(np.float32))
    padded = np.pad(samples, ((0, 0), (silero(rate).context, 0)))
    width = silero(rate).context + silero(rate).window
    views = np.lib.stride_tricks.sliding_window_view(padded, width, axis=1)
    steps = views[:, :: silero(rate).window].transpose(1, 0, 2).copy()
    probability, states = follow(OnnxSilero(model(), rate), steps)
    return Reference(
        steps.reshape(-1, width),
        states[:-1].reshape(-1, 2, 128),
        probability.ravel(),
        states[1:].reshape(-1, 2, 128),
    )


def follow(scorer: vad.Silero | OnnxSilero, steps: Floats) -> tuple[Floats, Floats]:
    """Score streams from beginning to end: probabilities (steps, n), states (steps + 1, n, ..)."""
    probabilities = np.empty(steps.shape[:2], np.float32)
    states = np.zeros((len(steps) + 1, steps.shape[1], 2, 128), np.float32)
    for step, windows in enumerate(steps):
        probabilities[step], states[step + 1] = scorer.score(windows, states[step])
    return probabilities, states


def in_batches(rate: int, size: int, order: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """The reference's windows and states, ``size`` at a time, in any order; results put back."""
    heard = reference(rate)
    probability, after = np.empty_like(heard.probability), np.empty_like(heard.after)
    for first in range(0, len(order), size):
        some = order[first : first + size]
        probability[some], after[some] = silero(rate).score(heard.windows[some], heard.states[some])
    return probability, after


@cache
def in_one_batch(rate: int) -> tuple[Floats, Floats]:
    """All of them together."""
    everything = np.arange(len(reference(rate).windows))
    return in_batches(rate, len(everything), everything)


def difference(one: Floats, other: Floats) -> float:
    """The largest."""
    return float(np.abs(one - other).max())


def test_the_model_file_is_the_one_this_was_written_for() -> None:
    assert sha256(model()).hexdigest() == vad.MODEL_SHA256


@RATES
def test_the_reference_is_worth_something(rate: int) -> None:
    heard = reference(rate)
    assert len(heard.windows) >= 5000
    assert heard.probability.min() < 0.01
    assert 0.2 < np.mean(heard.probability > 0.5) < 0.8
    swapped = np.ascontiguousarray(heard.states[:, ::-1])
    probability, _ = silero(rate).score(heard.windows, swapped)
    assert difference(probability, heard.probability) > 0.1, "a wrong state would not show"


@RATES
@pytest.mark.parametrize("size", [1, 62, 500, 10_000])
def test_every_window_equals_onnx_runtimes(rate: int, size: int) -> None:
    heard = reference(rate)
    probability, after = in_batches(rate, size, np.arange(len(heard.windows)))
    assert difference(probability, heard.probability) <= ORACLE_TOLERANCE
    assert difference(after, heard.after) <= STATE_TOLERANCE


@RATES
def test_whole_streams_stay_with_onnx_runtime(rate: int) -> None:
    """Each follows its own state: rounding adds up over 100 windows, and stays small."""
    steps, expected = reference(rate).stream_steps()
    probabilities, states = follow(silero(rate), steps)
    assert difference(probabilities, expected) <= FREE_RUNNING_TOLERANCE
    final = reference(rate).after.reshape(*steps.shape[:2], 2, 128)[-1]
    assert difference(states[-1], final) <= STATE_TOLERANCE


@RATES
@pytest.mark.parametrize("size", [1, 2, 3, 31, 127, 128, 129, 257])
def test_rows_do_not_depend_on_their_company(rate: int, size: int) -> None:
    """Any rows together, in any order, across the borders of the sub-batches."""
    together = in_one_batch(rate)
    shuffled = np.random.default_rng(size).permutation(len(reference(rate).windows))
    apart = in_batches(rate, size, shuffled)
    assert difference(together[0], apart[0]) <= COMPANY_TOLERANCE[rate]
    assert difference(together[1], apart[1]) <= STATE_TOLERANCE


@RATES
def test_scoring_again_gives_the_same_bytes_and_changes_no_input(rate: int) -> None:
    heard, state = reference(rate).windows[-300:].copy(), reference(rate).states[-300:].copy()
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
