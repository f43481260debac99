"""Who takes a call: responder, profile and language, chosen from what the carrier says of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from gateway.conversation.care import CallPolicy
from gateway.conversation.language import LANGUAGES, ReplyLanguage
from gateway.conversation.profile import Profile, choose
from gateway.observer import Observer
from gateway.pipeline import Pipeline
from gateway.player import Player
from gateway.providers.base import Speech
from gateway.providers.for_call import Attuned, Voiced
from gateway.responders.base import CallInfo, Conversation, Reporter
from gateway.responders.echo import Echo
from gateway.responders.realtime_desk import Desk
from gateway.responders.recital import Recital, passage
from gateway.responders.registry import LAST, REALTIME, Staff
from gateway.settings import Settings
from gateway.wire.events import StreamStarted
from supervisor.scoreboard import Row

RECITAL = "recital"


class Witness(Observer, Reporter, Protocol):
    """Who is told everything that happens in a call."""


@dataclass(frozen=True, slots=True)
class Choice:
    """How one call will be taken. ``responders``: who answers, and who follows when they fail."""

    responders: tuple[str, ...]
    profile: Profile
    language: ReplyLanguage
    call: CallInfo


@dataclass(frozen=True, slots=True)
class Seat:
    """What a conversation without a pipeline is made of."""

    settings: Settings
    row: Row
    choice: Choice
    player: Player
    witness: Witness


#: Conversations that take the caller's frames themselves, by the name of the responder.
CONVERSATIONS: Mapping[str, Callable[[Seat], Conversation]] = {
    "echo": lambda seat: Echo(seat.player, seat.row),
    RECITAL: lambda seat: Recital(seat.player, seat.choice.call.call_id, seat.witness.crashed),
}


class Reception:
    """Makes the conversation of each call. ``speech`` is None when nobody needs one."""

    def __init__(
        self,
        settings: Settings,
        row: Row,
        profiles: Mapping[str, Profile],
        speech: Speech | None,
        staff: Staff,
    ) -> None:
        self._settings = settings
        self._row = row
        self._profiles = profiles
        self._speech = speech
        self._staff = staff
        if RECITAL in settings.responders_in_use:
            passage()  # it takes milliseconds: not while calls are up
        #: Languages that have a voice; all of them until the speech server says otherwise.
        self.spoken: Collection[str] = LANGUAGES

    def choose(self, started: StreamStarted, *, transferable: bool = False) -> Choice:
        """Decide who takes the call. Callers may pick a responder only from an allow-list."""
        settings, told = self._settings, started.parameters
        asked = told.get("responder", "")
        picked = asked in settings.caller_responder_names
        responders = (asked,) if picked else settings.responder_names
        called_number = told.get("to", told.get("To", ""))
        profile = choose(self._profiles, called_number)
        hint = started.language_hint or profile.language or settings.language
        language = ReplyLanguage(hint, default=settings.language, spoken=self.spoken)
        call = CallInfo(
            call_id=started.call_id,
            caller_number=told.get("from", told.get("From", "")),
            called_number=called_number,
            language=language.reply,
            caller_name=told.get("callerName", told.get("CallerName", "")),
            transferable=transferable,
        )
        return Choice(responders, profile, language, call)

    def conversation(self, choice: Choice, player: Player, witness: Witness) -> Conversation:
        """Put the conversation together; its session starts it."""
        make = CONVERSATIONS.get(choice.responders[0])
        if make is not None:
            return make(Seat(self._settings, self._row, choice, player, witness))
        if choice.responders[0] == REALTIME:
            return self._realtime(choice, player, witness)
        return self._pipeline(choice.responders, choice, player, witness)

    def _realtime(self, choice: Choice, player: Player, witness: Witness) -> Conversation:
        """The model's conversation; who follows it takes over when it cannot be had."""
        followers = choice.responders[1:] or (LAST,)
        assert self._staff.realtime is not None, "nobody opened it"

        def stand_in() -> Conversation:
            witness.followed_by(followers[0])
            return self._pipeline(followers, choice, player, witness)

        call, profile, language = choice.call, choice.profile, choice.language
        return self._staff.realtime(Desk(call, profile, language, player, witness, stand_in))

    def _pipeline(
        self, names: tuple[str, ...], choice: Choice, player: Player, witness: Witness
    ) -> Conversation:
        assert self._speech is not None, "a speaking responder without providers"
        responder = self._staff.responder(names, choice.profile, choice.call, witness)
        worker, usual = self._speech, choice.profile.voice
        speech = Speech(
            Attuned(worker.stt, choice.profile.keywords),
            Voiced(worker.tts, usual),
            lambda language, voice: worker.apology(language, voice or usual),
            worker.turn_model,
        )
        settings = self._settings
        policy = CallPolicy(
            barge_in_after_ms=settings.barge_in_after_ms,
            filler_after_ms=settings.filler_after_ms,
            idle_prompt_ms=settings.idle_prompt_ms,
            max_call_ms=settings.max_call_ms,
        )
        return Pipeline(speech, responder, player, witness, choice.language, policy)
