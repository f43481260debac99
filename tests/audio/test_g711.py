"""G.711 against the ITU's hashes, against the standard library, and by its properties."""

from __future__ import annotations

import warnings
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from audio import g711
from audio.format import WIRE_FORMATS, Encoding

BOTH = pytest.mark.parametrize("encoding", [Encoding.MULAW, Encoding.ALAW])
EVERY_CODE = np.arange(256, dtype=np.uint8)
EVERY_SAMPLE = np.arange(-32768, 32768).astype(np.int16)
SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, max_side=7)

#: sha256 of the tables that the ITU's own C code produces (G.191, sweep test vectors).
DECODE_SHA256 = {
    Encoding.MULAW: "3dab54339e520bb2c924826e3b72a917a2b612e9fd12fc867500f1d983a75827",
    Encoding.ALAW: "e04788d110e58ff8c70c93b8480190d973e3b67876b6119abbaec766cc75c174",
}
ENCODE_SHA256 = {
    Encoding.MULAW: "90c29de505fb68e766118303bd552a16005dcf810873698bee1d8f3b247ce28c",
    Encoding.ALAW: "38488f6fd710f4686360edc4d38639f96c491595ef93f8eb8d62d5e07ca6ce7b",
}


def levels(encoding: Encoding) -> NDArray[np.int64]:
    """The 256 values a code can stand for, ascending (mu-law has zero twice)."""
    return np.sort(g711.decode(encoding, EVERY_CODE).astype(np.int64))


@BOTH
def test_decoder_is_the_itus(encoding: Encoding) -> None:
    table = g711.decode(encoding, EVERY_CODE)
    assert sha256(table.astype("<i2").tobytes()).hexdigest() == DECODE_SHA256[encoding]


@BOTH
def test_encoder_is_the_itus(encoding: Encoding) -> None:
    table = g711.encode(encoding, EVERY_SAMPLE)
    assert sha256(table.tobytes()).hexdigest() == ENCODE_SHA256[encoding]


@BOTH
def test_decoder_agrees_with_the_standard_library(encoding: Encoding) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # audioop leaves with Python 3.13
        audioop = pytest.importorskip("audioop")
    expand = {Encoding.MULAW: audioop.ulaw2lin, Encoding.ALAW: audioop.alaw2lin}[encoding]
    assert g711.decode(encoding, EVERY_CODE).tobytes() == expand(EVERY_CODE.tobytes(), 2)


@BOTH
def test_only_negative_zero_changes_on_a_round_trip(encoding: Encoding) -> None:
    there_and_back = g711.encode(encoding, g711.decode(encoding, EVERY_CODE))
    changed = EVERY_CODE[there_and_back != EVERY_CODE].tolist()
    assert changed == ([0x7F] if encoding is Encoding.MULAW else [])


@BOTH
def test_decoding_what_was_encoded_never_falls(encoding: Encoding) -> None:
    heard = g711.decode(encoding, g711.encode(encoding, EVERY_SAMPLE)).astype(np.int64)
    assert np.all(np.diff(heard) >= 0)


@BOTH
def test_sign_symmetry(encoding: Encoding) -> None:
    """The code of -1-n is the code of n with the other sign bit, and decodes to the opposite."""
    codes = g711.encode(encoding, EVERY_SAMPLE)
    assert np.array_equal(codes[::-1], codes ^ 0x80)
    opposite = g711.decode(encoding, EVERY_CODE ^ np.uint8(0x80))
    assert np.array_equal(g711.decode(encoding, EVERY_CODE), -opposite)


@BOTH
def test_error_is_within_one_code_of_the_nearest_level(encoding: Encoding) -> None:
    rungs = np.unique(levels(encoding))
    heard = g711.decode(encoding, g711.encode(encoding, EVERY_SAMPLE))
    taken = np.searchsorted(rungs, heard)
    nearest = np.searchsorted((rungs[1:] + rungs[:-1]) / 2, EVERY_SAMPLE)
    assert np.abs(taken - nearest).max() <= 1


@BOTH
def test_silence_is_silent(encoding: Encoding) -> None:
    silence = np.array([WIRE_FORMATS[encoding].silence], np.uint8)
    assert abs(int(g711.decode(encoding, silence)[0])) <= 8
    assert g711.encode(encoding, np.zeros(1, np.int16))[0] == silence[0]


@BOTH
@given(data=st.data())
def test_any_shape_is_kept(encoding: Encoding, data: st.DataObject) -> None:
    samples = data.draw(arrays.arrays(np.int16, SHAPES))
    codes = g711.encode(encoding, samples)
    assert np.shape(codes) == samples.shape
    flat = g711.encode(encoding, samples.ravel())
    assert np.array_equal(np.ravel(codes), flat)
    assert np.array_equal(np.ravel(g711.decode(encoding, codes)), g711.decode(encoding, flat))


@BOTH
def test_views_with_strides_are_read_as_they_lie(encoding: Encoding) -> None:
    samples = EVERY_SAMPLE.reshape(256, 256)
    assert np.array_equal(
        g711.encode(encoding, samples[::3, ::-2]), g711.encode(encoding, samples)[::3, ::-2]
    )


@BOTH
def test_float_table_holds_the_same_values_and_cannot_be_changed(encoding: Encoding) -> None:
    table = g711.decode_table(encoding)
    assert table.dtype == np.float32
    assert np.array_equal(table, g711.decode(encoding, EVERY_CODE))
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 1


def test_linear_pcm_is_refused_with_its_name() -> None:
    for call in (
        lambda: g711.decode(Encoding.PCM16, EVERY_CODE),
        lambda: g711.encode(Encoding.PCM16, EVERY_SAMPLE),
        lambda: g711.decode_table(Encoding.PCM16),
    ):
        with pytest.raises(ValueError, match="PCM16 is not a G"):
            call()
