"""What a worker finds out, and has ready, before anybody calls."""

from __future__ import annotations

import asyncio

from gateway.conversation.profile import Profile
from gateway.providers.assembly import open_speech_to_text, open_text_to_speech
from gateway.providers.base import Speech
from gateway.reception import Reception
from gateway.responders.registry import Staff
from gateway.settings import Settings, load_settings
from gateway.warm_up import WarmUp
from tests.fakes.openai_http import KEY, FakeOpenAI, Fault, Script
from tests.gateway.providers.rig import collected, counted, make_row, with_fake

PROFILE = Profile(business_name="Riverside", language="en")
GREETING = "Hello, you have reached Riverside."


def settings_for(fake: FakeOpenAI, key: str = KEY) -> Settings:
    return load_settings(
        None,
        openai_api_key=key,
        stt_base_url=fake.url,
        tts_base_url=fake.url,
        stt_model="gpt-transcribe",
        tts_model="gpt-4o-mini-tts",
    )


def warm_up(settings: Settings) -> tuple[WarmUp, Speech]:
    row = make_row()
    speech = Speech(open_speech_to_text(settings, "", row), open_text_to_speech(settings, "", row))
    reception = Reception(settings, row, {"default": PROFILE}, speech, Staff({}))
    return WarmUp(settings, "", [PROFILE], reception, speech.tts, []), speech


def test_a_greeting_is_ready_and_an_unknown_model_is_told() -> None:
    async def check(fake: FakeOpenAI) -> None:
        warming, speech = warm_up(settings_for(fake))
        await warming.run()
        asked = len(fake.asked)
        assert asked > 20
        assert await collected(speech.tts.speak(GREETING, "en"))
        assert len(fake.asked) == asked, "from the cache"
        assert warming.warnings == []
        await speech.tts.aclose()
        await speech.stt.aclose()

    with_fake(check, Script(speech_ms=5))


def test_who_only_listens_has_nothing_spoken() -> None:
    async def check(fake: FakeOpenAI) -> None:
        silent = settings_for(fake).model_copy(update={"ai_conversation_enabled": False})
        warming, speech = warm_up(silent)
        await warming.run()
        assert "tts" not in fake.stages()
        await speech.tts.aclose()
        await speech.stt.aclose()

    with_fake(check)


def test_a_refused_key_is_told_without_the_key() -> None:
    async def check(fake: FakeOpenAI) -> None:
        warming, speech = warm_up(settings_for(fake, "sk-wrong-0123456789abcdef"))
        running = asyncio.create_task(warming.run())
        while not warming.warnings:  # noqa: ASYNC110 - it is a list, as /readyz reads it
            await asyncio.sleep(0.01)
        assert warming.warnings == [f"{fake.url}: refuses the key (status 401)"]
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await speech.tts.aclose()
        await speech.stt.aclose()

    with_fake(check)


def test_what_fails_is_prepared_later() -> None:
    async def check(fake: FakeOpenAI) -> None:
        warming, speech = warm_up(settings_for(fake))
        running = asyncio.create_task(warming.run())
        row = warming.reception._row
        while not counted(row).get("provider_keys_refused"):  # noqa: ASYNC110 - a counter
            await asyncio.sleep(0.01)
        assert not counted(row).get("tts_cache_bytes")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert await warming.tts.prepare([(GREETING, "en", "")]) == 1  # type: ignore[attr-defined]
        await speech.tts.aclose()
        await speech.stt.aclose()

    with_fake(check, Script(speech_ms=5, faults=[Fault("tts", status=401, times=1)]))
