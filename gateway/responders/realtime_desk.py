"""What a Realtime conversation is given for one call; light enough for everybody to import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateway.conversation.history import Role
from gateway.conversation.language import ReplyLanguage
from gateway.conversation.profile import Profile
from gateway.conversation.timing import TurnTimes
from gateway.player import Player
from gateway.responders.base import CallInfo, Conversation, TakeMessage


class Told(Protocol):
    """Who is told what happens in the call (the part of the pipeline's observer we need)."""

    def said(self, role: Role, text: str, language: str) -> None:
        """A party's words."""
        ...

    def interrupted(self, heard_text: str) -> None:
        """Of the assistant's last words only these were heard."""
        ...

    def message(self, message: TakeMessage) -> None:
        """The caller left a message."""
        ...

    def answered(self, times: TurnTimes) -> None:
        """An answer began."""
        ...

    def barged_in(self, latency_ms: int) -> None:
        """Playout stopped this long after the caller's first voiced frame."""
        ...

    def transfer(self, number: str) -> None:
        """The caller is to be handed over now."""
        ...

    def failed(self, stage: str, error: Exception) -> None:
        """The service failed; the call goes on."""
        ...

    def crashed(self, error: BaseException) -> None:
        """A bug of ours."""
        ...

    def hang_up(self) -> None:
        """The conversation is over."""
        ...


@dataclass(frozen=True, slots=True)
class Desk:
    """One call: whom it is for, and who takes it when the model cannot."""

    call: CallInfo
    profile: Profile
    language: ReplyLanguage
    player: Player
    told: Told
    stand_in: Callable[[], Conversation]
