"""Rates, frame sizes and encodings. Relations that the rest relies on are asserted here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

FRAME_MS = 20
FRAMES_PER_SECOND = 1000 // FRAME_MS
NS_PER_MS = 1_000_000
FRAME_NS = FRAME_MS * NS_PER_MS

WIRE_RATE = 8_000
PCM_RATE = 16_000
TTS_RATE = 24_000
PCM_BYTES_PER_SAMPLE = 2


class Encoding(IntEnum):
    """How a carrier encodes audio. The value is written into shared memory: never renumber.

    MULAW and ALAW are G.711 at 8 kHz (ITU-T G.711). G722 is sub-band ADPCM, 64 kbit/s for 16 kHz
    (ITU-T G.722; static RTP payload type 9, whose clock counts 8000 for historical reasons, RFC
    3551). The rest is linear PCM, "L16": 16 or 8 kHz, little endian or (BE) in network order.
    """

    MULAW = 0
    ALAW = 1
    PCM16 = 2
    G722 = 3
    PCM16_BE = 4
    PCM16_8K = 5
    PCM16_8K_BE = 6


ByteOrder = Literal["<", ">"]


@dataclass(frozen=True, slots=True)
class WireFormat:
    """One encoding's numbers; all that the steps need to know of it.

    ``rate`` is in samples per second, ``frame_bytes`` those of 20 ms. A frame of the byte
    ``silence`` is silent to a decoder that begins with it (G.722: 3 of 32768 at most; there is no
    code for silence in the midst of a stream). ``byte_order`` is that of linear samples, None for
    companded ones. A frame of a ``stateful`` encoding means nothing without all that came before
    it: a codec object turns frames into linear samples, of which ``byte_order`` then speaks.
    """

    rate: int
    frame_bytes: int
    silence: int
    byte_order: ByteOrder | None
    stateful: bool = False

    @property
    def frame_samples(self) -> int:
        """Samples in one frame."""
        return self.rate // FRAMES_PER_SECOND

    @property
    def samples_bytes(self) -> int:
        """Bytes of one frame's samples as the steps take them: decoded, if it is stateful."""
        return self.frame_samples * PCM_BYTES_PER_SAMPLE if self.stateful else self.frame_bytes


def pcm_frame_bytes(rate: int) -> int:
    """Bytes of one 20 ms frame of PCM16 at ``rate`` samples per second."""
    assert rate % FRAMES_PER_SECOND == 0, rate
    return rate // FRAMES_PER_SECOND * PCM_BYTES_PER_SAMPLE


def _linear(rate: int, byte_order: ByteOrder) -> WireFormat:
    return WireFormat(rate, pcm_frame_bytes(rate), 0, byte_order)


CODE_FRAME_BYTES = 160  # 64 kbit/s: G.711 and G.722

WIRE_FORMATS: dict[Encoding, WireFormat] = {
    Encoding.MULAW: WireFormat(WIRE_RATE, CODE_FRAME_BYTES, 0xFF, None),
    Encoding.ALAW: WireFormat(WIRE_RATE, CODE_FRAME_BYTES, 0xD5, None),
    Encoding.PCM16: _linear(PCM_RATE, "<"),
    Encoding.G722: WireFormat(PCM_RATE, CODE_FRAME_BYTES, 0xFF, "<", stateful=True),
    Encoding.PCM16_BE: _linear(PCM_RATE, ">"),
    Encoding.PCM16_8K: _linear(WIRE_RATE, "<"),
    Encoding.PCM16_8K_BE: _linear(WIRE_RATE, ">"),
}

PCM_FRAME_BYTES = pcm_frame_bytes(PCM_RATE)
TTS_FRAME_BYTES = pcm_frame_bytes(TTS_RATE)

# Silero VAD scores windows of 32 ms; they tile frames as 8 blocks to 5 (one block = 4 ms).
VAD_WINDOW_MS = 32
BLOCK_MS = 4
BLOCKS_PER_FRAME = FRAME_MS // BLOCK_MS
BLOCKS_PER_WINDOW = VAD_WINDOW_MS // BLOCK_MS
VAD_STATE_WIDTH = 128

assert BLOCKS_PER_FRAME * BLOCK_MS == FRAME_MS
assert BLOCKS_PER_WINDOW * BLOCK_MS == VAD_WINDOW_MS
assert PCM_FRAME_BYTES == 640
assert TTS_FRAME_BYTES == 960
assert WIRE_FORMATS.keys() == set(Encoding)
assert all(wire.frame_bytes <= PCM_FRAME_BYTES for wire in WIRE_FORMATS.values())
