"""Rates, frame sizes and encodings. Relations that the rest relies on are asserted here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

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

    MULAW and ALAW are G.711 at 8 kHz (ITU-T G.711); PCM16 is linear, little endian, 16 kHz.
    """

    MULAW = 0
    ALAW = 1
    PCM16 = 2


@dataclass(frozen=True, slots=True)
class WireFormat:
    """One encoding's numbers: samples per second, bytes of a 20 ms frame, the byte of silence."""

    rate: int
    frame_bytes: int
    silence: int

    @property
    def frame_samples(self) -> int:
        """Samples in one frame."""
        return self.rate // FRAMES_PER_SECOND


WIRE_FORMATS: dict[Encoding, WireFormat] = {
    Encoding.MULAW: WireFormat(WIRE_RATE, WIRE_RATE // FRAMES_PER_SECOND, 0xFF),
    Encoding.ALAW: WireFormat(WIRE_RATE, WIRE_RATE // FRAMES_PER_SECOND, 0xD5),
    Encoding.PCM16: WireFormat(PCM_RATE, PCM_RATE // FRAMES_PER_SECOND * PCM_BYTES_PER_SAMPLE, 0),
}


def pcm_frame_bytes(rate: int) -> int:
    """Bytes of one 20 ms frame of PCM16 at ``rate`` samples per second."""
    assert rate % FRAMES_PER_SECOND == 0, rate
    return rate // FRAMES_PER_SECOND * PCM_BYTES_PER_SAMPLE


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
assert WIRE_FORMATS[Encoding.MULAW].frame_bytes == 160
