"""A-law against the gateway's tables, which the ITU's sums vouch for."""

from __future__ import annotations

import numpy as np

from audio import g711
from audio.format import Encoding
from loadtest import alaw


def test_every_code_and_every_sample_is_the_itus() -> None:
    codes = np.arange(256, dtype=np.uint8)
    assert alaw.decode(codes.tobytes()).tolist() == g711.decode(Encoding.ALAW, codes).tolist()
    samples = np.arange(-32768, 32768).astype(np.int16)
    assert alaw.encode(samples) == g711.encode(Encoding.ALAW, samples).tobytes()
