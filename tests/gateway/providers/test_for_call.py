"""One call's view of the providers: its names, its voice, and an apology for what fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from gateway.errors import ProviderError
from gateway.providers.for_call import Attuned, Voiced
from gateway.providers.openai_stt import OpenAISpeechToText
from gateway.providers.routed import RoutedSpeechToText
from tests.fakes.openai_http import KEY, FakeOpenAI
from tests.gateway.providers.rig import HASTE, make_row, with_fake

SORRY = {"en": "Sorry."}


class Voice:
    """Fails for texts with a "!", after the letters before it."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    async def speak(self, text: str, language: str, voice: str = "") -> AsyncGenerator[bytes, None]:
        self.asked.append((text, language, voice))
        for letter in text:
            if letter == "!":
                raise ProviderError("it broke")
            yield letter.encode()

    async def aclose(self) -> None:
        pass


async def heard(tts: Voiced, text: str, language: str = "en") -> bytes:
    found = []
    try:
        async for piece in tts.speak(text, language):
            found.append(piece)  # noqa: PERF401 - what came before the error is kept
    except ProviderError:
        found.append(b"#")
    return b"".join(found)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["Yes."], b"Yes."),
        (["!"], b"Sorry.#"),
        (["!", "!"], b"Sorry.##"),
        (["half!"], b"half#"),
        (["", "!"], b"Sorry.#"),
    ],
)
def test_what_cannot_be_spoken_is_apologised_for_once(texts: list[str], expected: bytes) -> None:
    async def check() -> None:
        voice = Voice()
        tts = Voiced(voice, "marin", SORRY)
        assert b"".join([await heard(tts, text) for text in texts]) == expected
        assert {voice for _, _, voice in voice.asked} == {"marin"}
        assert await heard(tts, "!", "fr") == b"#", "no apology is known"

    asyncio.run(check())


def test_an_apology_that_fails_is_not_apologised_for() -> None:
    async def check() -> None:
        voice = Voice()
        assert await heard(Voiced(voice, "", {"en": "!"}), "no!") == b"no#"
        assert await heard(Voiced(voice, "", {"en": "!"}), "!") == b"#"

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
