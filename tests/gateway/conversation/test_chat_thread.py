"""A model is shown what was heard, and every tool result after its call."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation.chat_thread import ChatThread, tool_messages
from gateway.conversation.history import heard_part

SYSTEM = {"role": "system", "content": "be brief"}


def user(text: str) -> dict[str, object]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, object]:
    return {"role": "assistant", "content": text}


def test_clauses_of_an_answer_are_one_message() -> None:
    thread = ChatThread()
    thread.begin("").said += ["Hello.", "How can I help?"]
    thread.begin("Opening hours?").said += ["From nine."]
    assert thread.messages("be brief") == [
        SYSTEM,
        assistant("Hello. How can I help?"),
        user("Opening hours?"),
        assistant("From nine."),
    ]


def test_what_was_not_heard_was_not_said() -> None:
    thread = ChatThread()
    thread.begin("Why?").said += ["Because it rained.", "And it was cold."]
    thread.heard("Because it rained. And it")
    thread.begin("What?")
    assert thread.messages("be brief")[2:] == [
        assistant("Because it rained. And it"),
        user("What?"),
    ]
    thread = ChatThread()
    thread.begin("Why?").said += ["Because."]
    thread.heard("")
    assert thread.messages("be brief") == [SYSTEM, user("Why?")]


def test_the_part_of_the_last_text_alone_is_understood_too() -> None:
    thread = ChatThread()
    thread.begin("Why?").said += ["Because it rained.", "And it was cold."]
    thread.heard("And it")
    assert thread.messages("be brief")[-1] == assistant("Because it rained. And it")


def test_tool_results_stay_behind_their_calls_when_the_text_is_cut() -> None:
    thread = ChatThread()
    exchange = thread.begin("Tell them I called.")
    calls = tool_messages([("call_0", "take_message", "{}")], ["done"])
    exchange.said += ["One moment.", tuple(calls), "I have noted it."]
    thread.heard("One moment. I have")
    roles = [message["role"] for message in thread.messages("be brief")]
    assert roles == ["system", "user", "assistant", "assistant", "tool"]
    assert thread.messages("be brief")[4]["tool_call_id"] == "call_0"


def test_a_caller_who_goes_on_before_an_answer_is_one_utterance() -> None:
    thread = ChatThread()
    thread.begin("I want")
    thread.begin("I want a coffee").is_answered = True
    assert thread.messages("be brief")[1:] == [user("I want a coffee")]
    thread.begin("I want a coffee")
    assert thread.messages("be brief")[1:] == [user("I want a coffee")] * 2


def test_the_oldest_are_forgotten() -> None:
    thread = ChatThread(exchanges_max=2)
    for text in "abc":
        thread.begin(text).is_answered = True
    assert thread.messages("be brief") == [SYSTEM, user("b"), user("c")]


@given(st.lists(st.text("ab ", min_size=1, max_size=9), min_size=1, max_size=4), st.integers(0, 99))
def test_a_cut_keeps_exactly_the_heard_words(texts: list[str], share: int) -> None:
    thread = ChatThread()
    exchange = thread.begin("x")
    exchange.said += texts
    heard = heard_part(exchange.text, share, 100)
    thread.heard(heard)
    said = [m["content"] for m in thread.messages("be brief") if m["role"] == "assistant"]
    assert said == ([heard] if heard else [])
