"""How audio is written into payloads: G.711, G.722 and linear PCM, by the names of RTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import G722
import numpy as np
from numpy.typing import NDArray

from loadtest import alaw, mulaw
from loadtest.schedule import FRAMES_PER_SECOND, NS_PER_SECOND

Samples: TypeAlias = NDArray[np.int16]
Payload: TypeAlias = bytes | bytearray | memoryview
Decode: TypeAlias = Callable[[Payload], Samples]

_G722_RATE, _G722_BITS = 16_000, 64_000


@dataclass(frozen=True, slots=True)
class Encoding:
    """One way to write audio; ``frame_bytes`` are those of 20 ms, ``unit`` the fewest that mean
    something. ``decoder`` makes what turns one stream's payloads, in order, into int16 samples.
    All of it goes to the client processes, hence no closures.
    """

    name: str
    rate: int
    frame_bytes: int
    unit: int
    encode: Callable[[Samples], bytes]
    decoder: Callable[[], Decode]

    @property
    def frame_samples(self) -> int:
        """Samples of 20 ms."""
        return self.rate // FRAMES_PER_SECOND

    @property
    def ns_per_byte(self) -> int:
        """How long a payload byte plays."""
        return NS_PER_SECOND // (self.frame_bytes * FRAMES_PER_SECOND)


def _stateless(decode: Decode) -> Decode:
    return decode


def _companded(name: str, encode: Callable[[Samples], bytes], decode: Decode) -> Encoding:
    return Encoding(name, 8000, 160, 1, encode, partial(_stateless, decode))


def _linear(name: str, rate: int, order: str) -> Encoding:
    size, decode = rate // FRAMES_PER_SECOND * 2, partial(_read_linear, order)
    return Encoding(name, rate, size, 2, partial(_write_linear, order), partial(_stateless, decode))


def _write_linear(order: str, samples: Samples) -> bytes:
    return samples.astype(f"{order}i2").tobytes()


def _read_linear(order: str, payload: Payload) -> Samples:
    return np.frombuffer(payload, f"{order}i2").astype(np.int16, copy=False)


def _g722_encode(samples: Samples) -> bytes:
    return bytes(G722.G722(_G722_RATE, _G722_BITS).encode(samples))


def _g722_decode(codec: G722.G722, payload: Payload) -> Samples:
    return np.frombuffer(codec.decode(bytes(payload)), np.int16)


def _g722_decoder() -> Decode:
    return partial(_g722_decode, G722.G722(_G722_RATE, _G722_BITS))


PCMU = _companded("PCMU", mulaw.encode, mulaw.decode)
PCM16 = _linear("PCM16", 16_000, "<")
#: What a carrier may use. G.722 counts 8000 to the second in RTP, though it samples at 16 kHz.
ENCODINGS = {
    encoding.name: encoding
    for encoding in (
        PCMU,
        _companded("PCMA", alaw.encode, alaw.decode),
        Encoding("G722", _G722_RATE, 160, 1, _g722_encode, _g722_decoder),
        _linear("L16/8000", 8_000, ">"),
        _linear("L16/16000", 16_000, ">"),
    )
}
