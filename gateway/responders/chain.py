"""Several responders as one: who fails is followed by the next, and the call goes on.

A turn has one budget until its first words, and each responder a deadline within it; the last one
has none, for nobody follows. One that fails after it has begun to speak is followed as well: what
it said was said, nothing is said twice.

Once followed, a responder is not asked again in this call. It has lost the thread (it did not
hear the caller's last words), the caller has been told that somebody else goes on, and its
follower is in the midst of a form of its own: a voice that changes back at every turn is worse
than one that stays. The next call asks it again; a breaker keeps that cheap while it is down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from gateway import clock
from gateway.conversation.endpointing import Question
from gateway.conversation.lexicon import lexicon
from gateway.errors import ProviderError
from gateway.limits import STAGE_MS_MIN, TURN_BUDGET_MS
from gateway.responders.base import Reply, Reporter, Responder, Say, TakeMessage


@dataclass(frozen=True, slots=True)
class Stage:
    """One responder of a chain; ``deadline_ms`` until its first words, 0 = the whole budget.

    ``takes_over`` is the sentence (its id in the lexicon) that tells the caller of the change.
    """

    name: str
    responder: Responder
    deadline_ms: int = 0
    takes_over: str = ""


class Chain:
    """A Responder made of others."""

    def __init__(self, stages: Sequence[Stage], reporter: Reporter) -> None:
        assert stages
        self._stages = tuple(stages)
        self._reporter = reporter
        self._at = 0
        self._budget_ms = max(TURN_BUDGET_MS, *(stage.deadline_ms for stage in stages))

    @property
    def question(self) -> Question:
        """What kind of answer is expected now, for the endpointing."""
        return self._now.question

    async def greet(self) -> AsyncGenerator[Reply, None]:
        """What to say when the call begins. Nobody has spoken yet: no change to tell of."""
        async with aclosing(self._turn(lambda stage: stage.greet(), "")) as replies:
            async for reply in replies:
                yield reply

    async def answer(self, text: str, language: str) -> AsyncGenerator[Reply, None]:
        """What to say to a caller's utterance."""
        turn = self._turn(lambda stage: stage.answer(text, language), language)
        async with aclosing(turn) as replies:
            async for reply in replies:
                yield reply

    async def digits(self, digits: str) -> AsyncGenerator[Reply, None]:
        """What to say to keypad input."""
        async with aclosing(self._turn(lambda stage: stage.digits(digits), "")) as replies:
            async for reply in replies:
                yield reply

    async def part(self, language: str) -> AsyncGenerator[Reply, None]:
        """The last words; who has failed does not get any."""
        async with aclosing(self._now.part(language)) as replies:
            async for reply in replies:
                yield reply

    def heard(self, text: str) -> None:
        """The caller cut the last reply short after hearing this much of it."""
        self._now.heard(text)

    def pending(self) -> TakeMessage | None:
        """What was taken down by whoever took something down last."""
        found = (stage.responder.pending() for stage in reversed(self._stages))
        return next((message for message in found if message is not None), None)

    async def aclose(self) -> None:
        """The call is over."""
        await asyncio.gather(*(stage.responder.aclose() for stage in self._stages))

    @property
    def _now(self) -> Responder:
        return self._stages[self._at].responder

    async def _turn(
        self, ask: Callable[[Responder], AsyncGenerator[Reply, None]], language: str
    ) -> AsyncGenerator[Reply, None]:
        ends_ns = clock.now_ns() + self._budget_ms * clock.NS_PER_MS
        while self._at < len(self._stages) - 1:
            stage = self._stages[self._at]
            try:
                within_ms = self._within_ms(stage, ends_ns)
                async with aclosing(_begun_within(ask(stage.responder), within_ms)) as replies:
                    async for reply in replies:
                        yield reply
                return
            except ProviderError as error:
                change = self._follow(stage, error, language)
            if change is not None:
                yield change
        async with aclosing(ask(self._now)) as replies:
            async for reply in replies:
                yield reply

    def _within_ms(self, stage: Stage, ends_ns: int) -> int:
        """What a stage gets of the budget; ProviderError when that is too little for anybody."""
        left_ms = (ends_ns - clock.now_ns()) // clock.NS_PER_MS
        within_ms = min(stage.deadline_ms or left_ms, left_ms)
        if within_ms < STAGE_MS_MIN:
            raise ProviderError("no time is left in this turn")
        return within_ms

    def _follow(self, failed: Stage, error: ProviderError, language: str) -> Say | None:
        """Let the next one go on; what the caller is told of it."""
        self._reporter.failed(failed.name, error)
        self._at += 1
        stage = self._stages[self._at]
        self._reporter.followed_by(stage.name)
        if not (language and stage.takes_over):
            return None
        return Say(lexicon(language).sentences[stage.takes_over], language)


async def _begun_within(
    replies: AsyncGenerator[Reply, None], within_ms: int
) -> AsyncGenerator[Reply, None]:
    """The same replies; ProviderError when the first is not there in time."""
    async with aclosing(replies):
        try:
            async with asyncio.timeout(within_ms / 1000):
                first = await anext(replies, None)
        except TimeoutError as error:
            raise ProviderError("no answer in time", retryable=True) from error
        if first is None:
            return
        yield first
        async for reply in replies:
            yield reply
