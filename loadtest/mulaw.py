"""Mu-law (ITU-T G.711) by table. The load test's own, so that it shares no mistake with a server.

The encoder follows ``ulaw_compress`` of the ITU-T Software Tool Library (G.191): other libraries
round samples on decision boundaries differently.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SILENCE = 0xFF

_BIAS = 33  # of 14-bit magnitudes
_MAGNITUDE_MAX = 0x1FFF


def _decode_table() -> NDArray[np.int16]:
    codes = ~np.arange(256) & 0xFF
    exponent = (codes >> 4) & 7
    mantissa = codes & 0x0F
    magnitude = ((((mantissa << 1) + _BIAS) << exponent) - _BIAS) << 2
    return np.where(codes & 0x80, -magnitude, magnitude).astype(np.int16)


def _encode_table() -> NDArray[np.uint8]:
    """Codes for the samples 0..32767, then -32768..-1: the order of int16 read as uint16."""
    samples = np.arange(65536).astype(np.uint16).view(np.int16).astype(np.int32)
    magnitude = np.minimum((np.where(samples < 0, ~samples, samples) >> 2) + _BIAS, _MAGNITUDE_MAX)
    segment = np.frexp(magnitude >> 6)[1] + 1  # 1..8: the position of the highest bit
    code = ((8 - segment) << 4) | (0x0F - ((magnitude >> segment) & 0x0F))
    codes: NDArray[np.uint8] = (code | np.where(samples >= 0, 0x80, 0)).astype(np.uint8)
    return codes


_DECODE = _decode_table()
_ENCODE = _encode_table()


def decode(codes: bytes | bytearray | memoryview) -> NDArray[np.int16]:
    """Linear samples, int16, one for each code."""
    samples: NDArray[np.int16] = _DECODE[np.frombuffer(codes, np.uint8)]
    return samples


def encode(samples: NDArray[np.int16]) -> bytes:
    """Mu-law codes, one byte for each int16 sample."""
    assert samples.dtype == np.int16
    return _ENCODE[np.ascontiguousarray(samples).view(np.uint16)].tobytes()
