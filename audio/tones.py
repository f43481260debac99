"""``python -m audio.tones``: the resampler's tone table, measured through the streaming code.

Sines are sent through every path in 20 ms frames, with the history that a stream has, and
compared with what should come out: a least-squares fit of amplitude and phase gives the gain,
what the fit leaves over is images, aliases and noise. Exit status 1 when a path misses what a
telephone needs.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from audio.resample import PATHS, Floats, Resampler

AMPLITUDE = 10_000.0  # in units of PCM16
SECONDS = 1
SETTLING_FRAMES = 2  # the filter fills

PASS_HZ = (300, 1000, 3000)
PASS_DB = 0.5
EDGE_HZ = 3400
EDGE_DB_MIN = -3.0
DELAY_MS_MAX = 3.0
#: Frequencies that may leave no trace, by the lower of the two rates, and the limits in dB.
STOP_DB_MAX = {
    8_000: {4600: -40.0, 5000: -50.0, 7000: -50.0},
    16_000: {8600: -40.0, 9000: -50.0, 11_000: -50.0},
}

Wave: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tone:
    """What became of a sine: its gain, whatever else came out (dB re the input), phase (rad)."""

    gain_db: float
    rest_db: float
    phase: float


def stream(resampler: Resampler, samples: Wave) -> Wave:
    """Resample one stream frame by frame, as calls are: zeros before it, then its own past."""
    history = np.zeros((1, resampler.history), np.float32)
    frames: list[Floats] = []
    for frame in samples.astype(np.float32).reshape(-1, 1, resampler.frame_in):
        heard = np.concatenate((history, frame), axis=1)
        history = heard[:, -resampler.history :]
        frames.append(resampler(heard))
    resampled: Wave = np.concatenate(frames, axis=1).ravel().astype(np.float64)
    return resampled


def measure(resampler: Resampler, hertz: float) -> Tone:
    """Send a sine through a path and look for it in the output.

    Sampled at a rate too low for it, a sine is its own alias: then the gain is the alias's.
    """
    sine = np.sin(2 * np.pi * hertz / resampler.rate_in * np.arange(resampler.rate_in * SECONDS))
    settled = SETTLING_FRAMES * resampler.frame_out
    out = stream(resampler, AMPLITUDE * sine)[settled:]
    angle = 2 * np.pi * hertz / resampler.rate_out * (settled + np.arange(len(out)))
    basis = np.stack((np.sin(angle), np.cos(angle)), axis=1)
    fit = np.linalg.lstsq(basis, out, rcond=None)[0]
    rest = np.mean((out - basis @ fit) ** 2)
    return Tone(
        gain_db=_decibel(fit @ fit / AMPLITUDE**2),
        rest_db=_decibel(rest / (AMPLITUDE**2 / 2)),
        phase=float(np.arctan2(fit[1], fit[0])),
    )


def trace_db(resampler: Resampler, hertz: float) -> float:
    """How loud a trace a frequency above the lower rate's band leaves, dB re the sine behind it.

    Down: the alias of ``hertz``. Up: the image at ``hertz`` of the sine mirrored there.
    """
    if resampler.rate_in < resampler.rate_out:
        return measure(resampler, resampler.rate_in - hertz).rest_db
    return measure(resampler, hertz).gain_db


def delay_ms(resampler: Resampler) -> float:
    """Group delay at 1 kHz, from the phases of two near sines."""
    low, high = 1000.0, 1010.0
    turn = measure(resampler, low).phase - measure(resampler, high).phase
    return round(turn / (2 * np.pi * (high - low)) * 1000, 6) % (1000 / (high - low))


def faults(resampler: Resampler) -> list[str]:
    """What this path misses, in words; empty when it is good."""
    found = [
        f"{hertz} Hz: gain {gain:+.2f} dB"
        for hertz in PASS_HZ
        if abs(gain := measure(resampler, hertz).gain_db) > PASS_DB
    ]
    if (gain := measure(resampler, EDGE_HZ).gain_db) < EDGE_DB_MIN:
        found.append(f"{EDGE_HZ} Hz: gain {gain:+.2f} dB")
    for hertz, limit_db in _stop_band(resampler).items():
        if (trace := trace_db(resampler, hertz)) > limit_db:
            found.append(f"{hertz} Hz: only {-trace:.0f} dB down")
    if (delay := delay_ms(resampler)) > DELAY_MS_MAX:
        found.append(f"delay {delay:.2f} ms")
    return found


def _stop_band(resampler: Resampler) -> dict[int, float]:
    if resampler.rate_in == resampler.rate_out:
        return {}
    return STOP_DB_MAX[min(resampler.rate_in, resampler.rate_out)]


def _decibel(power: float) -> float:
    return 10 * float(np.log10(max(power, 1e-20)))


def _row(resampler: Resampler) -> str:
    name = f"{resampler.rate_in // 1000} -> {resampler.rate_out // 1000} kHz"
    gains = "".join(f"{measure(resampler, hz).gain_db:9.2f}" for hz in (*PASS_HZ, EDGE_HZ))
    edge = measure(resampler, EDGE_HZ)
    traces = [f"{hz}: {trace_db(resampler, hz):.0f}" for hz in _stop_band(resampler)]
    snr_db = edge.gain_db - edge.rest_db
    return f"{name:12}{gains}{delay_ms(resampler):10.2f}{snr_db:10.0f}  {', '.join(traces) or '-'}"


def main() -> int:
    """Print the table; 1 when a path misses the acceptance."""
    gains = "".join(f"{f'{hz} Hz':>9}" for hz in (*PASS_HZ, EDGE_HZ))
    head = f"{'gain in dB':12}{gains}{'delay ms':>10}{'SNR 3400':>10}  stop band: Hz: dB"
    sys.stdout.write(head + "\n")
    missed = 0
    for path in PATHS:
        resampler = Resampler.make(*path)
        sys.stdout.write(_row(resampler) + "\n")
        for fault in faults(resampler):
            missed += 1
            sys.stdout.write(f"    MISSED: {fault}\n")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
