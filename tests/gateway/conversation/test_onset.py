from __future__ import annotations

import numpy as np
import pytest

from audio.format import PCM_RATE, TTS_RATE, WIRE_RATE
from gateway.conversation.onset import KEPT_BYTES, STEP_BYTES, silence_before

MS = TTS_RATE // 1000


def tone(hz: float, dbfs: float, ms: int) -> bytes:
    time = np.arange(ms * MS) / TTS_RATE
    wave = np.sin(2 * np.pi * hz * time) * np.sqrt(2) * 10 ** (dbfs / 20) * 32768
    return bytes(wave.round().astype("<i2"))


def silence(ms: int) -> bytes:
    return bytes(2 * ms * MS)


@pytest.mark.parametrize("rate", [WIRE_RATE, PCM_RATE])
@pytest.mark.parametrize("ms", [0, 8, 40, 300])
def test_silence_is_left_out_but_for_a_little(ms: int, rate: int) -> None:
    left_out, begins = silence_before(silence(ms) + tone(440, -20, 40), rate)
    assert begins
    assert left_out == max(0, 2 * ms * MS // STEP_BYTES * STEP_BYTES - KEPT_BYTES)


def test_what_is_silent_so_far_can_be_left_out_at_once() -> None:
    left_out, begins = silence_before(silence(100), WIRE_RATE)
    assert not begins
    assert len(silence(100)) - left_out <= KEPT_BYTES + STEP_BYTES
    assert silence_before(silence(5), WIRE_RATE) == (0, False)


def test_what_no_telephone_carries_is_silence_on_a_telephone_only() -> None:
    hiss = tone(6_000, -30, 80) + tone(440, -20, 40)
    assert silence_before(hiss, WIRE_RATE) == (2 * 80 * MS - KEPT_BYTES, True)
    assert silence_before(hiss, PCM_RATE) == (0, True)


def test_a_soft_sound_is_one_and_the_noise_under_it_is_none() -> None:
    assert silence_before(tone(440, -44, 40), WIRE_RATE) == (0, True)
    assert not silence_before(tone(440, -50, 40), WIRE_RATE)[1]
