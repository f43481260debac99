"""What Whisper hears: the logarithm of a mel spectrum, of 16 kHz speech. Pure.

The front end Whisper was trained with (Radford et al. 2022, section 2.2): windows of 25 ms every
10 ms, 80 mel bands, the loudest 80 dB. Models that began as a Whisper encoder want the same.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

RATE = 16_000
FFT_SAMPLES = 400
HOP_SAMPLES = 160
MELS = 80
MEL_FLOOR = 1e-10
MEL_RANGE_LOG10 = 8.0


@cache
def mel_filters() -> Samples:
    """Slaney's mel filters, each of constant energy: shape (80, 201), 0 to 8 kHz.

    Linear below 1 kHz (3 mel per 200 Hz), logarithmic above (27 steps per factor of 6.4); the
    definition of Malcolm Slaney's Auditory Toolbox, which Whisper's training used.
    """
    mel_at_1khz, log_step = 15.0, np.log(6.4) / 27
    mel_max = mel_at_1khz + np.log(RATE / 2 / 1000) / log_step
    mels = np.linspace(0, mel_max, MELS + 2)
    corners = np.where(
        mels < mel_at_1khz, mels * 200 / 3, 1000 * np.exp(log_step * (mels - mel_at_1khz))
    )
    low, centre, high = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = np.fft.rfftfreq(FFT_SAMPLES, 1 / RATE)
    rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
    filters: Samples = np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)
    return filters.astype(np.float32)


@cache
def _window() -> Samples:
    return np.hanning(FFT_SAMPLES + 1)[:-1].astype(np.float32)


def log_mel(samples: Samples, context: int) -> Samples:
    """Whisper's features of ``samples`` padded with silence to ``context`` samples at 16 kHz.

    Shape (80, context / 160), float32, about -1 to 1.5; the loudest 80 dB, the rest is floor.
    """
    assert len(samples) <= context
    assert context % (2 * HOP_SAMPLES) == 0
    padded = np.pad(samples, (0, context - len(samples)))
    padded = np.pad(padded, FFT_SAMPLES // 2, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, FFT_SAMPLES)[::HOP_SAMPLES][:-1]
    power = np.square(np.abs(np.fft.rfft(windows * _window(), axis=1)))
    mel = np.log10(np.maximum(mel_filters() @ power.T, MEL_FLOOR))
    mel = np.maximum(mel, mel.max() - MEL_RANGE_LOG10)
    return np.ascontiguousarray((mel + 4) / 4, dtype=np.float32)
