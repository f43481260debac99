"""G.711 companding by table, bit exact to ITU-T G.191 (the Software Tool Library).

Eight bits carry a sign, a segment (the power of two) and four bits of mantissa, so that the
quantising error follows the level of the speech. Both directions are one gather: 256 entries to
decode, 65,536 to encode, whatever the shape of the array. The tables are computed when the
module is imported (a few milliseconds) from the recommendation's arithmetic; the tests pin their
sha256.

Encoders in the field differ in the rounding of samples that lie on a decision boundary: a
negative sample's magnitude is taken as its ones' or as its two's complement. Ours is the ITU's,
ones' complement, so that n and -1-n have the same magnitude.
"""

from __future__ import annotations

from typing import Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from audio.format import Encoding

Codes: TypeAlias = NDArray[np.uint8]
Samples: TypeAlias = NDArray[np.int16]
_Integers: TypeAlias = NDArray[np.int64]
_Scalar = TypeVar("_Scalar", bound=np.generic)

_SIGN = 0x80
_MANTISSA = 0x0F
_MULAW_BIAS = 33  # in 14-bit units: lets every segment start at a power of two
_MULAW_MAX = 0x1FFF
_ALAW_EVEN_BITS = 0x55  # A-law inverts every other bit on the line


def decode(encoding: Encoding, codes: Codes) -> Samples:
    """The int16 samples of G.711 ``codes``; any shape, kept.

    Raises ValueError when ``encoding`` is not companded (PCM16).
    """
    return _table_of(encoding, _DECODE).take(codes)


def encode(encoding: Encoding, samples: Samples) -> Codes:
    """The G.711 codes of int16 ``samples``; any shape, kept.

    Raises ValueError when ``encoding`` is not companded (PCM16).
    """
    assert samples.dtype == np.int16, samples.dtype
    return _table_of(encoding, _ENCODE).take(samples.view(np.uint16))


def decode_table(encoding: Encoding) -> NDArray[np.float32]:
    """The 256 decoded values in units of PCM16, float32 and read-only, to gather straight from.

    Raises ValueError when ``encoding`` is not companded (PCM16).
    """
    return _table_of(encoding, _DECODE_FLOAT)


def _table_of(encoding: Encoding, tables: dict[Encoding, NDArray[_Scalar]]) -> NDArray[_Scalar]:
    if encoding not in tables:
        raise ValueError(f"{encoding.name} is not a G.711 encoding")
    return tables[encoding]


def _mulaw_decoded() -> Samples:
    """What the codes 0..255 stand for (G.191 ``ulaw_expand``)."""
    code = np.arange(256)
    segment, mantissa = (~code >> 4) & 0x07, ~code & _MANTISSA
    step = 8 << segment
    magnitude = (0x80 << segment) + step * mantissa + step // 2 - 4 * _MULAW_BIAS
    return np.where(code & _SIGN, magnitude, -magnitude).astype(np.int16)


def _alaw_decoded() -> Samples:
    """What the codes 0..255 stand for (G.191 ``alaw_expand``)."""
    code = np.arange(256) ^ _ALAW_EVEN_BITS
    segment, mantissa = (code >> 4) & 0x07, code & _MANTISSA
    linear = (mantissa << 4) + 8
    magnitude = np.where(segment == 0, linear, (linear + 0x100) << np.maximum(segment - 1, 0))
    return np.where(code & _SIGN, magnitude, -magnitude).astype(np.int16)


def _mulaw_encoded() -> Codes:
    """The code of every int16, in the order of bit patterns (G.191 ``ulaw_compress``)."""
    sample = _every_sample()
    magnitude: _Integers = np.minimum((_ones_complement(sample) >> 2) + _MULAW_BIAS, _MULAW_MAX)
    segment = _bit_length(magnitude >> 6)
    mantissa = (magnitude >> (segment + 1)) & _MANTISSA
    code = ~(segment << 4 | mantissa) & 0x7F
    return np.where(sample >= 0, code | _SIGN, code).astype(np.uint8)


def _alaw_encoded() -> Codes:
    """The code of every int16, in the order of bit patterns (G.191 ``alaw_compress``)."""
    sample = _every_sample()
    magnitude = _ones_complement(sample) >> 4
    segment = _bit_length(magnitude >> 4)
    mantissa = (magnitude >> np.maximum(segment - 1, 0)) & _MANTISSA
    code = (segment << 4 | mantissa) ^ _ALAW_EVEN_BITS
    return np.where(sample >= 0, code ^ _SIGN, code).astype(np.uint8)


def _every_sample() -> _Integers:
    """All int16 values in the order of their bit patterns: 0..32767, then -32768..-1."""
    return np.arange(1 << 16, dtype=np.uint16).view(np.int16).astype(np.int64)


def _ones_complement(sample: _Integers) -> _Integers:
    """The magnitude as the ITU takes it: ~n for a negative n."""
    return np.where(sample < 0, ~sample, sample)


def _bit_length(value: _Integers) -> _Integers:
    """How many bits each value needs; 0 needs none."""
    return np.frexp(value)[1].astype(np.int64)


def _frozen(table: NDArray[_Scalar]) -> NDArray[_Scalar]:
    table.flags.writeable = False
    return table


_DECODE: Final = {
    Encoding.MULAW: _frozen(_mulaw_decoded()),
    Encoding.ALAW: _frozen(_alaw_decoded()),
}
_ENCODE: Final = {
    Encoding.MULAW: _frozen(_mulaw_encoded()),
    Encoding.ALAW: _frozen(_alaw_encoded()),
}
_DECODE_FLOAT: Final = {
    encoding: _frozen(table.astype(np.float32)) for encoding, table in _DECODE.items()
}
