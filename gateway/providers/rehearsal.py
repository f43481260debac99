"""One request of each kind to a server of our own that lasts a moment, before any call.

The client library makes its types when they are first needed: 0.1 to 0.4 s in which the worker's
loop does nothing else, and every call of the worker would hear it. So that is done before the
worker is ready, by the same code that will ask the real servers.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

from gateway.errors import ProviderError
from gateway.providers.base import ChatRequest
from gateway.providers.openai_chat import OpenAIChat
from gateway.providers.openai_stt import OpenAISpeechToText
from gateway.providers.openai_tts import OpenAITextToSpeech

REHEARSAL_TIMEOUT_S = 5

_CHUNK = (
    b'data: {"id":"","object":"chat.completion.chunk","created":0,"model":"","choices":'
    b'[{"index":0,"delta":{"content":"Yes."},"finish_reason":null}],"usage":'
    b'{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}\n\ndata: [DONE]\n\n'
)
_EVENTS = b'data: {"type":"transcript.text.done","text":"Yes."}\n\ndata: [DONE]\n\n'
_TOOL = {"type": "function", "function": {"name": "nothing", "parameters": {"type": "object"}}}


def rehearse() -> None:
    """Ask once for everything; not within a running loop."""
    asyncio.run(_rehearse())


async def _rehearse() -> None:
    server = await asyncio.start_server(_answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    chat = OpenAIChat(base_url=url, api_key="", model="chat", is_openai=True)
    stt = OpenAISpeechToText(base_url=url, api_key="", model="gpt-transcribe")
    whisper = OpenAISpeechToText(base_url=url, api_key="", model="whisper")
    tts = OpenAITextToSpeech(base_url=url, api_key="", model="tts", voice="alloy")
    request = ChatRequest([{"role": "user", "content": "Well?"}], [_TOOL], 1)
    async with server:
        with suppress(TimeoutError):
            async with asyncio.timeout(REHEARSAL_TIMEOUT_S):
                await _hear_out(chat.converse(request))
                await _hear_out(stt.transcribe(bytes(640), ""))
                await _hear_out(whisper.transcribe(bytes(640), ""))
                await _hear_out(tts.speak("Well?", "en"))
        for client in (chat, stt, whisper, tts):
            await client.aclose()


async def _hear_out(stream: AsyncGenerator[object, None]) -> None:
    with suppress(ProviderError):
        async with aclosing(stream):
            async for _ in stream:
                pass


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request, one answer."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        asked = await reader.readexactly(length)
        kind, body = b"text/event-stream", _EVENTS
        if b"/chat/" in head:
            body = _CHUNK
        elif b"/speech" in head:
            kind, body = b"audio/pcm", bytes(960)
        elif b"verbose_json" in asked:
            kind, body = b"application/json", b'{"text": "Yes."}'
        writer.write(
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: %s\r\n" % kind
            + b"Content-Length: %d\r\n\r\n" % len(body)
            + body
        )
        await writer.drain()
    writer.close()
