"""What the pipeline needs of a responder: told what the caller said, it decides what to say."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from gateway.conversation.endpointing import Question


@dataclass(frozen=True, slots=True)
class Say:
    """Speak this text (a clause or more) in this language."""

    text: str
    language: str


@dataclass(frozen=True, slots=True)
class HangUp:
    """End the call once everything said before was heard."""


@dataclass(frozen=True, slots=True)
class TakeMessage:
    """Store a message of the caller's: field name -> what was understood."""

    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transfer:
    """Hand the caller over to this number once everything said before was heard."""

    number: str


Reply = Say | HangUp | TakeMessage | Transfer


@dataclass(frozen=True, slots=True)
class CallInfo:
    """What a responder knows about its call; ``transferable``: its carrier can hand it over."""

    call_id: str
    caller_number: str
    called_number: str
    language: str
    caller_name: str = ""
    transferable: bool = False


class Reporter(Protocol):
    """Who is told what a responder does besides talking."""

    def conversation_started(self, conversation_id: str) -> None:
        """Somebody else keeps this conversation too, under this id."""
        ...

    def summarised(self, summary: str) -> None:
        """What the call is about, as somebody else sums it up now."""
        ...

    def followed_by(self, responder: str) -> None:
        """Who answered has failed; this one goes on in their place."""
        ...

    def failed(self, stage: str, error: Exception) -> None:
        """A provider or responder failed."""
        ...


class Responder(Protocol):
    """One call's conversation. Methods may be slow; the caller of them cancels on barge-in."""

    @property
    def question(self) -> Question:
        """What kind of answer is expected now, for the endpointing."""
        ...

    def greet(self) -> AsyncGenerator[Reply, None]:
        """What to say when the call begins."""
        ...

    def answer(self, text: str, language: str) -> AsyncGenerator[Reply, None]:
        """What to say to a caller's utterance."""
        ...

    def digits(self, digits: str) -> AsyncGenerator[Reply, None]:
        """What to say to keypad input."""
        ...

    def part(self, language: str) -> AsyncGenerator[Reply, None]:
        """The last words, when the call must end although nobody wants it to."""
        ...

    def heard(self, text: str) -> None:
        """The caller cut the last reply short after hearing this much of it.

        Nothing ("") before a new ``answer``: they had not finished, and all of it comes again.
        """
        ...

    def pending(self) -> TakeMessage | None:
        """What was taken down but not handed over yet; asked for when the call ends half-way."""
        ...

    async def aclose(self) -> None:
        """The call is over: release what is held."""
        ...


class Conversation(Protocol):
    """What happens in a call between the caller's frames and the assistant's; one a call."""

    def start(self) -> None:
        """The call begins."""
        ...

    def hear(self, pcm: bytes, probability: float, level: float) -> None:
        """One caller frame: 16 kHz PCM16, speech probability 0..1, RMS level of full scale."""
        ...

    def digit(self, digit: str) -> None:
        """The caller pressed a key."""
        ...

    def heard_all(self) -> None:
        """The caller has heard everything that was said."""
        ...

    def say_goodbye(self) -> bool:
        """The call must end: say so, then hang up. False when nothing will be said."""
        ...

    async def aclose(self) -> None:
        """The call is over."""
        ...
