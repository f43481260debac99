"""What the pipeline needs of a provider, as Protocols. PCM is 16-bit little endian, mono."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was heard: ``text`` "" is no speech, ``language`` is ``en``, ``ar``, ``ru`` or ""."""

    text: str
    language: str


class Ear(Protocol):
    """One call's speech-to-text: it hears every frame, and is asked for the text at a pause."""

    def feed(self, pcm: bytes) -> None:
        """Take the caller's next frame (16 kHz PCM16), speech or not, as it comes."""
        ...

    async def transcribe(self, pcm: bytes, language: str) -> Transcript:
        """Text of the utterance so far, of which ``pcm`` is all audio; "" = decide the language.

        May be cancelled because the caller goes on, and asked again with more audio. Raises
        ProviderError.
        """
        ...

    def forget(self) -> None:
        """The utterance was answered or dropped: what is fed from now on belongs to the next."""
        ...

    async def aclose(self) -> None:
        """The call is over."""
        ...


class SpeechToText(Protocol):
    """Turns one utterance into text."""

    def listen(self, keywords: Sequence[str] = ()) -> Ear:
        """An ear for one call, in which these names and words are likely to be said."""
        ...

    async def transcribe(
        self, pcm: bytes, language: str, keywords: Sequence[str] = ()
    ) -> Transcript:
        """Transcribe 16 kHz PCM; ``language`` "" = decide. Raises ProviderError."""
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


class UtteranceEar:
    """The ear of a provider that takes whole utterances: nothing is sent before a pause."""

    __slots__ = ("_keywords", "_stt")

    def __init__(self, stt: SpeechToText, keywords: Sequence[str] = ()) -> None:
        self._stt = stt
        self._keywords = keywords

    def feed(self, pcm: bytes) -> None:
        """The utterance comes as a whole."""

    async def transcribe(self, pcm: bytes, language: str) -> Transcript:
        """Send it."""
        return await self._stt.transcribe(pcm, language, self._keywords)

    def forget(self) -> None:
        """Nothing is held."""

    async def aclose(self) -> None:
        """Nothing is held."""


class TextToSpeech(Protocol):
    """Turns text into speech."""

    def speak(self, text: str, language: str, voice: str = "") -> AsyncGenerator[bytes, None]:
        """Stream 24 kHz PCM, any chunk size, whole samples; ``voice`` "" = the usual one.

        Closing the stream stops the synthesis. Raises ProviderError.
        """
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


@dataclass(frozen=True, slots=True)
class Speech:
    """The two providers of a conversation, and what is heard where the second one fails.

    ``apology``: language and voice -> 24 kHz PCM, at once; "" = the usual voice. ``turn_model``
    there may be as well.
    """

    stt: SpeechToText
    tts: TextToSpeech
    apology: Callable[[str, str], bytes] = lambda _language, _voice: b""
    turn_model: TurnModel | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What a language model wants done; ``arguments`` is its JSON, which may be anything."""

    id: str
    name: str
    arguments: str


#: One message of a chat in the API's own shape, for example role and content.
ChatMessage = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a language model is asked: the conversation, and the tools it may use."""

    messages: Sequence[ChatMessage]
    tools: Sequence[Mapping[str, object]]
    tokens_max: int


class Chat(Protocol):
    """A language model that answers in text, as it goes."""

    def converse(self, request: ChatRequest) -> AsyncGenerator[str | ToolCall | int, None]:
        """Pieces of text, then what it wants done, then the tokens it all cost, if it tells.

        Closing the stream aborts the request. Raises ProviderError.
        """
        ...

    async def aclose(self) -> None:
        """Release connections."""
        ...


class TurnModel(Protocol):
    """Told the end of what a caller said; believed when the words and the voice say nothing."""

    async def goes_on(self, pcm: bytes) -> bool:
        """Whether they only pause, after this 16 kHz PCM16; False when that is not known."""
        ...

    async def aclose(self) -> None:
        """The worker ends."""
        ...
