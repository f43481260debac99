"""Streaming change of rate for the live audio path: 8 <-> 16 kHz and 24 kHz -> 8 or 16 kHz.

Every path is the same filter: a sinc, 4 ms long, under a Kaiser window (beta 8), with its cutoff
100 Hz below the lower rate's Nyquist frequency, seen at the instants of the output samples. It is
causal and symmetric, so every frequency is delayed by exactly 2 ms. Measured (``python -m
audio.tones``): within 0.01 dB from 300 to 3000 Hz, -0.1 dB at 3400 Hz; aliases and images at
4.6 kHz and beyond at least 80 dB down. 24 -> 16 kHz keeps the speech up to 7.3 kHz and is 80 dB
down from 8.6 kHz.

A 4 ms filter needs one 4 ms block of history. Nobody stores it: it *is* the end of the stream's
previous frame, which the caller still has, so that a resampler has no state and serves any number
of streams at once. A block of output depends on two blocks of input, the one before it and its
own, always by the same matrix. A frame is therefore five matrix products over all rows, reading
and writing slices in place: a third of the arithmetic of one dense product for the whole frame,
and without the gathers of a polyphase filter. The weights of each output sample add up to one, so
that a constant stays constant to the last bit that float32 has.

Streaming resamplers of the usual libraries are no choice here: they emit in bursts and hold back
up to 117 ms. For a whole recording they are the better tool.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from audio.format import BLOCK_MS, FRAMES_PER_SECOND, PCM_RATE, TTS_RATE, WIRE_RATE

Floats: TypeAlias = NDArray[np.float32]

#: The pairs of rates (input, output) that can be made.
PATHS: Final = (
    (WIRE_RATE, PCM_RATE),
    (PCM_RATE, WIRE_RATE),
    (TTS_RATE, WIRE_RATE),
    (TTS_RATE, PCM_RATE),
    (PCM_RATE, PCM_RATE),
)

_KAISER_BETA = 8.0
_GUARD_HZ = 100  # from the cutoff to the lower rate's Nyquist frequency
_INT16_MIN, _INT16_MAX = -32768, 32767


@dataclass(frozen=True, slots=True, eq=False)
class Resampler:
    """One path, from ``rate_in`` to ``rate_out`` Hz; build it with :meth:`make`."""

    rate_in: int
    rate_out: int
    _weights: Floats | None  # (2 input blocks, 1 output block); None: samples pass as they are

    @classmethod
    def make(cls, rate_in: int, rate_out: int) -> Resampler:
        """The resampler of a pair in ``PATHS``; equal rates pass samples on without delay.

        Raises ValueError for another pair.
        """
        if (rate_in, rate_out) not in PATHS:
            raise ValueError(f"no resampler from {rate_in} to {rate_out} Hz")
        weights = None if rate_in == rate_out else _block_weights(rate_in, rate_out)
        return cls(rate_in, rate_out, weights)

    @property
    def history(self) -> int:
        """Samples of the stream that must precede what is resampled: one 4 ms block of input.

        A stream begins with zeros there.
        """
        return self.rate_in * BLOCK_MS // 1000

    @property
    def frame_in(self) -> int:
        """Samples of a 20 ms frame before."""
        return self.rate_in // FRAMES_PER_SECOND

    @property
    def frame_out(self) -> int:
        """Samples of a 20 ms frame after."""
        return self.rate_out // FRAMES_PER_SECOND

    def __call__(self, samples: Floats) -> Floats:
        """Resample (rows, history + n) float32, n whole 4 ms blocks; the scale is kept.

        Returns (rows, n * rate out / rate in) float32; the rows do not influence each other.
        """
        block_in = self.history
        assert samples.shape[1] % block_in == 0, "only whole blocks of 4 ms can be resampled"
        if self._weights is None:
            return samples[:, block_in:]
        block_out = self._weights.shape[1]
        blocks = samples.shape[1] // block_in - 1
        resampled = np.empty((len(samples), blocks * block_out), np.float32)
        for block in range(blocks):
            source = samples[:, block * block_in : (block + 2) * block_in]
            target = resampled[:, block * block_out : (block + 1) * block_out]
            np.matmul(source, self._weights, out=target)
        return resampled


def to_int16(samples: Floats) -> NDArray[np.int16]:
    """Round to the nearest int16, clip what is beyond; ``samples`` are in units of PCM16."""
    rounded = np.rint(samples)
    np.maximum(rounded, _INT16_MIN, out=rounded)
    np.minimum(rounded, _INT16_MAX, out=rounded)
    return rounded.astype(np.int16)


def _block_weights(rate_in: int, rate_out: int) -> Floats:
    """What each sample of two input blocks contributes to each sample of an output block.

    Positions are counted in ticks of the rates' least common multiple: they are exact.
    """
    ticks_per_second = rate_in * rate_out // gcd(rate_in, rate_out)
    span = ticks_per_second * BLOCK_MS // 1000
    block_in, block_out = (rate * BLOCK_MS // 1000 for rate in (rate_in, rate_out))
    at_in = np.arange(-block_in, block_in) * (ticks_per_second // rate_in)
    at_out = np.arange(block_out) * (ticks_per_second // rate_out)
    lag = at_out[None, :] - at_in[:, None]
    cutoff_hz = min(rate_in, rate_out) / 2 - _GUARD_HZ
    sinc = np.sinc((2 * lag - span) * cutoff_hz / ticks_per_second)
    weights = np.where((lag >= 0) & (lag <= span), sinc * _kaiser(2 * lag / span - 1), 0.0)
    return np.ascontiguousarray(weights / weights.sum(axis=0), np.float32)


def _kaiser(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Kaiser window at ``position`` in [-1, 1]; 0 is its middle."""
    inside = np.sqrt(np.maximum(1 - position**2, 0))
    return np.asarray(np.i0(_KAISER_BETA * inside) / np.i0(_KAISER_BETA))
