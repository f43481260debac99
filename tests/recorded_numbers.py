"""Telephone numbers in a human voice: the words of Debian's Russian Asterisk prompts, joined.

``apt install asterisk-core-sounds-ru-wav`` (CC-BY-3.0) brings a woman's digits at 8 kHz.
Between the words of a group there is what a speaker leaves, between groups what a comma is.
"""

from __future__ import annotations

import re
import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audio.format import WIRE_RATE
from gateway.conversation.lexicon import lexicon

Samples = NDArray[np.int16]
FOLDER = Path("/usr/share/asterisk/sounds/ru_RU_f_IvrvoiceRU")
_DIGITS = lexicon("ru").numbers.spoken
_FILES = {word: f"digits/{digit}.wav" for digit, word in enumerate(_DIGITS)}
_FILES["плюс"] = "letters/plus.wav"
_WORD_GAP_MS = 60
_GROUP_GAP_MS = 300
_KEPT_MS = 20
_SOFT = 10 ** (-35 / 20)


def recorded_number(text: str) -> Samples | None:
    """The number at the end of a sentence, spoken; None where a word of it was not recorded."""
    spoken = re.findall(r"(\w+)(\W*)", text.rpartition(":")[2].lower())
    if not all(word in _FILES and (FOLDER / _FILES[word]).exists() for word, _ in spoken):
        return None
    pieces = []
    for word, gap in spoken:
        pause_ms = _GROUP_GAP_MS if "," in gap else _WORD_GAP_MS
        pieces += [_word(word), np.zeros(WIRE_RATE * pause_ms // 1000, np.int16)]
    return np.concatenate(pieces)


def _word(word: str) -> Samples:
    """A recorded word without the silence around it."""
    with wave.open(str(FOLDER / _FILES[word])) as reader:
        assert reader.getframerate() == WIRE_RATE
        samples = np.frombuffer(reader.readframes(reader.getnframes()), "<i2")
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > np.abs(samples).max() * _SOFT)
    kept = WIRE_RATE * _KEPT_MS // 1000
    return samples[max(0, loud[0] - kept) : loud[-1] + kept]
