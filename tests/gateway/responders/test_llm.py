"""A language model answers: the real client, a fake server, tools that are checked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from gateway.conversation.profile import Profile
from gateway.errors import ProviderError
from gateway.limits import CHAT_ROUNDS_MAX
from gateway.providers.openai_chat import OpenAIChat
from gateway.providers.routed import RoutedChat
from gateway.responders.base import CallInfo, HangUp, Reply, Say, TakeMessage, Transfer
from gateway.responders.llm import LanguageModel, LanguageModels
from tests.fakes.openai_http import KEY, FakeOpenAI, Fault, Script
from tests.gateway.providers.rig import HASTE, make_row, with_fake
from tests.gateway.responders.reports import Reports

CALL = CallInfo("CA1", "+15551234567", "+15550000000", "en")
PROFILE = Profile(
    business_name="Riverside Clinic",
    facts=("Parking is behind the house.",),
    transfer_targets={"sales": "+15559999999"},
)
MESSAGE = '{"name": "Ann", "reason": "a recipe"}'


def talk(
    check: Callable[[LanguageModel, FakeOpenAI], Awaitable[None]],
    script: Script | None = None,
    *,
    profile: Profile = PROFILE,
    tokens_max: int = 0,
) -> None:
    async def go(fake: FakeOpenAI) -> None:
        server = OpenAIChat(base_url=fake.url, api_key=KEY, model="gpt-6-luna", is_openai=True)
        models = LanguageModels(RoutedChat([server], make_row(), HASTE), tokens_max)
        await check(models.responder(profile, CALL, Reports()), fake)
        await models.aclose()

    with_fake(go, script)


async def replies(stream: AsyncGenerator[Reply, None]) -> list[Reply]:
    return [reply async for reply in stream]


def calls(name: str, arguments: str = "{}", **more: str) -> list[dict[str, str]]:
    return [{"name": name, "arguments": arguments, **more}]


def asked(fake: FakeOpenAI) -> list[dict[str, Any]]:
    """The messages of the last request."""
    found: list[dict[str, Any]] = fake.asked[-1][1]["messages"]
    return found


def test_it_greets_by_itself_and_answers_clause_by_clause() -> None:
    async def check(model: LanguageModel, fake: FakeOpenAI) -> None:
        greeting = await replies(model.greet())
        assert greeting[0] == Say("Hello, you have reached Riverside Clinic.", "en")
        assert not fake.asked
        said = await replies(model.answer("When are you open?", "en"))
        assert said == [Say("We are open from nine.", "en"), Say("Anything else?", "en")]
        system, hello, question = asked(fake)
        assert "behind the house" in system["content"]
        assert hello["role"] == "assistant"
        assert question == {"role": "user", "content": "When are you open?"}
        await replies(model.digits("12"))
        assert asked(fake)[-1]["content"] == "(typed on the keypad: 12)"

    talk(check, Script(answer="We are open from nine. Anything else?"))


def test_it_remembers_what_was_heard_and_stops_when_interrupted() -> None:
    async def check(model: LanguageModel, fake: FakeOpenAI) -> None:
        async with aclosing(model.answer("When?", "ru")) as stream:
            assert await anext(stream) == Say("We are open from nine.", "ru")
        await asyncio.wait_for(fake.left.wait(), 20)
        model.heard("We are open")
        await replies(model.answer("From when?", "ru"))
        assert [m["content"] for m in asked(fake)[1:]] == ["When?", "We are open", "From when?"]
        assert "Russian" in asked(fake)[0]["content"]

    talk(check, Script(answer="We are open from nine. Until five. And more.", token_ms=40))


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        (calls("hang_up", with_text="yes"), [Say("Bye bye.", "en"), HangUp()]),
        (calls("hang_up"), [Say("Thank you for calling. Goodbye.", "en"), HangUp()]),
        (
            calls("transfer_call", '{"target": "sales"}', with_text="yes"),
            [Say("Bye bye.", "en"), Transfer("+15559999999")],
        ),
        (
            calls("take_message", MESSAGE, with_text="yes"),
            [Say("Bye bye.", "en"), TakeMessage({"name": "Ann", "reason": "a recipe"})],
        ),
    ],
)
def test_what_it_wants_done_is_done(tool: list[dict[str, str]], expected: list[Reply]) -> None:
    async def check(model: LanguageModel, fake: FakeOpenAI) -> None:
        assert await replies(model.answer("Do it.", "en")) == expected
        assert fake.stages() == ["llm"]

    talk(check, Script(answer="Bye bye.", tool_calls=[tool]))


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("transfer_call", '{"target": "+1900"}', "no such target; there is sales"),
        ("transfer_call", '["sales"]', "not an object"),
        ("take_message", '{"name": "Ann"}', "ask the caller for: reason"),
        ("take_message", "{oops", "not JSON"),
        ("delete_everything", "{}", "no such function"),
    ],
)
def test_what_must_not_be_done_is_told_to_the_model(name: str, arguments: str, told: str) -> None:
    async def check(model: LanguageModel, fake: FakeOpenAI) -> None:
        assert await replies(model.answer("Do it.", "en")) == [Say("I cannot do that.", "en")]
        *_, wish, result = asked(fake)
        assert wish["tool_calls"][0]["function"] == {"name": name, "arguments": arguments}
        assert result["tool_call_id"] == "call_0"
        assert told in result["content"]

    talk(check, Script(answer="I cannot do that.", tool_calls=[calls(name, arguments)]))


def test_a_message_without_words_is_confirmed_by_asking_once_more() -> None:
    async def check(model: LanguageModel, fake: FakeOpenAI) -> None:
        said = await replies(model.answer("Tell them.", "en"))
        assert said == [TakeMessage({"name": "Ann", "reason": "a recipe"}), Say("Noted.", "en")]
        assert asked(fake)[-1] == {"role": "tool", "tool_call_id": "call_0", "content": "done"}

    talk(check, Script(answer="Noted.", tool_calls=[calls("take_message", MESSAGE)]))


def test_a_model_without_words_is_given_up_after_a_few_requests() -> None:
    async def check(model: LanguageModel, fake: FakeOpenAI) -> None:
        with pytest.raises(ProviderError, match="nothing to say"):
            await replies(model.answer("Well?", "en"))
        assert len(fake.asked) == CHAT_ROUNDS_MAX

    talk(check, Script(answer=""))


@pytest.mark.parametrize("fault", [Fault("llm", status=401), Fault("llm", kind="stall")])
def test_a_model_that_fails_leaves_the_answer_to_others(fault: Fault) -> None:
    async def check(model: LanguageModel, _: FakeOpenAI) -> None:
        with pytest.raises(ProviderError):
            await replies(model.answer("Well?", "en"))

    talk(check, Script(faults=[fault]))


def test_transfer_is_not_offered_where_nobody_may_be_called() -> None:
    async def check(model: LanguageModel, fake: FakeOpenAI) -> None:
        await replies(model.answer("Hi", "en"))
        offered = [tool["function"]["name"] for tool in fake.asked[0][1]["tools"]]
        assert offered == ["hang_up", "take_message"]

    talk(check, profile=replace(PROFILE, transfer_targets={}))


def test_a_call_that_has_cost_enough_ends_politely() -> None:
    async def check(model: LanguageModel, fake: FakeOpenAI) -> None:
        await replies(model.answer("Hi", "en"))
        *_, last = said = await replies(model.answer("And?", "en"))
        assert said[0] == Say("I am sorry, we have to end this call now. Please call again.", "en")
        assert isinstance(last, HangUp)
        assert len(fake.asked) == 1

    talk(check, tokens_max=10)


def test_an_interrupted_answer_costs_too() -> None:
    async def check(model: LanguageModel, fake: FakeOpenAI) -> None:
        async with aclosing(model.answer("When?", "en")) as stream:
            await anext(stream)
        assert model._tokens > 100
        assert fake.stages() == ["llm"]

    talk(check, Script(answer="We are open from nine. Until five.", token_ms=20))
