"""Recorded speech, read from WAV files at any rate, and the band of a telephone line."""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtest.errors import UsageError

FULL_SCALE = 32768.0
CLIPS_MAX = 1000
CLIP_SECONDS_MAX = 600

#: Edges of the telephone band (Hz): the response falls as a raised cosine between each pair.
BAND_LOW = (100.0, 250.0)
BAND_HIGH = (3300.0, 3600.0)

#: Speech ends with the last sample above this level of the clip's peak.
SPEECH_END_DB = -35.0


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording: its file's name and its samples (float32, full scale 1) at ``rate``."""

    name: str
    rate: int
    samples: NDArray[np.float32]

    @property
    def speech_end(self) -> int:
        """Samples up to and with the last one above -35 dB of the peak."""
        level = np.abs(self.samples)
        loud = np.flatnonzero(level > level.max() * 10 ** (SPEECH_END_DB / 20))
        return int(loud[-1]) + 1 if loud.size else 0


def load_clips(path: Path, rate: int) -> list[Clip]:
    """The WAV file at ``path``, or every WAV file in that folder by name, at ``rate``.

    Raises UsageError when there is none or one is not PCM16.
    """
    files = sorted(path.glob("*.wav")) if path.is_dir() else [path]
    if not files:
        raise UsageError(f"{path} holds no .wav file")
    if len(files) > CLIPS_MAX:
        raise UsageError(f"{path} holds {len(files)} .wav files, more than {CLIPS_MAX}")
    clips = []
    for file in files:
        samples, file_rate = _read(file)
        clips.append(Clip(file.name, rate, resample(samples, file_rate, rate)))
    return clips


def _read(file: Path) -> tuple[NDArray[np.float32], int]:
    try:
        with wave.open(str(file), "rb") as reader:
            channels, width, rate, count, *_ = reader.getparams()
            if width != 2 or not 0 < count <= CLIP_SECONDS_MAX * rate:
                raise UsageError(f"{file} is not 16-bit PCM of up to {CLIP_SECONDS_MAX} s")
            data = reader.readframes(count)
    except (OSError, EOFError, wave.Error) as error:
        raise UsageError(f"{file} is not a readable WAV file: {error}") from error
    samples = np.frombuffer(data, "<i2").reshape(-1, channels).mean(axis=1)
    return (samples / FULL_SCALE).astype(np.float32), rate


def resample(samples: NDArray[np.float32], rate_in: int, rate_out: int) -> NDArray[np.float32]:
    """The whole recording at another rate, by cutting or padding its spectrum. No delay."""
    if rate_in == rate_out:
        return samples
    assert samples.ndim == 1
    count = round(len(samples) * rate_out / rate_in)
    spectrum = np.fft.rfft(samples)
    resized = np.zeros(count // 2 + 1, spectrum.dtype)
    kept = min(len(spectrum), len(resized))
    resized[:kept] = spectrum[:kept]
    return (np.fft.irfft(resized, count) * (count / len(samples))).astype(np.float32)


def telephone_band(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """What a telephone line lets through, 250-3300 Hz, without delay.

    A server that resamples may do as it likes outside this band: what is sent must not depend on
    it, or frames would not be recognised when they return.
    """
    spectrum = np.fft.rfft(samples)
    frequency = np.fft.rfftfreq(len(samples), 1 / rate)
    rise = np.clip((frequency - BAND_LOW[0]) / (BAND_LOW[1] - BAND_LOW[0]), 0, 1)
    fall = np.clip((BAND_HIGH[1] - frequency) / (BAND_HIGH[1] - BAND_HIGH[0]), 0, 1)
    gain = (0.5 - 0.5 * np.cos(np.pi * rise)) * (0.5 - 0.5 * np.cos(np.pi * fall))
    return np.fft.irfft(spectrum * gain, len(samples)).astype(np.float32)


def noise(count: int, rate: int, dbfs: float, seed: int) -> NDArray[np.float32]:
    """Seeded noise in the telephone band, ``count`` samples at a level of ``dbfs`` (RMS)."""
    white = np.random.default_rng(seed).standard_normal(count).astype(np.float32)
    shaped = telephone_band(white, rate)
    rms = float(np.sqrt(np.mean(shaped**2)))
    return shaped * np.float32(10 ** (dbfs / 20) / max(rms, 1e-12))


def to_pcm16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Float samples (full scale 1) as int16, limited."""
    scaled = np.rint(samples * FULL_SCALE)
    limited: NDArray[np.int16] = np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    return limited
