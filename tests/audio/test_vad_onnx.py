"""The fallback on ONNX Runtime: the same interface, plain words for a wrong file."""

from __future__ import annotations

import sys

import numpy as np
import onnxruntime
import pytest

from audio import vad
from audio.vad_onnx import OnnxSilero
from tests.audio.listening import clips, model, silero

RATES = pytest.mark.parametrize("rate", [8_000, 16_000])

#: A field that ONNX does not know: the same model under another hash.
OTHER_FILE = b"\x78\x00"


@RATES
def test_takes_over_where_the_numpy_model_refuses(rate: int) -> None:
    other = model() + OTHER_FILE
    with pytest.raises(ValueError, match="unknown Silero model"):
        vad.Silero(other, rate)
    fallback = OnnxSilero(other, rate)
    assert (fallback.window, fallback.context) == (silero(rate).window, silero(rate).context)

    width = fallback.window + fallback.context
    windows = np.stack([clip[rate // 2 :][:width] for clip in clips(rate)])
    state = np.zeros((len(windows), 2, 128), np.float32)
    probability, after = fallback.score(windows, state)
    expected, expected_after = silero(rate).score(windows, state)
    assert np.abs(probability - expected).max() < 1e-5
    assert np.abs(after - expected_after).max() < 1e-3


@RATES
def test_equals_a_bare_session(rate: int) -> None:
    """The wrapper only moves the axes of the state."""
    scorer = OnnxSilero(model(), rate)
    session = onnxruntime.InferenceSession(model(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(3)
    windows = rng.normal(0, 0.1, (5, scorer.context + scorer.window)).astype(np.float32)
    state = rng.normal(0, 0.1, (5, 2, 128)).astype(np.float32)
    fed = {"input": windows, "state": state.transpose(1, 0, 2), "sr": np.array(rate)}
    expected, expected_state = session.run(None, fed)
    probability, after = scorer.score(windows, state)
    assert np.allclose(probability, expected.ravel(), atol=1e-6)
    assert np.allclose(after, expected_state.transpose(1, 0, 2), atol=1e-6)
    assert after.shape == (5, 2, 128)


@RATES
def test_no_rows_are_no_error(rate: int) -> None:
    scorer = OnnxSilero(model(), rate)
    width = scorer.context + scorer.window
    probability, _ = scorer.score(
        np.zeros((0, width), np.float32), np.zeros((0, 2, 128), np.float32)
    )
    assert probability.shape == (0,)


def test_bytes_that_are_no_model() -> None:
    with pytest.raises(ValueError, match="not an ONNX model"):
        OnnxSilero(b"RIFF", 8_000)


def test_a_model_with_other_inputs() -> None:
    with pytest.raises(ValueError, match="its inputs are x"):
        OnnxSilero(identity_model(), 8_000)


def test_another_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="not 11025"):
        OnnxSilero(model(), 11_025)


def test_without_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError, match="install the extra `onnx`"):
        OnnxSilero(model(), 8_000)


def identity_model() -> bytes:
    """The smallest ONNX model: y = x, one float32."""
    one_float = field(1, varint_field(1, 1) + field(2, field(1, varint_field(1, 1))))
    node = field(1, b"x") + field(2, b"y") + field(4, b"Identity")
    graph = field(1, node) + field(2, b"g")
    graph += field(11, field(1, b"x") + field(2, one_float))
    graph += field(12, field(1, b"y") + field(2, one_float))
    return varint_field(1, 8) + field(7, graph) + field(8, field(1, b"") + varint_field(2, 17))


def field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def varint_field(number: int, value: int) -> bytes:
    """A protobuf field holding a small number."""
    return bytes([number << 3, value])
