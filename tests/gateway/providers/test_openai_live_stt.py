"""A live ear against the fake Realtime server: texts, losses, and the provider behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from gateway.errors import ProviderError
from gateway.providers import openai_live_stt, realtime_socket
from gateway.providers.openai_live_stt import LiveEar, LiveSpeechToText
from gateway.providers.realtime_socket import Endpoint
from gateway.providers.scripted import ScriptedSpeechToText
from gateway.server_settings import OPENAI
from tests.fakes.openai_realtime import FakeRealtime, realtime_server
from tests.gateway.providers.rig import go_forward

FRAME: bytes = (np.sin(np.arange(320) * 0.3) * 8_000).astype(np.int16).tobytes()
PATIENCE_S = 10


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no fault of the server's."""
    monkeypatch.setattr(openai_live_stt, "FINAL_MS", 30_000)
    monkeypatch.setattr(realtime_socket, "CONNECT_TIMEOUT_MS", 30_000)


async def until(true: Callable[[], object]) -> None:
    for _ in range(PATIENCE_S * 200):
        if true():
            return
        await asyncio.sleep(0.005)
    pytest.fail("waited in vain")


def listen(
    fake: FakeRealtime,
    scene: Callable[[LiveEar, ScriptedSpeechToText], Awaitable[None]],
    key: str = "sk-test",
) -> None:
    async def play() -> None:
        async with realtime_server(fake):
            fallback = ScriptedSpeechToText(["the other provider's", ProviderError("down")])
            live = LiveSpeechToText(Endpoint.of(fake.url, key), "gpt-live-transcribe", fallback)
            ear = live.listen()
            assert isinstance(ear, LiveEar)
            await scene(ear, fallback)
            await ear.aclose()
            await live.aclose()

    asyncio.run(play())
    assert fake.invalid == []


async def say(ear: LiveEar, ms: int) -> bytes:
    for _ in range(ms // 20):
        ear.feed(FRAME)
        await asyncio.sleep(0)
    return FRAME * (ms // 20)


def test_a_text_is_that_of_what_was_committed() -> None:
    fake = FakeRealtime()

    async def scene(ear: LiveEar, fallback: ScriptedSpeechToText) -> None:
        pcm = await say(ear, 1_000)
        await until(fake.live)
        first = await ear.transcribe(pcm, "en")
        assert first.text.endswith("ms of speech")
        assert 900 <= int(first.text.split()[0]) <= 1_000, "but for the resampler's delay"
        ear.forget()
        pcm = await say(ear, 400)
        assert (await ear.transcribe(pcm, "en")).text.endswith("ms of speech")
        assert fallback.heard == []

    listen(fake, scene)
    assert fake.refused == []
    (update, *_) = fake.of("session.update")
    assert update["session"]["type"] == "transcription"
    assert update["session"]["audio"]["input"]["turn_detection"] is None


def test_a_caller_who_goes_on_is_transcribed_as_a_whole_whatever_the_order() -> None:
    fake = FakeRealtime(out_of_order=True, transcripts=["I want", "a table."])

    async def scene(ear: LiveEar, fallback: ScriptedSpeechToText) -> None:
        pcm = await say(ear, 600)
        await until(fake.live)
        asked = asyncio.ensure_future(ear.transcribe(pcm, ""))
        await until(lambda: fake.of("input_audio_buffer.commit"))
        asked.cancel()
        pcm += await say(ear, 600)
        heard = await ear.transcribe(pcm, "")
        assert heard.text == "I want a table."
        assert fallback.heard == []

    listen(fake, scene)


def test_a_lost_session_is_followed_by_one_that_hears_it_all_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(openai_live_stt, "REOPEN_MS_MIN", 10)
    fake = FakeRealtime(transcripts=["all of it"])

    async def scene(ear: LiveEar, fallback: ScriptedSpeechToText) -> None:
        pcm = await say(ear, 600)
        await until(fake.live)
        await until(lambda: len(fake.of("input_audio_buffer.append")) == 6)
        await fake.live()[0].connection.close(1011)
        await until(lambda: len(fake.sessions) == 2)
        pcm += await say(ear, 200)
        await until(lambda: len(fake.of("input_audio_buffer.append")) == 14)
        assert (await ear.transcribe(pcm, "")).text == "all of it"
        (item,) = fake.sessions[1].items.values()
        assert item.ms >= 700, "the audio of both sessions"

    listen(fake, scene)


@pytest.mark.parametrize("case", ["refused", "wrong key", "mute", "closed"])
def test_without_a_session_the_other_provider_is_asked(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openai_live_stt, "FINAL_MS", 200)
    fake = FakeRealtime(refuse=503 if case == "refused" else 0, mute=case in ("mute", "closed"))

    async def scene(ear: LiveEar, fallback: ScriptedSpeechToText) -> None:
        pcm = await say(ear, 400)
        if case in ("mute", "closed"):
            await until(fake.live)
        asked = asyncio.ensure_future(ear.transcribe(pcm, "en"))
        if case == "closed":
            await until(lambda: fake.of("input_audio_buffer.commit"))
            await fake.live()[0].connection.close(1001)
        assert (await asked).text == "the other provider's"
        assert fallback.heard == [len(pcm)]
        with pytest.raises(ProviderError):
            await ear.transcribe(pcm, "en")

    listen(fake, scene, "sk-wrong" if case == "wrong key" else "sk-test")


@pytest.mark.live
def test_the_real_service_transcribes_live(openai_key: str) -> None:
    async def play() -> None:
        audio = go_forward()
        nobody = ScriptedSpeechToText([])
        live = LiveSpeechToText(Endpoint.of(OPENAI, openai_key), "gpt-live-transcribe", nobody)
        ear = live.listen()
        for at in range(0, len(audio) - 639, 640):
            ear.feed(audio[at : at + 640])
            await asyncio.sleep(0.02)
        heard = await ear.transcribe(audio, "en")
        await ear.aclose()
        await live.aclose()
        assert "forward" in heard.text.lower()
        assert nobody.heard == [], "nobody stood in"

    asyncio.run(play())
