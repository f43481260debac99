"""A-law (ITU-T G.711) by table. The load test's own, so that it shares no mistake with a server.

After ``alaw_compress`` and ``alaw_expand`` of the ITU-T Software Tool Library (G.191).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_EVEN_BITS = 0x55  # inverted on the line


def _decode_table() -> NDArray[np.int16]:
    codes = np.arange(256)
    line = (codes ^ _EVEN_BITS) & 0x7F
    segment, mantissa = line >> 4, line & 0x0F
    magnitude = ((mantissa + np.where(segment > 0, 16, 0)) << 4) + 8
    magnitude <<= np.maximum(segment - 1, 0)
    return np.where(codes & 0x80, magnitude, -magnitude).astype(np.int16)


def _encode_table() -> NDArray[np.uint8]:
    """Codes for the samples 0..32767, then -32768..-1: the order of int16 read as uint16."""
    samples = np.arange(65536).astype(np.uint16).view(np.int16).astype(np.int32)
    magnitude = np.where(samples < 0, ~samples, samples) >> 4
    segment = np.maximum(np.frexp(magnitude >> 4)[1], 0)  # 0..7: the position of the highest bit
    mantissa = (magnitude >> np.maximum(segment - 1, 0)) & 0x0F
    sign = np.where(samples >= 0, 0x80, 0)
    codes: NDArray[np.uint8] = ((segment << 4 | mantissa | sign) ^ _EVEN_BITS).astype(np.uint8)
    return codes


_DECODE = _decode_table()
_ENCODE = _encode_table()


def decode(codes: bytes | bytearray | memoryview) -> NDArray[np.int16]:
    """Linear samples, int16, one for each code."""
    samples: NDArray[np.int16] = _DECODE[np.frombuffer(codes, np.uint8)]
    return samples


def encode(samples: NDArray[np.int16]) -> bytes:
    """A-law codes, one byte for each int16 sample."""
    assert samples.dtype == np.int16
    return _ENCODE[np.ascontiguousarray(samples).view(np.uint16)].tobytes()
