"""Recordings: read, resampled, brought into the telephone band; nonsense is one sentence."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.clips import Clip, load_clips, noise, resample, telephone_band, to_pcm16
from loadtest.errors import UsageError
from loadtest.options import DEFAULT_AUDIO


def tone(
    hertz: float, rate: int, seconds: float = 0.5
) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate).astype(np.float32)


def rms(samples: np.ndarray[tuple[int], np.dtype[np.float32]]) -> float:
    return float(np.sqrt(np.mean(samples.astype(np.float64) ** 2)))


def write_wav(path: Path, data: bytes, *, width: int = 2, channels: int = 1) -> Path:
    with wave.open(str(path), "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(8000)
        writer.writeframes(data)
    return path


def test_the_default_clips_are_the_twelve_english_ones() -> None:
    clips = load_clips(DEFAULT_AUDIO, 8000)
    assert len(clips) == 12
    assert [clip.name for clip in clips] == sorted(clip.name for clip in clips)
    assert all(0.5 < clip.speech_end / len(clip.samples) <= 1 for clip in clips)


@pytest.mark.parametrize("rate", [8000, 16000])
def test_both_channels_are_heard(tmp_path: Path, rate: int) -> None:
    stereo = np.stack([np.full(800, 8000, "<i2"), np.zeros(800, "<i2")], axis=1)
    (clip,) = load_clips(write_wav(tmp_path / "s.wav", stereo.tobytes(), channels=2), rate)
    assert len(clip.samples) == rate // 10
    assert np.allclose(clip.samples, 4000 / 32768, atol=0.01)


@pytest.mark.parametrize("case", ["empty folder", "text", "8 bit", "no samples", "missing"])
def test_what_is_no_recording_is_a_usage_error(tmp_path: Path, case: str) -> None:
    path = tmp_path / "x.wav"
    match case:
        case "empty folder":
            path = tmp_path
        case "text":
            path.write_text("hello")
        case "8 bit":
            write_wav(path, b"\x80" * 80, width=1)
        case "no samples":
            write_wav(path, b"")
    with pytest.raises(UsageError, match=str(tmp_path)):
        load_clips(path, 8000)


@given(st.integers(300, 3200), st.sampled_from([(8000, 16000), (16000, 8000), (24000, 8000)]))
def test_resampling_keeps_a_tone(hertz: int, rates: tuple[int, int]) -> None:
    rate_in, rate_out = rates
    found = resample(tone(hertz, rate_in), rate_in, rate_out)
    middle = slice(rate_out // 10, 4 * rate_out // 10)
    assert np.allclose(found[middle], tone(hertz, rate_out)[middle], atol=0.05)


def test_the_telephone_band() -> None:
    for hertz in (50, 3800):
        assert rms(telephone_band(tone(hertz, 8000), 8000)) < 0.01
    for hertz in (300, 1000, 3200):
        assert rms(telephone_band(tone(hertz, 8000), 8000)) == pytest.approx(0.707, abs=0.02)


def test_speech_ends_with_the_last_loud_sample() -> None:
    samples = np.zeros(1000, np.float32)
    samples[100:600] = 0.5
    samples[700:] = 0.5 * 10 ** (-36 / 20)  # below -35 dB of the peak
    assert Clip("x", 8000, samples).speech_end == 600
    assert Clip("silent", 8000, np.zeros(10, np.float32)).speech_end == 0


def test_noise_has_its_level_and_its_seed() -> None:
    one = noise(8000, 8000, -50, 1)
    assert 20 * np.log10(rms(one)) == pytest.approx(-50, abs=0.1)
    assert np.array_equal(one, noise(8000, 8000, -50, 1))
    assert not np.array_equal(one, noise(8000, 8000, -50, 2))


def test_pcm16_is_limited() -> None:
    samples = np.array([2.0, -2.0, 0.5, 0], np.float32)
    assert to_pcm16(samples).tolist() == [32767, -32768, 16384, 0]
