"""One call's view of the providers: its names, its voice, and an apology for what fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from gateway.providers.for_call import Attuned, Voiced
from gateway.providers.openai_stt import OpenAISpeechToText
from gateway.providers.routed import RoutedSpeechToText
from tests.fakes.openai_http import KEY, FakeOpenAI
from tests.gateway.providers.rig import HASTE, make_row, with_fake


class Voice:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    async def speak(self, text: str, language: str, voice: str = "") -> AsyncGenerator[bytes, None]:
        self.asked.append((text, language, voice))
        yield text.encode()

    async def aclose(self) -> None:
        pass


def test_a_call_speaks_with_its_profiles_voice() -> None:
    async def check() -> None:
        voice = Voice()
        tts = Voiced(voice, "marin")
        assert [piece async for piece in tts.speak("Yes.", "en")] == [b"Yes."]
        assert [piece async for piece in tts.speak("No.", "en", "alloy")] == [b"No."]
        assert voice.asked == [("Yes.", "en", "marin"), ("No.", "en", "alloy")]

    asyncio.run(check())


def test_a_calls_ear_knows_the_names_of_its_profile() -> None:
    async def check(fake: FakeOpenAI) -> None:
        server = OpenAISpeechToText(base_url=fake.url, api_key=KEY, model="gpt-transcribe")
        stt = RoutedSpeechToText([server], make_row(), HASTE)
        ear = Attuned(stt, ("Riverside",)).listen()
        ear.feed(b"")
        assert (await ear.transcribe(bytes(640), "en")).text
        ear.forget()
        await ear.aclose()
        await stt.aclose()
        assert fake.asked[0][1]["keywords"] == ["Riverside"]

    with_fake(check)
