"""What the pipeline needs of a responder: it is told what the caller said and decides what to say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Protocol


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


Reply = Say | HangUp | TakeMessage


@dataclass(frozen=True, slots=True)
class CallInfo:
    """What a responder knows about its call."""

    call_id: str
    caller_number: str
    called_number: str
    language: str


class Responder(Protocol):
    """One call's conversation. Methods may be slow; the caller of them cancels on barge-in."""

    def greet(self) -> AsyncIterator[Reply]:
        """What to say when the call begins."""
        ...

    def answer(self, text: str, language: str) -> AsyncIterator[Reply]:
        """What to say to a caller's utterance."""
        ...

    def digits(self, digits: str) -> AsyncIterator[Reply]:
        """What to say to keypad input."""
        ...

    async def aclose(self) -> None:
        """The call is over: store what was not stored yet, release what is held."""
        ...
