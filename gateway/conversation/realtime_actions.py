"""What a Realtime conversation asks its shell to do, and how far its session is. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from gateway.conversation.call_tools import Keep, Leave
from gateway.conversation.history import Role
from gateway.providers.realtime_events import JsonObject


@dataclass(frozen=True, slots=True)
class Send:
    """Send this event to the server."""

    event: JsonObject


@dataclass(frozen=True, slots=True)
class Play:
    """Audio of the assistant's, to be heard after all before it."""

    audio: bytes


@dataclass(frozen=True, slots=True)
class Said:
    """A party's words, once they were understood or begun to be heard."""

    role: Role
    text: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Of the assistant's last words only these were heard."""

    heard_text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Something of the server's failed; the call goes on."""

    reason: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Somebody else must take the call."""

    reason: str


class Do(Enum):
    """Actions that need no more words."""

    CUT = auto()  # stop playout; tell ``cut`` how much was heard
    END_ITEM = auto()  # an item is complete: fill up its last frame
    END_UTTERANCE = auto()  # nothing more is coming: call ``all_heard`` when it was heard
    REPLAY = auto()  # the session is ready: send what the caller said and no session has taken
    TAKEN = auto()  # the server has taken what the caller said so far
    ANSWERING = auto()  # the first audio of an answer came
    REOPEN = auto()  # leave this session and connect anew


Action = Send | Play | Said | Interrupted | Failed | GiveUp | Keep | Leave | Do


class Phase(Enum):
    """How far the session is."""

    OPENING = auto()  # no connection yet
    CONFIGURING = auto()  # the session was told what it is to be
    LIVE = auto()
    OVER = auto()  # given up, or left
