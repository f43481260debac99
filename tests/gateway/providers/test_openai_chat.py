"""Chat over real HTTP: text as it comes, tool calls whole, whatever the server sends."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from gateway.errors import ProviderError
from gateway.providers.base import ChatRequest, ToolCall
from gateway.providers.openai_chat import OpenAIChat
from gateway.server_settings import OPENAI
from tests.fakes.openai_http import KEY, FakeOpenAI, Fault, Script
from tests.fakes.openai_shapes import chat_chunk, sse_event
from tests.gateway.providers.rig import with_fake
from tests.gateway.providers.stand_in import CHUNKED, CHUNKS_END, chunk, raw, standing_in

TOOL = {"type": "function", "function": {"name": "hang_up", "parameters": {"type": "object"}}}
REQUEST = ChatRequest([{"role": "user", "content": "Hi"}], [TOOL], 99)


def chat_with(url: str, *, is_openai: bool = False) -> OpenAIChat:
    return OpenAIChat(base_url=url, api_key=KEY, model="gpt-6-luna", is_openai=is_openai)


async def everything(chat: OpenAIChat) -> list[str | ToolCall | int]:
    try:
        return [item async for item in chat.converse(REQUEST)]
    finally:
        await chat.aclose()


@pytest.mark.parametrize(
    ("is_openai", "limit"), [(True, "max_completion_tokens"), (False, "max_tokens")]
)
def test_text_comes_in_pieces_and_the_cost_at_the_end(limit: str, *, is_openai: bool) -> None:
    async def check(fake: FakeOpenAI) -> None:
        *pieces, tokens = await everything(chat_with(fake.url, is_openai=is_openai))
        assert pieces == ["Good ", "day. "]
        assert tokens == 22
        assert fake.asked[0][1] == {
            "model": "gpt-6-luna",
            "messages": REQUEST.messages,
            "tools": [TOOL],
            "stream": True,
            "stream_options": {"include_usage": True},
            limit: 99,
        }

    with_fake(check, Script(answer="Good day."))


def test_tool_calls_are_put_together() -> None:
    calls = [
        {"name": "hang_up", "arguments": "{}"},
        {"name": "take_message", "arguments": '{"name": "Ann"}'},
    ]

    async def check(fake: FakeOpenAI) -> None:
        *found, _ = await everything(chat_with(fake.url))
        assert found == [
            ToolCall("call_0", "hang_up", "{}"),
            ToolCall("call_1", "take_message", '{"name": "Ann"}'),
        ]

    with_fake(check, Script(tool_calls=[calls]))


@pytest.mark.parametrize("kind", ["garbage", "shape", "error", "reset", "oversized"])
def test_what_breaks_is_a_provider_error_after_what_came(kind: str) -> None:
    async def check(fake: FakeOpenAI) -> None:
        heard: list[object] = []
        chat = chat_with(fake.url)

        async def listen() -> None:
            async for item in chat.converse(REQUEST):
                heard.append(item)  # noqa: PERF401 - what came before the error is kept

        with pytest.raises(ProviderError) as raised:
            await listen()
        assert KEY not in str(raised.value)
        assert heard == ["Good "]
        await chat.aclose()

    size = len(sse_event(chat_chunk({"content": "Good "})))
    script = Script(answer="Good day.", faults=[Fault("llm", kind=kind, after_bytes=size)])
    with_fake(check, script)


def test_endless_arguments_are_refused() -> None:
    part = b'{"index":0,"function":{"arguments":"%s"}}' % (b"x" * 10_000)
    event = b'data: {"choices":[{"index":0,"delta":{"tool_calls":[%s]}}]}\n\n' % part

    async def check() -> None:
        async with standing_in(raw(CHUNKED + chunk(event) * 3 + CHUNKS_END)) as server:
            with pytest.raises(ProviderError, match="too long"):
                await everything(chat_with(server.url))

    asyncio.run(check())


def test_who_stops_listening_aborts_the_request() -> None:
    async def check(fake: FakeOpenAI) -> None:
        chat = chat_with(fake.url)
        async with aclosing(chat.converse(REQUEST)) as stream:
            assert await anext(stream) == "one "
        await asyncio.wait_for(fake.left.wait(), 20)
        await chat.aclose()

    with_fake(check, Script(answer="one two three", token_ms=200))


@pytest.mark.live
def test_the_real_service_converses(openai_key: str) -> None:
    async def check() -> None:
        chat = OpenAIChat(base_url=OPENAI, api_key=openai_key, model="gpt-6-luna", is_openai=True)
        *pieces, tokens = await everything(chat)
        assert "".join(str(piece) for piece in pieces)
        assert isinstance(tokens, int)

    asyncio.run(check())
