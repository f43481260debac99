"""Who is told what happens in a conversation."""

from __future__ import annotations

from typing import Protocol

from gateway.conversation.history import Role
from gateway.conversation.timing import TurnTimes
from gateway.responders.base import TakeMessage


class Observer(Protocol):
    """Who is told what happens in the conversation."""

    def said(self, role: Role, text: str, language: str) -> None:
        """A party's words: the caller's when understood, the assistant's when first heard."""
        ...

    def interrupted(self, heard_text: str) -> None:
        """The caller cut the assistant's last words short; this much of them was heard."""
        ...

    def message(self, message: TakeMessage) -> None:
        """The caller left a message."""
        ...

    def answered(self, times: TurnTimes) -> None:
        """An answer began; this is how long the caller waited for it."""
        ...

    def barged_in(self, latency_ms: int) -> None:
        """Playout stopped this long after the first voiced frame of the caller over it."""
        ...

    def resumed(self) -> None:
        """That was only a "mhm": the assistant goes on."""
        ...

    def transfer(self, number: str) -> None:
        """The caller is to be handed over to this number now."""
        ...

    def failed(self, stage: str, error: Exception) -> None:
        """A provider or responder failed."""
        ...

    def crashed(self, error: BaseException) -> None:
        """A bug of ours: the call cannot go on."""
        ...

    def hang_up(self) -> None:
        """The conversation is over."""
        ...
