"""Who takes a call: responder, profile and language, chosen from what the carrier says of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from gateway.conversation.care import CallPolicy
from gateway.conversation.language import LANGUAGES, ReplyLanguage
from gateway.conversation.profile import Profile, choose
from gateway.observer import Observer
from gateway.pipeline import Manner, Pipeline, Speech
from gateway.player import Player
from gateway.responders.base import CallInfo, Conversation
from gateway.responders.echo import Echo
from gateway.responders.message_taker import MessageTaker
from gateway.responders.recital import Recital, passage
from gateway.settings import Settings
from gateway.wire.events import StreamStarted
from supervisor.scoreboard import Row

ECHO = "echo"
RECITAL = "recital"


@dataclass(frozen=True, slots=True)
class Choice:
    """How one call will be taken."""

    responder: str
    profile: Profile
    language: ReplyLanguage
    call: CallInfo


class Reception:
    """Makes the conversation of each call. ``speech`` is None when nobody needs one."""

    def __init__(
        self,
        settings: Settings,
        row: Row,
        profiles: Mapping[str, Profile],
        speech: Speech | None,
    ) -> None:
        self._settings = settings
        self._row = row
        self._profiles = profiles
        self._speech = speech
        if RECITAL in {settings.responder} | settings.caller_responder_names:
            passage()  # it takes milliseconds: not while calls are up
        #: Languages that have a voice; all of them until the speech server says otherwise.
        self.spoken: Collection[str] = LANGUAGES

    def choose(self, started: StreamStarted) -> Choice:
        """Decide who takes the call. Callers may pick a responder only from an allow-list."""
        settings, told = self._settings, started.parameters
        asked = told.get("responder", "")
        responder = asked if asked in settings.caller_responder_names else settings.responder
        called_number = told.get("to", told.get("To", ""))
        profile = choose(self._profiles, called_number)
        hint = started.language_hint or profile.language or settings.language
        language = ReplyLanguage(hint, default=settings.language, spoken=self.spoken)
        call = CallInfo(
            call_id=started.call_id,
            caller_number=told.get("from", told.get("From", "")),
            called_number=called_number,
            language=language.reply,
        )
        return Choice(responder, profile, language, call)

    def conversation(self, choice: Choice, player: Player, observer: Observer) -> Conversation:
        """Put the conversation together; its session starts it."""
        if choice.responder == ECHO:
            return Echo(player, self._row)
        if choice.responder == RECITAL:
            return Recital(player, choice.call.call_id, observer.crashed)
        assert self._speech is not None, "a speaking responder without providers"
        responder = MessageTaker(choice.profile, choice.call)
        settings = self._settings
        policy = CallPolicy(
            barge_in_after_ms=settings.barge_in_after_ms,
            filler_after_ms=settings.filler_after_ms,
            idle_prompt_ms=settings.idle_prompt_ms,
            max_call_ms=settings.max_call_ms,
        )
        return Pipeline(self._speech, responder, player, observer, choice.language, Manner(policy))
