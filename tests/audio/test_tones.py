"""The tone table finds what is wrong with a resampler."""

from __future__ import annotations

import numpy as np
import pytest

from audio import tones
from audio.resample import PATHS, Resampler


def test_the_tone_table_finds_a_bad_resampler() -> None:
    """Decimation without a filter, as audioop does it: every alias at full level."""
    weights = np.zeros((192, 32), np.float32)
    weights[96 + 3 * np.arange(32), np.arange(32)] = 1
    faults = tones.faults(Resampler(24_000, 8_000, weights))
    assert [fault.split(":")[0] for fault in faults] == ["4600 Hz", "5000 Hz", "7000 Hz"]


def test_the_tone_table_finds_a_late_resampler() -> None:
    weights = np.zeros((128, 64), np.float32)
    weights[np.arange(64), np.arange(64)] = 1
    assert tones.faults(Resampler(16_000, 16_000, weights)) == ["delay 4.00 ms"]


def test_the_command_prints_a_row_a_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert tones.main() == 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) == 1 + len(PATHS)
    assert "MISSED" not in printed
