"""What a caller hears when nothing can be spoken: the apology as it was spoken, or as recorded.

Text-to-speech may be dead from the start of a worker, and then no apology of its own was ever
made. So one in each language lies in ``recorded/``, made by our own speech server (hibari for
English, festival for Russian, espeak-ng for Arabic) and brought down to 8 kHz, since a telephone
passes no more. It is another voice than usual, but no silence. When a sentence of the lexicon
changes, a test asks for a new recording.
"""

from __future__ import annotations

import functools
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np

from audio.format import TTS_RATE, WIRE_RATE

#: The words of each recording: those of the lexicon's ``trouble``; a test compares them.
RECORDED = {
    "en": "I am sorry, something went wrong on our side.",
    "ru": "Извините, у нас возникла неполадка.",
    "ar": "عذرا، حدث خطأ من جانبنا.",
}
_FOLDER = Path(__file__).parent / "recorded"

#: Text, language and voice -> 24 kHz PCM that was spoken before; empty when it was not.
Recall = Callable[[str, str, str], bytes]


class Apologies:
    """Those of a worker; no call waits for one, whatever the servers do."""

    def __init__(self, recall: Recall) -> None:
        self._recall = recall
        for language in RECORDED:  # before calls are up
            recording(language)

    def pcm(self, language: str, voice: str) -> bytes:
        """The apology as 24 kHz PCM16, in the usual voice where that ever spoke it."""
        return self._recall(RECORDED[language], language, voice) or recording(language)


@functools.cache
def recording(language: str) -> bytes:
    """A recorded apology as 24 kHz PCM16."""
    with wave.open(str(_FOLDER / f"{language}.wav")) as sound:
        assert (sound.getnchannels(), sound.getsampwidth()) == (1, 2)
        assert sound.getframerate() == WIRE_RATE
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
    # What straight lines between samples add lies above 4 kHz, which no telephone passes.
    at = np.arange(len(samples) * (TTS_RATE // WIRE_RATE)) * (WIRE_RATE / TTS_RATE)
    pcm: bytes = np.interp(at, np.arange(len(samples)), samples).astype("<i2").tobytes()
    return pcm
