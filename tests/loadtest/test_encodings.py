"""Each encoding carries speech: what is decoded sounds like what was encoded."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from loadtest.clips import load_clips, to_pcm16
from loadtest.encodings import ENCODINGS, PCM16, Encoding
from loadtest.options import DEFAULT_AUDIO

ALL = [*ENCODINGS.values(), PCM16]


@pytest.mark.parametrize("encoding", ALL, ids=lambda encoding: encoding.name)
def test_speech_survives_in_frames_of_the_right_size(encoding: Encoding) -> None:
    (clip,) = load_clips(DEFAULT_AUDIO / "cards-001.wav", encoding.rate)
    samples = to_pcm16(clip.samples[: encoding.rate // 50 * 50])
    payload = encoding.encode(samples)
    assert len(payload) == 50 * encoding.frame_bytes
    assert encoding.ns_per_byte * encoding.frame_bytes == 20_000_000
    decode, size = encoding.decoder(), encoding.frame_bytes
    pieces = [decode(payload[at : at + size]) for at in range(0, len(payload), size)]
    heard = np.concatenate(pieces)
    assert {len(piece) for piece in pieces} == {encoding.frame_samples}
    delay = 22 if encoding.name == "G722" else 0  # its two filters'
    said, heard = samples[: len(samples) - delay].astype(float), heard[delay:].astype(float)
    noise = np.linalg.norm(said - heard) / np.linalg.norm(said)
    assert noise < 0.2, noise


@pytest.mark.parametrize("encoding", ALL, ids=lambda encoding: encoding.name)
def test_a_client_process_can_be_given_one(encoding: Encoding) -> None:
    given = pickle.loads(pickle.dumps(encoding))
    assert given.encode(np.ones(320, np.int16)) == encoding.encode(np.ones(320, np.int16))
