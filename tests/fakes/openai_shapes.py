"""What travels between OpenAI's HTTP API and its users: forms, events, chunks; for the fake."""

from __future__ import annotations

import functools
from typing import Any

from openai.types.chat import ChatCompletionChunk


def form_fields(content_type: str, body: bytes) -> dict[str, Any]:
    """The fields of a multipart form; a list where a name has [] behind it."""
    boundary = content_type.partition("boundary=")[2].strip('"').encode()
    found: dict[str, Any] = {}
    for part in body.split(b"--" + boundary)[1:-1]:
        head, _, value = part.removesuffix(b"\r\n").partition(b"\r\n\r\n")
        name = head.partition(b'name="')[2].partition(b'"')[0].decode()
        if name.endswith("[]"):
            found.setdefault(name[:-2], []).append(value.decode())
        else:
            found[name] = value if name == "file" else value.decode()
    return found


def sse_event(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


def chat_chunk(
    delta: dict[str, Any] | None, finish: str | None = None, usage: tuple[int, int] | None = None
) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    fields: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "fake",
        "choices": [] if delta is None else [choice],
    }
    if usage is not None:
        prompt, completion = usage
        fields["usage"] = {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
        }
    return ChatCompletionChunk.model_validate(fields).model_dump_json()


@functools.lru_cache(maxsize=1024)
def word_chunk(word: str) -> str:
    return chat_chunk({"content": word})


def tool_deltas(index: int, call: dict[str, str]) -> list[dict[str, Any]]:
    """One tool call in fragments, as the real API cuts it."""
    arguments = call["arguments"]
    half = len(arguments) // 2
    first = {
        "index": index,
        "id": f"call_{index}",
        "type": "function",
        "function": {"name": call["name"], "arguments": ""},
    }
    rest = [
        {"index": index, "function": {"arguments": part}}
        for part in (arguments[:half], arguments[half:])
    ]
    return [{"tool_calls": [one]} for one in (first, *rest)]
