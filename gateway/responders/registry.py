"""Who can answer, by name. A new responder is one entry of ``OPENERS``, and one name in settings.

An opener is called once a worker, before it is ready, and gives what all its calls share: a
client with its connections, a breaker, or nothing. What it gives makes one responder a call.
Openers import what they need themselves: a gateway that only echoes loads no HTTP client.

Whole conversations, which take the caller's frames themselves and need no pipeline, are listed
in ``gateway.reception``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from gateway.conversation.profile import Profile
from gateway.responders.base import CallInfo, Conversation, Reporter, Responder
from gateway.responders.chain import Chain, Stage
from gateway.responders.message_taker import MessageTaker
from gateway.responders.realtime_desk import Desk
from gateway.responders.transcriber import Transcriber
from gateway.settings import TRANSCRIBER, Settings
from supervisor.scoreboard import Row


class Opened(Protocol):
    """What the calls of a worker share of one kind of responder."""

    @property
    def deadline_ms(self) -> int:
        """How long its first words may take at most; 0 = as long as a turn may."""
        ...

    def responder(self, profile: Profile, call: CallInfo, reporter: Reporter) -> Responder:
        """One call's responder."""
        ...

    async def aclose(self) -> None:
        """The worker ends: close connections."""
        ...


class MessageTakers:
    """Message takers share nothing."""

    deadline_ms = 0

    def responder(self, profile: Profile, call: CallInfo, _reporter: Reporter) -> Responder:
        """One call's message taker."""
        return MessageTaker(profile, call)

    async def aclose(self) -> None:
        """Nothing is held."""


class Transcribers:
    """Transcribers share nothing."""

    deadline_ms = 0

    def responder(self, _profile: Profile, _call: CallInfo, _reporter: Reporter) -> Responder:
        """One call's transcriber."""
        return Transcriber()

    async def aclose(self) -> None:
        """Nothing is held."""


def _message_taker(_settings: Settings, _row: Row) -> Opened:
    return MessageTakers()


def _transcriber(_settings: Settings, _row: Row) -> Opened:
    return Transcribers()


def _backend(settings: Settings, _row: Row) -> Opened:
    from gateway.responders.backend import Backends

    return Backends.open(settings)


def _llm(settings: Settings, row: Row) -> Opened:
    from gateway.providers.assembly import open_chat
    from gateway.responders.llm import LanguageModels

    return LanguageModels(open_chat(settings, row), settings.max_tokens_per_call)


#: Who never fails: it follows all others, listed or not; but silence is not to be broken.
LAST = "message_taker"
NOT_FOLLOWED = frozenset({TRANSCRIBER})
#: What the caller is told when this one takes over: a sentence of the lexicon.
TAKES_OVER: Mapping[str, str] = {LAST: "take_over"}

OPENERS: Mapping[str, Callable[[Settings, Row], Opened]] = {
    "message_taker": _message_taker,
    "llm": _llm,
    "backend": _backend,
    TRANSCRIBER: _transcriber,
}


#: Takes whole calls, not turns.
REALTIME = "realtime"


class Staff:
    """The responders of a worker; ``realtime`` takes a whole call, None when no call may be its."""

    def __init__(
        self,
        opened: Mapping[str, Opened],
        realtime: Callable[[Desk], Conversation] | None = None,
    ) -> None:
        self._opened = opened
        self.realtime = realtime

    @classmethod
    def open(cls, settings: Settings, row: Row) -> Staff:
        """Open everybody who may have to answer; ``ConfigurationError`` for who cannot."""
        names = settings.responders_in_use & OPENERS.keys()
        names |= {LAST} if names else set()
        names |= {LAST} if REALTIME in settings.responders_in_use else set()
        opened = {name: OPENERS[name](settings, row) for name in names}
        if REALTIME not in settings.responders_in_use:
            return cls(opened)
        from gateway.responders.realtime import open_realtime

        return cls(opened, open_realtime(settings))

    def responder(
        self, names: Sequence[str], profile: Profile, call: CallInfo, reporter: Reporter
    ) -> Responder:
        """One call's responder: the first of ``names``, followed by the others when it fails."""
        stages = [
            Stage(
                name,
                self._opened[name].responder(profile, call, reporter),
                self._opened[name].deadline_ms,
                TAKES_OVER.get(name, ""),
            )
            for name in (names if names[0] in NOT_FOLLOWED else dict.fromkeys((*names, LAST)))
        ]
        return stages[0].responder if len(stages) == 1 else Chain(stages, reporter)

    async def aclose(self) -> None:
        """The worker ends."""
        await asyncio.gather(*(opened.aclose() for opened in self._opened.values()))
