"""The gateway's own providers against the real speech server: said, heard, the same words."""

from __future__ import annotations

import asyncio
import re

import numpy as np
import pytest
import soxr  # has no py.typed

from audio.format import PCM_RATE, TTS_RATE
from gateway.errors import ProviderError
from gateway.providers.base import Transcript
from gateway.providers.openai_stt import OpenAISpeechToText
from gateway.providers.openai_tts import OpenAITextToSpeech

pytestmark = pytest.mark.speech


async def said_and_heard(url: str, text: str, language: str) -> Transcript:
    speaker = OpenAITextToSpeech(base_url=url, api_key="", model="local", voice="")
    ear = OpenAISpeechToText(base_url=url, api_key="", model="whisper-base")
    try:
        spoken = b"".join([piece async for piece in speaker.speak(text, "en")])
        samples = soxr.resample(np.frombuffer(spoken, "<i2"), TTS_RATE, PCM_RATE, "HQ")
        return await anext(ear.transcribe(samples.astype("<i2").tobytes(), language))
    finally:
        await speaker.aclose()
        await ear.aclose()


@pytest.mark.parametrize("language", ["", "en"])
def test_words_survive(speech_url: str, language: str) -> None:
    text = "Please leave your name and a short message after the tone."
    heard = asyncio.run(said_and_heard(speech_url, text, language))
    assert heard.language == "en"
    assert re.findall(r"\w+", heard.text.lower()) == re.findall(r"\w+", text.lower())


def test_an_unknown_voice_is_a_provider_error_that_does_not_go_away(speech_url: str) -> None:
    async def check() -> None:
        speaker = OpenAITextToSpeech(base_url=speech_url, api_key="", model="local", voice="alloy")
        with pytest.raises(ProviderError, match="status 400") as raised:
            await anext(speaker.speak("Hello.", "en"))
        assert not raised.value.retryable
        await speaker.aclose()

    asyncio.run(check())
