"""What callers say: speech and pauses, half and half, in a loop long enough to be unmistakable.

The echo scenario must recognise every frame when it comes back decoded, resampled twice and
encoded again. So every frame has to be unlike every other: recorded speech is, and noise of
-50 dBFS makes the pauses (and the digital silence inside recordings) so too. Each call reads the
same loop from a place of its own, so the frames are encoded once, before the run.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.clips import FULL_SCALE, Clip, noise, telephone_band, to_pcm16
from loadtest.wires import Wire, payload_of

LOOP_SECONDS_MIN = 30
PAUSE_NOISE_DBFS = -50.0
ROOM_TONE_DBFS = -60.0
ROOM_TONE_SECONDS = 4


@dataclass(frozen=True, slots=True)
class Frames:
    """Encoded 20 ms frames: base64 payloads, and the samples a decoder makes of them.

    ``samples`` is float32, full scale 1, shape (frames, samples per frame).
    """

    payloads: tuple[bytes, ...]
    samples: NDArray[np.float32]

    def __len__(self) -> int:
        """How many frames."""
        return len(self.payloads)


def encode_frames(samples: NDArray[np.float32], wire: Wire) -> Frames:
    """Cut float samples into frames, the last one padded with silence, and encode them."""
    count = -(-len(samples) // wire.frame_samples)
    padded = np.zeros(count * wire.frame_samples, np.float32)
    padded[: len(samples)] = samples
    audio = wire.caller.encode(to_pcm16(padded))
    size = wire.caller.frame_bytes
    payloads = tuple(payload_of(audio[i : i + size]) for i in range(0, len(audio), size))
    decoded = wire.caller.decoder()(audio).astype(np.float32) / np.float32(FULL_SCALE)
    return Frames(payloads, decoded.reshape(count, wire.frame_samples))


def conversation_loop(clips: Sequence[Clip], wire: Wire, seed: int) -> Frames:
    """The clips in an order drawn from the seed, each followed by a pause of its own length."""
    assert clips
    assert all(clip.rate == wire.rate for clip in clips)
    order = list(clips)
    random.Random(f"material:{seed}").shuffle(order)
    spoken = sum(len(clip.samples) for clip in order)
    rounds = math.ceil(LOOP_SECONDS_MIN * wire.rate / (2 * spoken))
    pieces = [
        piece
        for clip in order * rounds
        for piece in (clip.samples, np.zeros(len(clip.samples), np.float32))
    ]
    loop = np.concatenate(pieces)
    loop = loop[: len(loop) // wire.frame_samples * wire.frame_samples]
    hiss = noise(len(loop), wire.rate, PAUSE_NOISE_DBFS, seed)
    return encode_frames(telephone_band(loop, wire.rate) + hiss, wire)


def room_tone(wire: Wire, seed: int) -> Frames:
    """A few seconds of a quiet room, to be repeated: what a silent caller sends."""
    count = ROOM_TONE_SECONDS * wire.rate
    return encode_frames(noise(count, wire.rate, ROOM_TONE_DBFS, seed), wire)
