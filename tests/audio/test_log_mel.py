"""Whisper's features against the textbook, and against an implementation of another hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from audio.log_mel import RATE, Samples, log_mel, mel_filters


def tone(seconds: float, hz: float = 440, level: float = 0.5) -> Samples:
    at = np.arange(round(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * hz * at)).astype(np.float32)


def reference_log_mel(samples: Samples, frame: int) -> list[float]:
    """One frame, before the floor, by the textbook: a plain DFT and Slaney's triangles."""
    padded = np.pad(samples.astype(np.float64), 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    windowed = padded[frame * 160 : frame * 160 + 400] * window
    dft = np.exp(-2j * np.pi * np.outer(np.arange(201), np.arange(400)) / 400)
    power = np.abs(dft @ windowed) ** 2

    def hz(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    mel_max = 15 + 27 * math.log(8) / math.log(6.4)
    corners = [hz(mel_max * i / 81) for i in range(82)]
    bands = []
    for low, centre, high in zip(corners, corners[1:], corners[2:], strict=False):
        energy = 0.0
        for i in range(201):
            at = i * 40
            up, down = (at - low) / (centre - low), (high - at) / (high - centre)
            energy += power[i] * max(0.0, min(up, down)) * 2 / (high - low)
        bands.append(math.log10(max(energy, 1e-10)))
    return bands


def test_log_mel_is_the_textbooks() -> None:
    samples = (tone(8, 300) + tone(8, 2500, 0.1)) * np.linspace(0.5, 1, 8 * RATE, dtype=np.float32)
    features = log_mel(samples, 8 * RATE)
    assert features.shape == (80, 800)
    assert features.dtype == np.float32
    floor = features.min()
    for frame in (0, 1, 400, 799):
        expected = (np.array(reference_log_mel(samples, frame)) + 4) / 4
        np.testing.assert_allclose(features[:, frame], np.maximum(expected, floor), atol=2e-3)


@pytest.mark.parametrize("hz", [200, 1000, 3000, 7000])
def test_a_tone_lights_its_band(hz: float) -> None:
    loudest = int(log_mel(tone(1, hz), 8 * RATE)[:, 50].argmax())
    peak = mel_filters()[loudest].argmax() * 40
    assert abs(peak - hz) <= max(40, 0.06 * hz)


def test_padding_is_floor_and_the_range_is_eighty_decibels() -> None:
    features = log_mel(tone(1), 8 * RATE)
    assert np.all(features[:, 200:] == features.min())
    assert features.max() - features.min() == pytest.approx(2.0)
