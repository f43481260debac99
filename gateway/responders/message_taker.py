"""Takes a message: asks for reason, name and number, reads back, stores. Needs nothing but itself.

A thin shell around ``conversation.message_form``, which decides. Keypad entries come complete:
the pipeline collects keys and passes them on at ``#`` (which may be part of the entry) or after a
pause. A message is yielded once, before the goodbye; what a caller said who hung up before that
is what ``pending`` returns, for the pipeline to store at the end of the call.
"""

from __future__ import annotations

import copy
from collections.abc import AsyncGenerator, Iterator, Mapping

from gateway.conversation.endpointing import Question
from gateway.conversation.language import normalise
from gateway.conversation.lexicon import lexicon
from gateway.conversation.message_form import EXPECTS, MessageForm, Response, render
from gateway.conversation.profile import Profile
from gateway.responders.base import CallInfo, HangUp, Reply, Say, TakeMessage
from gateway.responders.opening import first_language, opening

#: Which of the profile's questions stand in for which sentence.
_OVERRIDES = {"offer": "offer", "ask_reason": "reason", "ask_name": "name", "ask_number": "number"}


class MessageTaker:
    """The Responder that takes one call's message."""

    def __init__(self, profile: Profile, call: CallInfo) -> None:
        self._profile = profile
        self._language = first_language(profile, call)
        self._form = MessageForm(call.caller_number)
        #: The form before the last answer, while that can be taken back.
        self._before: MessageForm | None = None

    @property
    def question(self) -> Question:
        """What kind of answer is expected now, for the endpointing."""
        return EXPECTS[self._form.state]

    async def greet(self) -> AsyncGenerator[Reply, None]:
        """The greeting, what is offered, the first question."""
        for reply in (
            *opening(self._profile, self._language),
            *self._replies(self._form.begin()),
        ):
            yield reply

    async def answer(self, text: str, language: str) -> AsyncGenerator[Reply, None]:
        """Take an utterance; ``language`` is the one to reply in, "" = the one as before."""
        self._language = normalise(language) or self._language
        self._before = copy.deepcopy(self._form)
        response = self._form.hear(text, self._language)
        if response.message is not None or response.hang_up:
            self._before = None
        for reply in self._replies(response):
            yield reply

    async def digits(self, digits: str) -> AsyncGenerator[Reply, None]:
        """Take a complete keypad entry, with or without the ``#`` that ended it."""
        self._before = None
        for reply in self._replies(self._form.press(digits)):
            yield reply

    async def part(self, language: str) -> AsyncGenerator[Reply, None]:
        """Ask the caller to call again; what was said so far is in ``pending``."""
        self._language = normalise(language) or self._language
        yield self._say(self._sentence("parting"), {})

    def heard(self, text: str) -> None:
        """A question that was cut short counts as asked: the caller answers it.

        One of which nothing was heard does not: the caller had not finished, and the whole of
        what they say is yet to come.
        """
        if not text and self._before is not None:
            self._form = self._before
        self._before = None

    def pending(self) -> TakeMessage | None:
        """What the caller said and was not yielded as a message; None when there is nothing."""
        fields = self._form.partial()
        return TakeMessage(dict(fields)) if fields is not None else None

    async def aclose(self) -> None:
        """Nothing is held; the message of a caller who hung up is in ``pending``."""

    def _replies(self, response: Response) -> Iterator[Reply]:
        if response.message is not None:
            yield TakeMessage(dict(response.message))
        for prompt in response.prompts:
            yield self._say(self._sentence(prompt.sentence), prompt.values)
        if response.hang_up:
            yield HangUp()

    def _sentence(self, sentence: str) -> str:
        own = self._profile.questions.get(self._language, {}).get(_OVERRIDES.get(sentence, ""))
        return own or lexicon(self._language).sentences[sentence]

    def _say(self, sentence: str, values: Mapping[str, str]) -> Say:
        business = self._profile.business(self._language)
        return Say(render(sentence, values, self._language, business), self._language)
