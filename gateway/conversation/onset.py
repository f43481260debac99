"""How much of a reply's beginning nobody would hear: silence that only makes the answer late. Pure.

Every voice begins with some: hibari with 300 ms (our speech server leaves 40), a server elsewhere
with what it likes. And a voice may begin with a consonant that no telephone carries: the first
80 ms of espeak-ng's "thank you" are above 4 kHz. So the beginning is judged as the carrier will get
it, at the rate of its encoding.

A little of it is kept, which lets the first sound swell. Audio may come in pieces of any length:
what is silent so far can be left out before the rest is there.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from audio.format import BLOCK_MS, PCM_BYTES_PER_SAMPLE, TTS_RATE
from audio.resample import Resampler

#: What is softer is not heard over a telephone.
HEARD_DBFS = -47.0
#: It is looked at in steps of 8 ms, and two of them are kept.
STEP_BYTES = 2 * BLOCK_MS * TTS_RATE // 1000 * PCM_BYTES_PER_SAMPLE
KEPT_BYTES = 2 * STEP_BYTES
_STEPS_MAX = 50  # at a time: what comes at once may be a minute
_HEARD = 32768 * 10 ** (HEARD_DBFS / 20)


def silence_before(pcm: bytes | bytearray, rate: int) -> tuple[int, bool]:
    """Bytes of 24 kHz PCM16 that can be left out at its beginning, and whether a sound follows.

    ``rate`` is that of the carrier's encoding. Without a sound more may have to be left out.
    """
    steps = min(len(pcm) // STEP_BYTES, _STEPS_MAX)
    if not steps:
        return 0, False
    resampler = _resampler(rate)
    samples = np.frombuffer(memoryview(pcm)[: steps * STEP_BYTES], "<i2").astype(np.float32)
    before = np.zeros(resampler.history, np.float32)
    heard = resampler(np.concatenate((before, samples))[None]).reshape(steps, -1)
    loud = np.flatnonzero((heard**2).mean(axis=1) > _HEARD**2)
    silent = int(loud[0]) if loud.size else steps
    return max(0, silent * STEP_BYTES - KEPT_BYTES), bool(loud.size)


@cache
def _resampler(rate: int) -> Resampler:
    return Resampler.make(TTS_RATE, rate)
