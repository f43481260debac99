"""A chain: who fails is followed, in time, for good, and nothing is said twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import clock
from gateway.conversation.endpointing import Question
from gateway.conversation.lexicon import lexicon
from gateway.conversation.profile import Profile
from gateway.errors import ProviderError
from gateway.limits import STAGE_MS_MIN
from gateway.responders import chain as chain_module
from gateway.responders.base import CallInfo, Reply, Say, TakeMessage
from gateway.responders.chain import Chain, Stage
from gateway.responders.message_taker import MessageTaker
from tests.gateway.responders.reports import Reports

TAKE_OVER = lexicon("en").sentences["take_over"]


@dataclass
class Scripted:
    """Says its words one by one; then fails, stays silent for ever, or ends."""

    name: str
    words: int = 1
    then: str = "end"
    question: Question = Question.OPEN
    asked: int = 0
    released: int = 0
    cut: list[str] = field(default_factory=list)

    async def greet(self) -> AsyncGenerator[Reply, None]:
        self.asked += 1
        try:
            for n in range(self.words):
                yield Say(f"{self.name} {n}", "en")
            if self.then == "fail":
                raise ProviderError("it is down")
            if self.then == "hang":
                await asyncio.Event().wait()
        finally:
            self.released += 1

    def answer(self, text: str, language: str) -> AsyncGenerator[Reply, None]:
        del text, language
        return self.greet()

    def digits(self, digits: str) -> AsyncGenerator[Reply, None]:
        del digits
        return self.greet()

    def part(self, language: str) -> AsyncGenerator[Reply, None]:
        del language
        return self.greet()

    def heard(self, text: str) -> None:
        self.cut.append(text)

    def pending(self) -> TakeMessage | None:
        return TakeMessage({"by": self.name}) if self.name == "first" else None

    async def aclose(self) -> None:
        self.asked = -1


def made(*stages: Scripted, deadline_ms: int = 0) -> tuple[Chain, Reports]:
    reports = Reports()
    listed = [
        Stage(s.name, s, deadline_ms, "take_over" if s.name == "last" else "") for s in stages
    ]
    return Chain(listed, reports), reports


async def said(replies: AsyncGenerator[Reply, None]) -> list[str]:
    async with aclosing(replies):
        return [reply.text async for reply in replies if isinstance(reply, Say)]


def test_who_answers_goes_on_answering() -> None:
    first, last = Scripted("first", words=2), Scripted("last")
    chain, reports = made(first, last)
    assert asyncio.run(said(chain.greet())) == ["first 0", "first 1"]
    assert asyncio.run(said(chain.answer("a", "en"))) == ["first 0", "first 1"]
    assert (last.asked, reports.told) == (0, [])


def test_who_fails_is_followed_with_one_sentence_and_for_good() -> None:
    first, last = Scripted("first", words=0, then="fail"), Scripted("last")
    chain, reports = made(first, last)
    assert asyncio.run(said(chain.answer("a", "en"))) == [TAKE_OVER, "last 0"]
    assert reports.told == [("failed", "first: it is down"), ("followed", "last")]
    assert asyncio.run(said(chain.answer("b", "en"))) == ["last 0"]
    assert first.asked == first.released == 1
    chain.heard("la")
    assert (first.cut, last.cut) == ([], ["la"])


def test_a_greeting_that_fails_is_another_greeting_without_an_apology() -> None:
    chain, _ = made(Scripted("first", words=0, then="fail"), Scripted("last"))
    assert asyncio.run(said(chain.greet())) == ["last 0"]


def test_what_was_said_before_a_failure_is_not_said_again() -> None:
    chain, _ = made(Scripted("first", words=1, then="fail"), Scripted("last"))
    assert asyncio.run(said(chain.answer("a", "en"))) == ["first 0", TAKE_OVER, "last 0"]


def test_silence_until_the_deadline_is_a_failure() -> None:
    first, last = Scripted("first", words=0, then="hang"), Scripted("last")
    chain, reports = made(first, last, deadline_ms=STAGE_MS_MIN)
    assert asyncio.run(said(chain.answer("a", "en"))) == [TAKE_OVER, "last 0"]
    assert ("failed", "first: no answer in time") in reports.told
    assert first.released == 1, "its request was cancelled"


def test_one_budget_bounds_all_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_module, "TURN_BUDGET_MS", 5 * STAGE_MS_MIN // 2)
    slow = [Scripted(name, words=0, then="hang") for name in "abcdef"]
    chain, reports = made(*slow, Scripted("last"), deadline_ms=STAGE_MS_MIN)
    begun_ns = clock.now_ns()
    assert asyncio.run(said(chain.answer("a", "en"))) == [TAKE_OVER, "last 0"]
    assert clock.now_ns() - begun_ns >= 2 * STAGE_MS_MIN * clock.NS_PER_MS
    assert [stage.asked for stage in slow] == [1, 1, 0, 0, 0, 0], "no time was left for the others"
    assert reports.told[-1] == ("followed", "last")


def test_the_last_one_fails_aloud() -> None:
    chain, _ = made(Scripted("first", words=0, then="fail"), Scripted("last", 0, "fail"))
    with pytest.raises(ProviderError):
        asyncio.run(said(chain.answer("a", "en")))


def test_a_cancelled_turn_is_nobodys_failure() -> None:
    first = Scripted("first", words=0, then="hang")
    chain, reports = made(first, Scripted("last"))

    async def scene() -> None:
        turn = asyncio.create_task(said(chain.answer("a", "en")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert first.asked, "it has begun"
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn

    asyncio.run(scene())
    assert (first.released, reports.told) == (1, [])


def test_the_end_asks_everybody() -> None:
    stages = Scripted("first", words=0, then="fail"), Scripted("last")
    chain, _ = made(*stages)
    asyncio.run(said(chain.greet()))
    assert chain.pending() == TakeMessage({"by": "first"}), "what the first took down counts"
    asyncio.run(chain.aclose())
    assert [stage.asked for stage in stages] == [-1, -1]


@given(st.lists(st.sampled_from(["end", "fail"]), min_size=1, max_size=5), st.integers(0, 2))
def test_whatever_fails_the_caller_is_answered_once(ends: list[str], words: int) -> None:
    stages = [Scripted(f"s{n}", words, end) for n, end in enumerate(ends)]
    chain, reports = made(*stages, Scripted("last"))
    heard = asyncio.run(said(chain.answer("a", "en")))
    failures = ends.index("end") if "end" in ends else len(ends)
    assert [stage.asked for stage in stages] == [int(n <= failures) for n in range(len(ends))]
    assert len(heard) == len(set(heard))
    assert len(reports.told) == 2 * failures
    assert all(stage.released == stage.asked for stage in stages)


def test_the_message_taker_goes_on_with_the_words_that_got_no_answer() -> None:
    call = CallInfo("CA1", "", "", "en")
    taker = MessageTaker(Profile(business_name="Clinic"), call)
    first = Scripted("first", words=0, then="fail")
    chain = Chain([Stage("first", first), Stage("last", taker, takes_over="take_over")], Reports())
    heard = asyncio.run(said(chain.answer("I want to book a table", "en")))
    assert heard[0] == TAKE_OVER
    assert "I want to book a table" in heard[1]
    assert chain.question is Question.NAME
    assert taker.pending() == TakeMessage({"reason": "I want to book a table", "status": "partial"})
