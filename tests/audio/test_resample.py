"""The resampler: tones, streaming, drift, rows, clipping. Thresholds are those of telephony."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audio import tones
from audio.format import BLOCKS_PER_FRAME
from audio.resample import PATHS, Resampler, to_int16

EVERY_PATH = pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path[0]}-{path[1]}")
FILTERED = [path for path in PATHS if path[0] != path[1]]
EVERY_FILTER = pytest.mark.parametrize("path", FILTERED, ids=lambda path: f"{path[0]}-{path[1]}")
Path = tuple[int, int]


def noise(rows: int, samples: int, seed: int = 0) -> NDArray[np.float32]:
    """Loud white noise in units of PCM16."""
    return np.random.default_rng(seed).normal(0, 8000, (rows, samples)).astype(np.float32)


def one_shot(resampler: Resampler, stream: NDArray[np.float32]) -> NDArray[np.float32]:
    """The whole stream at once."""
    start = np.zeros((len(stream), resampler.history), np.float32)
    return resampler(np.concatenate((start, stream), axis=1))


@EVERY_PATH
def test_tone_table(path: Path) -> None:
    assert tones.faults(Resampler.make(*path)) == []


@EVERY_FILTER
@pytest.mark.parametrize("hertz", range(300, 3001, 300))
def test_speech_band_is_flat(path: Path, hertz: int) -> None:
    assert abs(tones.measure(Resampler.make(*path), hertz).gain_db) <= 0.5


@EVERY_FILTER
def test_stop_band_is_quiet_throughout(path: Path) -> None:
    resampler = Resampler.make(*path)
    nyquist = min(path) // 2
    for hertz in range(nyquist + 1000, 2 * nyquist - 200, 400):
        assert tones.trace_db(resampler, hertz) <= -50
    assert tones.trace_db(resampler, nyquist + 600) <= -40


def test_wide_band_keeps_the_consonants() -> None:
    assert abs(tones.measure(Resampler.make(24_000, 16_000), 6800).gain_db) <= 0.5


@EVERY_FILTER
def test_delay_is_two_milliseconds(path: Path) -> None:
    assert tones.delay_ms(Resampler.make(*path)) == pytest.approx(2.0, abs=0.001)


@EVERY_PATH
def test_frames_equal_one_shot(path: Path) -> None:
    resampler = Resampler.make(*path)
    stream = noise(1, 50 * resampler.frame_in)
    framed = tones.stream(resampler, stream[0].astype(np.float64)).astype(np.float32)
    whole = to_int16(one_shot(resampler, stream))[0].astype(np.int64)
    assert np.abs(to_int16(framed).astype(np.int64) - whole).max() <= 1


@EVERY_FILTER
def test_equals_the_convolution_it_stands_for(path: Path) -> None:
    """Zeros between the samples, one symmetric filter, every n-th sample: the textbook's way."""
    resampler = Resampler.make(*path)
    up, down = np.lcm(*path) // path[0], np.lcm(*path) // path[1]
    impulse = np.zeros((1, resampler.frame_in), np.float32)
    responses = []
    for shift in range(down):  # every phase of the filter shows once
        impulse[:] = 0
        impulse[0, shift] = 1
        responses.append((shift * up, one_shot(resampler, impulse)[0]))
    taps = np.zeros(np.lcm(*path) // 250 + 1)
    for at, response in responses:
        ticks = np.arange(len(response)) * down - at
        inside = (ticks >= 0) & (ticks < len(taps))
        taps[ticks[inside]] = response[inside]
    assert np.allclose(taps, taps[::-1], atol=1e-3)

    stream = noise(1, 10 * resampler.frame_in)
    stuffed = np.zeros(stream.shape[1] * up)
    stuffed[::up] = stream[0]
    expected = np.convolve(stuffed, taps)[: len(stuffed) : down]
    assert np.abs(one_shot(resampler, stream)[0] - expected).max() < 0.1


@EVERY_PATH
def test_no_drift_in_ten_minutes(path: Path) -> None:
    """A click every minute comes out at its minute; not a sample more or less at the end."""
    resampler = Resampler.make(*path)
    seconds, row_seconds = 600, 60
    minutes = np.zeros((seconds // row_seconds, row_seconds * path[0]), np.float32)
    minutes[:, 0] = 1000
    history = np.zeros((1, resampler.history), np.float32)
    clicks, produced = [], 0
    for minute in minutes:
        for frame in minute.reshape(-1, 1, resampler.frame_in):
            heard = np.concatenate((history, frame), axis=1)
            history = heard[:, -resampler.history :]
            out = resampler(heard)[0]
            if np.abs(out).max() > 100:
                clicks.append(produced + int(np.abs(out).argmax()))
            produced += len(out)
    delay = 0 if path[0] == path[1] else path[1] * 2 // 1000
    assert produced == seconds * path[1]
    assert clicks == [minute * row_seconds * path[1] + delay for minute in range(len(minutes))]


@EVERY_FILTER
@settings(max_examples=20)
@given(rows=st.integers(1, 130), data=st.data())
def test_rows_do_not_depend_on_their_company(path: Path, rows: int, data: st.DataObject) -> None:
    resampler = Resampler.make(*path)
    batch = noise(rows, resampler.history + resampler.frame_in, seed=rows)
    row = data.draw(st.integers(0, rows - 1))
    together = to_int16(resampler(batch))[row].astype(np.int64)
    alone = to_int16(resampler(batch[row : row + 1]))[0].astype(np.int64)
    assert np.abs(together - alone).max() <= 1


@EVERY_PATH
@given(level=st.integers(-32768, 32767))
def test_a_constant_stays_constant(path: Path, level: int) -> None:
    resampler = Resampler.make(*path)
    flat = np.full((1, resampler.history + resampler.frame_in), level, np.float32)
    assert np.all(to_int16(resampler(flat)) == level)


@EVERY_PATH
def test_lengths(path: Path) -> None:
    resampler = Resampler.make(*path)
    assert resampler.history * BLOCKS_PER_FRAME == resampler.frame_in
    assert resampler.frame_in * path[1] == resampler.frame_out * path[0]
    for frames in (1, 2, 7):
        out = resampler(noise(3, resampler.history + frames * resampler.frame_in))
        assert out.shape == (3, frames * resampler.frame_out)
        assert out.dtype == np.float32
    assert resampler(noise(0, resampler.history + resampler.frame_in)).shape == (
        0,
        resampler.frame_out,
    )


def test_equal_rates_pass_samples_unchanged() -> None:
    samples = noise(2, 64 + 320)
    assert np.array_equal(Resampler.make(16_000, 16_000)(samples), samples[:, 64:])


def test_half_a_block_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError, match="whole blocks"):
        Resampler.make(8_000, 16_000)(noise(1, 32 + 100))


@pytest.mark.parametrize("path", [(8_000, 24_000), (44_100, 8_000), (8_000, 8_000), (0, 0)])
def test_other_rates_are_refused(path: Path) -> None:
    with pytest.raises(ValueError, match=f"from {path[0]} to {path[1]} Hz"):
        Resampler.make(*path)


def test_to_int16_rounds_and_clips() -> None:
    samples = np.array([-1e9, -32768.4, -1.5, -0.4, 0.6, 2.5, 32767.4, 32767.6, 1e9], np.float32)
    before = samples.copy()
    expected = [-32768, -32768, -2, 0, 1, 2, 32767, 32767, 32767]
    assert to_int16(samples).tolist() == expected
    assert np.array_equal(samples, before)
