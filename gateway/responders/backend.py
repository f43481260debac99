"""Lets a conversation backend answer: it keeps the conversation, the gateway listens and speaks.

With ``BACKEND_START=utterance`` the gateway greets by itself and starts the conversation when the
caller has said something, which the backend is told in ``context.firstUtterance``: its
``initialAssistantMessage`` is the answer to that. A backend that leaves it empty gets the words
once more as a message. With ``BACKEND_START=call`` the conversation starts with the call, and
``initialAssistantMessage`` is the greeting.

A conversation is started once, whatever the caller does meanwhile: one who goes on speaking
cancels the turn, not the start. One message is on its way at a time. A cancelled one may have
been acted on all the same, so its turn number is never used again, and the next message brings
all that the caller said and was not answered to.

What the backend wants done is done after its reply was heard: the pipeline sees to that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Literal

from gateway import clock
from gateway.conversation.endpointing import Question
from gateway.conversation.language import normalise
from gateway.conversation.lexicon import lexicon
from gateway.conversation.profile import Profile
from gateway.ops.log import get_logger
from gateway.providers.backend_api import Action, BackendApi, Opening, Started, Utterance
from gateway.responders.base import (
    CallInfo,
    HangUp,
    Reply,
    Reporter,
    Say,
    TakeMessage,
    Transfer,
)
from gateway.responders.opening import consent, first_language, opening, say
from gateway.settings import Settings

#: A caller who hears nothing at all hangs up: the greeting waits no longer.
GREETING_MS_MAX = 3_000

_HANG_UP = frozenset({"hangup", "endcall"})
_TRANSFER = frozenset({"transfer", "transfercall"})
_TARGETS = ("target", "to", "number", "phoneNumber")

BackendStart = Literal["utterance", "call"]

log = get_logger(__name__)


class Backends:
    """What the calls of a worker share: the client."""

    def __init__(self, api: BackendApi, *, timeout_ms: int, start: BackendStart) -> None:
        self._api = api
        self._starts_with_call = start == "call"
        self.deadline_ms = timeout_ms

    @classmethod
    def open(cls, settings: Settings) -> Backends:
        """From the settings; ``ConfigurationError`` when they cannot work."""
        api = BackendApi(
            settings.backend_api_base_url,
            key=settings.backend_api_key.get_secret_value(),
            idempotent=settings.backend_idempotent,
            quotes_keys=settings.backend_idempotency_key == "quoted",
        )
        timeout_ms = settings.backend_api_timeout_ms
        return cls(api, timeout_ms=timeout_ms, start=settings.backend_start)

    def responder(self, profile: Profile, call: CallInfo, reporter: Reporter) -> Backend:
        """One call's conversation with the backend."""
        talk = Talk(self._api, call, reporter, self.deadline_ms)
        return Backend(talk, profile, call, starts_with_call=self._starts_with_call)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._api.aclose()


class Talk:
    """One conversation with the backend: its only start, its numbered turns, one at a time."""

    def __init__(
        self, api: BackendApi, call: CallInfo, reporter: Reporter, timeout_ms: int
    ) -> None:
        self._api = api
        self._call = call
        self._reporter = reporter
        self._timeout_ms = timeout_ms
        self._log = log.bind(call=call.call_id)
        self._starting: asyncio.Task[Started] | None = None
        self._told = ""
        self._turns = 0
        self._heard_chars: int | None = None

    async def start(self, utterance: str, language: str, within_ms: int) -> Started:
        """The conversation, started if it is not yet. Raises ProviderError."""
        if self._starting is None:
            what = Opening(
                call_id=self._call.call_id,
                first_utterance=utterance,
                caller_name=self._call.caller_name,
                phone_number=self._call.caller_number,
                language_hint=language,
            )
            work = self._api.start(what, min(within_ms, self._timeout_ms), self._log)
            self._starting, self._told = asyncio.create_task(work), utterance
            self._starting.add_done_callback(self._note_start)
        return await asyncio.shield(self._starting)

    async def answer(self, text: str, language: str) -> tuple[str, tuple[Action, ...]]:
        """What to say to this, and what to do then. Raises ProviderError."""
        ends_ns = clock.now_ns() + self._timeout_ms * clock.NS_PER_MS
        started = await self.start(text, language, self._timeout_ms)
        if not self._turns and started.message and text == self._told:
            self._turns = 1
            return started.message, ()
        self._turns += 1
        utterance = Utterance(
            call_id=self._call.call_id,
            conversation_id=started.conversation_id,
            turn=self._turns,
            text=text,
            heard_chars=self._heard_chars,
        )
        self._heard_chars = None
        left_ms = (ends_ns - clock.now_ns()) // clock.NS_PER_MS
        reply = await self._api.say(utterance, max(0, left_ms), self._log)
        if reply.summary:
            self._reporter.summarised(reply.summary)
        return reply.text, reply.actions

    def heard(self, chars: int) -> None:
        """The last reply was cut short after so much of it."""
        self._heard_chars = chars

    async def aclose(self) -> None:
        """The call is over: a start that is under way has no purpose any more."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)

    def _note_start(self, starting: asyncio.Task[Started]) -> None:
        """Tell of the conversation; of a failure those are told who wait for it."""
        if not starting.cancelled() and starting.exception() is None:
            self._reporter.conversation_started(starting.result().conversation_id)


class Backend:
    """The Responder of one call."""

    def __init__(
        self, talk: Talk, profile: Profile, call: CallInfo, *, starts_with_call: bool
    ) -> None:
        self._talk = talk
        self._profile = profile
        self._call = call
        self._starts_with_call = starts_with_call
        self._language = first_language(profile, call)
        self._log = log.bind(call=call.call_id)

    @property
    def question(self) -> Question:
        """Nobody but the backend knows what it asked."""
        return Question.OPEN

    async def greet(self) -> AsyncGenerator[Reply, None]:
        """The backend's greeting, or ours and the question how to help."""
        if self._starts_with_call:
            started = await self._talk.start("", self._language, GREETING_MS_MAX)
            if started.message:
                yield Say(started.message, self._language)
            for sentence in consent(self._profile, self._language):
                yield sentence
            return
        for sentence in opening(self._profile, self._language):
            yield sentence
        yield say(self._sentence("how_help"), self._profile, self._language)

    async def answer(self, text: str, language: str) -> AsyncGenerator[Reply, None]:
        """The backend's reply, then what it wants done."""
        self._language = normalise(language) or self._language
        reply, actions = await self._talk.answer(text, self._language)
        if reply:
            yield Say(reply, self._language)
        for deed in self._deeds(actions):
            yield deed

    def digits(self, digits: str) -> AsyncGenerator[Reply, None]:
        """Keys are words to a backend."""
        return self.answer(digits.removesuffix("#") or digits, "")

    async def part(self, language: str) -> AsyncGenerator[Reply, None]:
        """The last words, when the call must end although nobody wants it to."""
        self._language = normalise(language) or self._language
        yield say(self._sentence("parting"), self._profile, self._language)

    def heard(self, text: str) -> None:
        """The backend is told with the next message."""
        self._talk.heard(len(text))

    def pending(self) -> TakeMessage | None:
        """The backend has what was said."""
        return None

    async def aclose(self) -> None:
        """The call is over."""
        await self._talk.aclose()

    def _deeds(self, actions: tuple[Action, ...]) -> Iterator[Reply]:
        """What is to be done, as far as it is known and allowed; the first end of a call counts."""
        for action in actions:
            kind = "".join(filter(str.isalpha, action.type)).casefold()
            if kind in _HANG_UP:
                self._log.info("action", action="hang-up")
                yield HangUp()
                return
            if kind not in _TRANSFER:
                self._log.info("action ignored", reason="unknown", chars=len(action.type))
            elif number := self._transfer_number(action.fields):
                self._log.info("action", action="transfer")
                yield Transfer(number)
                return

    def _transfer_number(self, fields: Mapping[str, object]) -> str:
        targets = (fields.get(name) for name in _TARGETS)
        target = next((value for value in targets if isinstance(value, str)), "")
        number = self._profile.transfer_number(target)
        if not number:
            self._log.warning("action ignored", reason="no transfer target of the profile")
        elif not self._call.transferable:
            self._log.warning("action ignored", reason="this call cannot be handed over")
            return ""
        return number

    def _sentence(self, name: str) -> str:
        return lexicon(self._language).sentences[name]
