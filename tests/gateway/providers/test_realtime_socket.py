"""A Realtime session as it is asked for: the fake takes it, and so should the real service."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from audio.format import Encoding
from gateway.conversation.realtime_plan import Plan, TurnDetection
from gateway.providers.realtime_socket import Endpoint, RealtimeSocket
from gateway.server_settings import OPENAI
from tests.fakes.openai_realtime import FakeRealtime, realtime_server

MODEL = "gpt-realtime-2.1-mini"


async def say_hello(endpoint: Endpoint, detection: TurnDetection) -> set[str]:
    """Set a session up, have it say something; the types of what came."""
    plan = Plan(
        voice="marin",
        encoding=Encoding.MULAW,
        turn_detection=detection,
        instructions="You are a receptionist.",
        greeting="Say hello.",
        language="en",
        transfer_targets={"sales": "+15551234567"},
    )
    socket = await RealtimeSocket.open(endpoint, model=MODEL)
    seen = set[str]()
    try:
        assert socket.send({"type": "session.update", "session": plan.session()})
        assert socket.send({"type": "response.create", "response": {"instructions": plan.greeting}})
        async with asyncio.timeout(15), aclosing(socket.events()) as events:
            async for event in events:
                assert event["type"] != "error", event
                seen.add(str(event["type"]))
                if event["type"] == "response.done":
                    break
    finally:
        await socket.aclose()
    return seen


@pytest.mark.parametrize("detection", list(TurnDetection))
def test_a_session_is_taken_as_it_is_asked_for(detection: TurnDetection) -> None:
    async def check() -> set[str]:
        async with realtime_server(FakeRealtime(key="sk-test")) as fake:
            seen = await say_hello(Endpoint.of(fake.url, "sk-test"), detection)
        assert fake.invalid == []
        return seen

    assert {"session.updated", "response.output_audio.delta"} <= asyncio.run(check())


@pytest.mark.live
@pytest.mark.parametrize("detection", list(TurnDetection))
def test_the_real_service_speaks(openai_key: str, detection: TurnDetection) -> None:
    seen = asyncio.run(say_hello(Endpoint.of(OPENAI, openai_key), detection))
    assert {"session.updated", "response.output_audio.delta"} <= seen
