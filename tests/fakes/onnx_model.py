"""A model file as an ONNX library would write it, a few hundred bytes, by hand.

The package ``onnx`` is 20 MB that nothing else here needs. A message of Protocol Buffers is fields,
a field its number and its bytes; numbers are those of onnx.proto (IR 8, opset 13).
"""

from __future__ import annotations

from collections.abc import Sequence

_FLOAT, _INT, _INTS = 1, 2, 7  # TensorProto.FLOAT; AttributeProto.INT and INTS


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    body = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _value(name: str, shape: Sequence[int | str]) -> bytes:
    """A ValueInfoProto: a float tensor, named axes being of any size."""
    dims = b"".join(
        _field(1, _field(2, axis) if isinstance(axis, str) else _field(1, axis)) for axis in shape
    )
    tensor = _field(1, _FLOAT) + _field(2, dims)
    return _field(1, name) + _field(2, _field(1, tensor))


def _ints(name: str, values: Sequence[int]) -> bytes:
    listed = b"".join(_field(8, value) for value in values)
    return _field(5, _field(1, name) + listed + _field(20, _INTS))


def _int(name: str, value: int) -> bytes:
    return _field(5, _field(1, name) + _field(3, value) + _field(20, _INT))


def _node(kind: str, source: str, result: str, attributes: bytes = b"") -> bytes:
    return _field(1, _field(1, source) + _field(2, result) + _field(4, kind) + attributes)


def mean_model(
    shape: Sequence[int | str] = ("N", 80, 800),
    *,
    name: str = "input_features",
    axes: Sequence[int] = (1, 2),
) -> bytes:
    """Its output is the sigmoid of the mean of its input: above 0.5 where that is positive."""
    nodes = (
        _node("ReduceMean", name, "mean", _ints("axes", axes) + _int("keepdims", 1))
        + _node("Flatten", "mean", "flat", _int("axis", 1))
        + _node("Sigmoid", "flat", "logits")
    )
    graph = nodes + _field(2, "mean") + _field(11, _value(name, shape))
    graph += _field(12, _value("logits", ("N", "M")))
    return _field(1, 8) + _field(7, graph) + _field(8, _field(2, 13))
