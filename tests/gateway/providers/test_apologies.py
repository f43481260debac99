"""Recorded apologies: they are there, they are speech, they say what the lexicon says."""

from __future__ import annotations

import numpy as np
import pytest

from audio.format import TTS_RATE
from gateway.conversation.language import LANGUAGES
from gateway.conversation.lexicon import lexicon
from gateway.providers.apologies import RECORDED, Apologies, recording


def test_what_was_recorded_is_what_the_lexicon_says() -> None:
    assert {name: lexicon(name).sentences["trouble"] for name in LANGUAGES} == RECORDED


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_a_recording_is_a_sentence_at_the_loudness_of_speech(language: str) -> None:
    samples = np.frombuffer(recording(language), "<i2").astype(float)
    assert 1.5 < len(samples) / TTS_RATE < 5
    assert 1_500 < np.sqrt((samples**2).mean()) < 6_000
    spectrum = np.abs(np.fft.rfft(samples)) ** 2
    above = np.fft.rfftfreq(len(samples), 1 / TTS_RATE) > 4_000
    assert spectrum[above].sum() < 0.02 * spectrum.sum()


def test_the_usual_voice_is_preferred_where_it_ever_spoke() -> None:
    kept = {(RECORDED["en"], "en", "marin"): b"as spoken"}
    apologies = Apologies(lambda *sentence: kept.get(sentence, b""))
    assert apologies.pcm("en", "marin") == b"as spoken"
    assert apologies.pcm("en", "alloy") == recording("en")
    assert apologies.pcm("ar", "marin") == recording("ar")
