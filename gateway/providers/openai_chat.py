"""Chat by any server with the OpenAI chat completions API, streamed.

Text comes in pieces; a tool call comes in fragments that are joined here by their index and given
as one when the answer is complete. What it cost is asked for, since a call has a token budget.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import openai
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import ChoiceDelta

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

    def take(self, chunk: ChatCompletionChunk) -> str:
        """Its text. The library checks no answer's shape, so anything may be in it."""
        try:
            self.tokens = chunk.usage.total_tokens if chunk.usage else self.tokens
            return "".join(self._read(choice.delta) for choice in chunk.choices or ())
        except (AttributeError, TypeError) as error:
            raise ProviderError(f"{STAGE}: the answer cannot be understood") from error

    def _read(self, delta: ChoiceDelta) -> str:
        for fragment in delta.tool_calls or ():
            call = self._calls.setdefault(fragment.index, ["", "", ""])
            call[0] = fragment.id or call[0]
            if fragment.function is not None:
                call[1] += fragment.function.name or ""
                call[2] += fragment.function.arguments or ""
            if len(self._calls) > TOOL_CALLS_MAX or len(call[2]) > ARGUMENT_CHARS_MAX:
                raise ProviderError(f"{STAGE}: too many tool calls, or too long ones")
        return delta.content or ""

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
            async for chunk in stream:
                text = answer.take(chunk)
                if text:
                    yield text
        for call in answer.tool_calls():
            yield call
        if answer.tokens:
            yield answer.tokens

    async def _ask(self, request: ChatRequest) -> openai.AsyncStream[ChatCompletionChunk]:
        # As extra_body nothing is looked through by the library, which takes milliseconds of the
        # worker's loop for a long conversation; all of it is in the API's own shape already.
        body: dict[str, object] = {
            "messages": request.messages,
            "stream_options": {"include_usage": True},
            "max_completion_tokens" if self._is_openai else "max_tokens": request.tokens_max,
        }
        if request.tools:
            body["tools"] = request.tools
        return await self._client.chat.completions.create(
            model=self._model, messages=(), stream=True, extra_body=body
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.close()
