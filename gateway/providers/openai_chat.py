"""Chat by any server with the OpenAI chat completions API, streamed.

Text comes in pieces; a tool call comes in fragments that are joined here by their index and given
as one when the answer is complete. What it cost is asked for, since a call has a token budget.

Request and events go past the library's models, in the API's own shape: looking through a long
conversation, and making an object tree of each token, takes milliseconds of the worker's loop
(half of a request's cost), and checks nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import openai
import orjson

from gateway.errors import ProviderError
from gateway.providers.base import ChatRequest, ToolCall
from gateway.providers.openai_client import open_client, provider_errors

STAGE = "chat"
TOOL_CALLS_MAX = 8
ARGUMENT_CHARS_MAX = 16_384


class _Answer:
    """One answer as it arrives."""

    def __init__(self) -> None:
        self.tokens = 0
        self._calls: dict[int, list[str]] = {}  # id, name and arguments by index

    def take(self, event: Any) -> str:
        """Its text. Nobody has checked its shape, so anything may be in it."""
        try:
            usage = event.get("usage") or {}
            self.tokens = int(usage.get("total_tokens") or self.tokens)
            return "".join(self._read(choice["delta"]) for choice in event.get("choices") or ())
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ProviderError(f"{STAGE}: the answer cannot be understood") from error

    def _read(self, delta: Mapping[str, Any]) -> str:
        for fragment in delta.get("tool_calls") or ():
            call = self._calls.setdefault(fragment.get("index", 0), ["", "", ""])
            call[0] = str(fragment.get("id") or call[0])
            function = fragment.get("function") or {}
            call[1] += function.get("name") or ""
            call[2] += function.get("arguments") or ""
            if len(self._calls) > TOOL_CALLS_MAX or len(call[2]) > ARGUMENT_CHARS_MAX:
                raise ProviderError(f"{STAGE}: too many tool calls, or too long ones")
        text = delta.get("content") or ""
        if not isinstance(text, str):
            raise TypeError(type(text))
        return text

    def tool_calls(self) -> list[ToolCall]:
        """What it wants done, in order."""
        return [ToolCall(*self._calls[index]) for index in sorted(self._calls)]


class OpenAIChat:
    """One server that converses."""

    def __init__(self, *, base_url: str, api_key: str, model: str, is_openai: bool = False) -> None:
        """``is_openai``: whether it knows the successor of ``max_tokens``; most others do not."""
        self._client = open_client(base_url, api_key)
        self._model = model
        self._is_openai = is_openai

    async def converse(self, request: ChatRequest) -> AsyncGenerator[str | ToolCall | int, None]:
        """Pieces of text, then tool calls, then the tokens used. Raises ``ProviderError``."""
        answer = _Answer()
        async with provider_errors(STAGE), await self._ask(request) as stream:
            async for event in stream:
                text = answer.take(event)
                if text:
                    yield text
        for call in answer.tool_calls():
            yield call
        if answer.tokens:
            yield answer.tokens

    async def _ask(self, request: ChatRequest) -> openai.AsyncStream[object]:
        body: dict[str, object] = {
            "model": self._model,
            "messages": request.messages,
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_completion_tokens" if self._is_openai else "max_tokens": request.tokens_max,
        }
        if request.tools:
            body["tools"] = request.tools
        return await self._client.post(
            "/chat/completions",
            cast_to=object,
            content=orjson.dumps(body),
            options={"headers": {"Content-Type": "application/json"}},
            stream=True,
            stream_cls=openai.AsyncStream[object],
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()
