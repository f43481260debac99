"""Who can answer, by name. A new responder is one entry of ``OPENERS``, and one name in settings.

An opener is called once a worker, before it is ready, and gives what all its calls share: a
client with its connections, a breaker, or nothing. What it gives makes one responder a call.
Openers import what they need themselves: a gateway that only echoes loads no HTTP client.

Whole conversations, which take the caller's frames themselves and need no pipeline, are listed
in ``gateway.reception``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from gateway.conversation.profile import Profile
from gateway.responders.base import CallInfo, Conversation, Responder
from gateway.responders.message_taker import MessageTaker
from gateway.responders.realtime_desk import Desk
from gateway.settings import Settings


class Opened(Protocol):
    """What the calls of a worker share of one kind of responder."""

    def responder(self, profile: Profile, call: CallInfo) -> Responder:
        """One call's responder."""
        ...

    async def aclose(self) -> None:
        """The worker ends: close connections."""
        ...


class _MessageTakers:
    """They share nothing."""

    def responder(self, profile: Profile, call: CallInfo) -> Responder:
        return MessageTaker(profile, call)

    async def aclose(self) -> None:
        """Nothing is held."""


def _message_taker(_settings: Settings) -> Opened:
    return _MessageTakers()


OPENERS: Mapping[str, Callable[[Settings], Opened]] = {
    "message_taker": _message_taker,
}


#: Who takes a call when nobody else can; needs nothing but speech.
LAST = "message_taker"


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
    def open(cls, settings: Settings) -> Staff:
        """Open everybody who may have to answer; ``ConfigurationError`` for who cannot."""
        names = (settings.responders_in_use | {LAST}) & OPENERS.keys()
        opened = {name: OPENERS[name](settings) for name in names}
        if "realtime" not in settings.responders_in_use:
            return cls(opened)
        from gateway.responders.realtime import open_realtime

        return cls(opened, open_realtime(settings))

    def responder(self, names: tuple[str, ...], profile: Profile, call: CallInfo) -> Responder:
        """One call's responder: the first of ``names``."""
        return self._opened[names[0]].responder(profile, call)

    async def aclose(self) -> None:
        """The worker ends."""
        await asyncio.gather(*(opened.aclose() for opened in self._opened.values()))
