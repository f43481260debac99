"""What callers say: half speech, half pauses, no two frames alike, and encoded once."""

from __future__ import annotations

import base64

import numpy as np

from loadtest.clips import load_clips
from loadtest.identify import unit_rows
from loadtest.material import Frames, conversation_loop, encode_frames, room_tone
from loadtest.options import DEFAULT_AUDIO
from loadtest.wires import PLAIN, TWILIO


def loop(seed: int = 1) -> Frames:
    return conversation_loop(load_clips(DEFAULT_AUDIO, TWILIO.rate), TWILIO, seed)


def test_payloads_are_the_samples_encoded() -> None:
    for wire in (TWILIO, PLAIN):
        frames = room_tone(wire, 1)
        assert frames.samples.shape == (len(frames), wire.frame_samples)
        for payload, samples in zip(frames.payloads, frames.samples, strict=True):
            audio = base64.b64decode(payload, validate=True)
            assert len(audio) == wire.caller.frame_bytes
            assert np.array_equal(wire.caller.decoder()(audio), (samples * 32768).astype(np.int16))


def test_a_last_frame_is_filled_up() -> None:
    frames = encode_frames(np.full(161, 0.25, np.float32), TWILIO)
    assert len(frames) == 2
    assert not frames.samples[1, 1:].any()


def test_half_is_speech_and_the_pauses_are_at_minus_fifty() -> None:
    level = np.sqrt((loop().samples.astype(np.float64) ** 2).mean(axis=1))
    pauses = level < 10 ** (-45 / 20)
    assert 0.5 <= pauses.mean() <= 0.7  # recordings hold short pauses of their own
    assert -51 < 20 * np.log10(np.median(level[pauses])) < -49


def test_no_two_frames_of_one_second_are_alike() -> None:
    rows = unit_rows(loop().samples)
    for first in range(0, len(rows) - 50, 50):
        likeness = rows[first : first + 50] @ rows[first : first + 50].T
        np.fill_diagonal(likeness, 0)
        assert likeness.max() < 0.999


def test_the_seed_decides() -> None:
    assert loop(1).payloads == loop(1).payloads
    assert loop(1).payloads != loop(2).payloads


def test_a_short_recording_is_repeated_under_ever_new_noise() -> None:
    clip = load_clips(DEFAULT_AUDIO / "cards-001.wav", TWILIO.rate)
    frames = conversation_loop(clip, TWILIO, 1)
    assert len(frames) >= 30 * 50
    assert len(set(frames.payloads)) == len(frames)
