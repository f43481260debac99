"""The look at the servers: keys that are refused, models that are missing or end soon."""

from __future__ import annotations

import asyncio
from datetime import date

import pytest

from gateway.providers.check import Findings, look_at, servers_in_use
from gateway.providers.servers import ServerSpec
from gateway.settings import load_settings
from tests.fakes.openai_http import KEY, FakeOpenAI, Fault, Script
from tests.gateway.providers.rig import with_fake
from tests.gateway.providers.stand_in import answer, standing_in

TODAY = date(2026, 11, 26)


def spec(url: str, model: str, key: str = KEY) -> ServerSpec:
    return ServerSpec("stt", url, model, key)


def test_models_that_are_there_are_no_news_and_others_are() -> None:
    async def check(fake: FakeOpenAI) -> None:
        models = ("gpt-transcribe", "gpt-7", "gpt-6-luna")
        found = await look_at([spec(fake.url, model) for model in models], TODAY)
        assert found.faults == []
        assert found.warnings == [
            f"speech-to-text: {fake.url} does not list the model gpt-7",
            "speech-to-text: gpt-6-luna will be shut down on 2027-05-01",
        ]
        assert found.configured[0] == f"speech-to-text: {fake.url}, model gpt-transcribe"

    with_fake(check, Script(shutdown_dates={"gpt-6-luna": "2027-05-01"}))


def test_a_refused_key_is_a_fault_and_is_not_shown() -> None:
    async def check(fake: FakeOpenAI) -> None:
        found = await look_at([spec(fake.url, "whisper-1", "sk-wrong")], TODAY)
        assert found.faults == [f"{fake.url}: refuses the key (status 401)"]
        assert "sk-wrong" not in repr(found)
        assert "sk-wrong" not in repr(spec(fake.url, "whisper-1", "sk-wrong"))

    with_fake(check)


def test_a_server_without_the_list_or_without_sense_is_no_fault() -> None:
    async def check(fake: FakeOpenAI) -> None:
        assert await look_at([spec(fake.url, "x")], TODAY) == Findings(
            [f"speech-to-text: {fake.url}, model x"]
        )

    with_fake(check, Script(faults=[Fault("models", status=404)]))

    async def nonsense() -> None:
        for body in (b"", b"[]", b'{"data": 7}', b'{"data": [{"name": 1}]}'):
            async with standing_in(answer(200, body)) as server:
                assert not (await look_at([spec(server.url, "x")], TODAY)).warnings

    asyncio.run(nonsense())


def test_a_server_that_is_not_there_is_a_warning() -> None:
    found = asyncio.run(look_at([spec("http://no-such-host.invalid/v1", "x")], TODAY))
    assert found.warnings == ["http://no-such-host.invalid/v1: cannot be reached now"]


def test_our_own_speech_server_is_not_asked() -> None:
    specs = servers_in_use(load_settings(None, responder="message_taker"), "http://unused.invalid")
    assert asyncio.run(look_at(specs, TODAY)) == Findings(
        [
            "speech-to-text: our own speech server, model whisper-base",
            "text-to-speech: our own speech server, model local",
        ]
    )


@pytest.mark.parametrize(("responder", "count"), [("echo", 0), ("message_taker", 2), ("llm", 3)])
def test_only_what_somebody_needs_is_looked_at(responder: str, count: int) -> None:
    settings = load_settings(None, responder=responder, openai_api_key="sk-1")
    assert len(servers_in_use(settings, "")) == count
