"""The load test's own mu-law is ITU's, by the hashes of the official tables."""

from __future__ import annotations

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loadtest import mulaw

ITU_DECODE = "3dab54339e520bb2c924826e3b72a917a2b612e9fd12fc867500f1d983a75827"
ITU_ENCODE = "90c29de505fb68e766118303bd552a16005dcf810873698bee1d8f3b247ce28c"


def test_decoding_is_itus_table() -> None:
    table = mulaw.decode(bytes(range(256))).astype("<i2").tobytes()
    assert hashlib.sha256(table).hexdigest() == ITU_DECODE


def test_encoding_is_itus_table() -> None:
    codes = mulaw.encode(np.arange(-32768, 32768).astype(np.int16))
    assert hashlib.sha256(codes).hexdigest() == ITU_ENCODE


@given(st.binary(max_size=500))
def test_codes_survive_a_round_trip_but_for_minus_zero(codes: bytes) -> None:
    assert mulaw.encode(mulaw.decode(codes)) == codes.replace(b"\x7f", b"\xff")


def test_silence() -> None:
    assert mulaw.encode(np.zeros(3, np.int16)) == bytes([mulaw.SILENCE] * 3)
    assert not mulaw.decode(bytes([mulaw.SILENCE] * 3)).any()


@given(st.lists(st.integers(-32768, 32767), max_size=50))
def test_any_memory_layout_encodes_the_same(values: list[int]) -> None:
    samples = np.array(values, np.int16)
    spread = np.repeat(samples, 2)[::2]
    assert mulaw.encode(spread) == mulaw.encode(samples)
