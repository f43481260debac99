"""The three stages as the rest of the gateway sees them: each with all of its servers behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Protocol

from gateway.providers.base import (
    Chat,
    ChatRequest,
    Ear,
    TextToSpeech,
    ToolCall,
    Transcript,
    UtteranceEar,
)
from gateway.providers.deadlines import CHAT_PATIENCE, STT_PATIENCE, TTS_PATIENCE, Patience
from gateway.providers.routes import Routes, Server
from supervisor.scoreboard import Row


class Transcriber(Protocol):
    """One server's speech-to-text: a stream of one transcript."""

    def transcribe(
        self, pcm: bytes, language: str, keywords: Sequence[str] = ()
    ) -> AsyncGenerator[Transcript, None]:
        """Transcribe 16 kHz PCM. Raises ProviderError."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


class RoutedSpeechToText:
    """A ``SpeechToText`` of several servers."""

    def __init__(
        self, servers: Sequence[Transcriber], row: Row, patience: Patience = STT_PATIENCE
    ) -> None:
        self._routes = Routes("stt", patience, servers, row)

    def listen(self, keywords: Sequence[str] = ()) -> Ear:
        """An ear for one call."""
        return UtteranceEar(self, keywords)

    async def transcribe(
        self, pcm: bytes, language: str, keywords: Sequence[str] = ()
    ) -> Transcript:
        """Transcribe 16 kHz PCM; ``language`` "" = decide. Raises ``ProviderError``."""

        def start(server: Server[Transcriber]) -> AsyncGenerator[Transcript, None]:
            return server.provider.transcribe(pcm, language, keywords)

        async with aclosing(self._routes.ask(start)) as stream:
            return await anext(stream)

    async def aclose(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(server.provider.aclose() for server in self._routes.servers))


class RoutedTextToSpeech:
    """A ``TextToSpeech`` of several servers. A voice by name is one of the first server's."""

    def __init__(
        self, servers: Sequence[TextToSpeech], row: Row, patience: Patience = TTS_PATIENCE
    ) -> None:
        self._routes = Routes("tts", patience, servers, row)

    def speak(self, text: str, language: str, voice: str = "") -> AsyncGenerator[bytes, None]:
        """Stream 24 kHz PCM. Raises ``ProviderError``."""

        def start(server: Server[TextToSpeech]) -> AsyncGenerator[bytes, None]:
            return server.provider.speak(text, language, "" if server.index else voice)

        return self._routes.ask(start)

    async def aclose(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(server.provider.aclose() for server in self._routes.servers))


class RoutedChat:
    """A ``Chat`` of several servers."""

    def __init__(
        self, servers: Sequence[Chat], row: Row, patience: Patience = CHAT_PATIENCE
    ) -> None:
        self._routes = Routes("llm", patience, servers, row)

    def converse(self, request: ChatRequest) -> AsyncGenerator[str | ToolCall | int, None]:
        """Text, tool calls, tokens. Raises ``ProviderError``."""
        return self._routes.ask(lambda server: server.provider.converse(request))

    async def aclose(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(server.provider.aclose() for server in self._routes.servers))
