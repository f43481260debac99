from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation.language import LANGUAGES
from gateway.conversation.lexicon import SENTENCES, lexicon
from gateway.conversation.message_form import (
    ANSWER_CHARS_MAX,
    ATTEMPTS_MAX,
    EXPECTS,
    GIVE_UP,
    KEYS,
    LISTENS_FOR,
    QUESTIONS,
    SPOKEN_CHARS_MAX,
    TABLE,
    Action,
    Input,
    MessageForm,
    Response,
    State,
    read_keys,
    read_speech,
    render,
)

CALLER = "+15551234567"
PHRASES = {
    "en": [
        *("Hello?", "I need an appointment.", "My name is John Smith.", "Yes.", "No.", "pardon?"),
        *("five five five one two three four", "555", "the name is wrong", "number", "message"),
        *("goodbye", "the weather is nice today", "", "it's all right"),
    ],
    "ru": ["Алло", "Мне нужна запись", "Меня зовут Иван", "да", "нет", "что?", "имя", "пока", ""],
    "ar": ["ألو", "أريد موعدا", "اسمي محمد", "نعم", "لا", "ماذا؟", "الاسم", "مع السلامة", ""],
}
KEYPAD = st.text("0123456789*#", max_size=12)
SPEECH = st.sampled_from(LANGUAGES).flatmap(
    lambda language: st.tuples(st.sampled_from(PHRASES[language]) | st.text(), st.just(language))
)
NONSENSE = "the weather is nice today"  # answers no question but the first


def _said(response: Response, language: str = "en") -> str:
    sentences = lexicon(language).sentences
    return " ".join(
        render(sentences[prompt.sentence], prompt.values, language, "Example")
        for prompt in response.prompts
    )


def test_the_tables_are_total() -> None:
    assert TABLE.keys() == set(itertools.product(State, Input))
    assert GIVE_UP.keys() == QUESTIONS.keys() == set(State) - {State.DONE}
    assert EXPECTS.keys() == LISTENS_FOR.keys() == set(State)
    assert KEYS.keys() < set(State)


def test_every_sentence_that_a_step_says_exists() -> None:
    steps = [*TABLE.values(), *GIVE_UP.values()]
    used = {sentence for step in steps for sentence in step.says} | set(QUESTIONS.values())
    assert used < set(SENTENCES)


def test_a_failure_stays_and_giving_up_leaves() -> None:
    for (state, _), step in TABLE.items():
        if Action.FAIL in step.does:
            assert step.next is state
    for state, step in GIVE_UP.items():
        assert step.next is not state
        assert Action.FAIL not in step.does


def test_the_call_ends_with_every_message_and_only_then() -> None:
    for step in [*TABLE.values(), *GIVE_UP.values()]:
        assert (step.next is State.DONE) == (Action.HANG_UP in step.does)
        assert Action.HANG_UP in step.does or Action.TAKE_MESSAGE not in step.does
        assert step.asks == (step.next is not State.DONE and Action.FAIL not in step.does)


@given(st.lists(SPEECH | KEYPAD, max_size=25), st.sampled_from(["", CALLER, "anonymous"]))
def test_any_conversation_is_answered_and_nothing_is_lost(
    inputs: list[tuple[str, str] | str], caller_number: str
) -> None:
    form, messages = MessageForm(caller_number), []
    for given_input in inputs:
        before, language = form.state, "en"
        if isinstance(given_input, str):
            response = form.press(given_input)
        else:
            text, language = given_input
            response = form.hear(text, language)
        assert _said(response, language)
        assert response.hang_up == (form.state is State.DONE)
        if response.message is not None:
            assert before is not State.DONE
            messages.append(response.message)
    assert len(messages) <= 1
    if messages or form.state is State.DONE:
        assert form.partial() is None
    for message in [*messages, form.partial() or {"status": "partial"}]:
        assert message["status"] in ("confirmed", "unconfirmed", "partial")
        assert all(message.values())


@given(st.text(min_size=1), st.sampled_from(LANGUAGES))
def test_what_was_said_to_the_first_question_is_kept(text: str, language: str) -> None:
    form = MessageForm()
    form.hear(text, language)
    partial = form.partial()
    if form.state is not State.REASON and form.state is not State.DONE:
        assert partial is not None
        assert partial["reason"] == " ".join(text.split())[:ANSWER_CHARS_MAX]


@pytest.mark.parametrize("caller_number", ["", CALLER])
def test_a_caller_who_answers_nothing_is_let_go_with_all_that_they_said(caller_number: str) -> None:
    form = MessageForm(caller_number)
    responses = []
    while form.state is not State.DONE:
        responses.append(form.hear(NONSENSE, "en"))
        assert len(responses) <= 1 + ATTEMPTS_MAX * len(QUESTIONS)
    assert responses[-1].hang_up
    assert responses[-1].message == {
        "reason": NONSENSE,
        "remarks": " / ".join([NONSENSE] * (ATTEMPTS_MAX * (4 if caller_number else 3))),
        "status": "partial",
    }


def test_a_caller_who_says_nothing_is_let_go_without_a_message() -> None:
    form = MessageForm()
    responses = []
    while form.state is not State.DONE:
        responses.append(form.hear("", "en"))
        assert len(responses) <= ATTEMPTS_MAX * 3  # reason, name, number; nothing to confirm
    assert responses[-1].message is None
    assert _said(responses[-1]) == "Thank you for calling. Goodbye."


def test_a_caller_who_always_says_no_is_let_go() -> None:
    form = MessageForm()
    for text in ("I need help.", "John Smith", "555 123 4567"):
        form.hear(text, "en")
    count = 0
    while form.state is not State.DONE:
        form.hear("No.", "en")
        count += 1
        assert count <= 2 * ATTEMPTS_MAX


def test_a_question_asked_again_is_no_failure() -> None:
    form = MessageForm()
    for _ in range(ATTEMPTS_MAX * 2):
        assert _said(form.hear("Pardon?", "en")) == "What is your call about?"
    assert form.state is State.REASON


def test_a_long_answer_is_stored_whole_and_repeated_in_part() -> None:
    form, reason = MessageForm(), "word " * 100
    spoken = _said(form.hear(reason, "en"))
    assert len(spoken) < SPOKEN_CHARS_MAX + 100
    partial = form.partial()
    assert partial is not None
    assert partial["reason"] == reason.strip()
    form = MessageForm()
    form.hear("x" * (ANSWER_CHARS_MAX + 100), "en")
    partial = form.partial()
    assert partial is not None
    assert len(partial["reason"]) == ANSWER_CHARS_MAX


def test_braces_and_full_stops_of_the_caller_do_no_harm() -> None:
    spoken = _said(MessageForm().hear("The {name} of {business}!?.", "en"))
    assert spoken.startswith("Thank you. You said: The {name} of {business}. May I")


def test_a_name_given_with_the_reason_is_not_asked_again() -> None:
    form = MessageForm()
    form.hear("Hello, my name is John Smith and I need a doctor", "en")
    assert form.state is State.NUMBER
    partial = form.partial()
    assert partial is not None
    assert partial["name"] == "John Smith"


def test_a_number_in_the_reason_is_not_the_callers() -> None:
    form = MessageForm()
    form.hear("Order 12345678 has not arrived", "en")
    partial = form.partial()
    assert partial is not None
    assert "number" not in partial


@pytest.mark.parametrize(
    ("number", "offered"),
    [
        (CALLER, True),
        ("5551234", True),
        ("", False),
        ("anonymous", False),
        ("+266696687", False),
        ("123", False),
        ("sip:12345678@example.com", False),
    ],
)
def test_only_a_real_caller_number_is_offered(number: str, *, offered: bool) -> None:
    form = MessageForm(number)
    form.hear("I need help.", "en")
    form.hear("John Smith", "en")
    assert form.state is (State.CALLER_NUMBER if offered else State.NUMBER)


@pytest.mark.parametrize(
    ("state", "text", "kind"),
    [
        (State.REASON, "I need help", Input.SPEECH),
        (State.REASON, "hello", Input.NOTHING),
        (State.REASON, "goodbye", Input.GOODBYE),
        (State.NAME, "John Smith", Input.NAME),
        (State.NAME, "555 123 4567", Input.NUMBER),
        (State.NAME, "I will not say", Input.SPEECH),
        (State.CALLER_NUMBER, "yes please", Input.YES),
        (State.CALLER_NUMBER, "no, use 555 123 4567", Input.NUMBER),
        (State.CALLER_NUMBER, "no thanks", Input.NO),
        (State.NUMBER, "it is 555 12", Input.NUMBER),
        (State.NUMBER, "555", Input.SPEECH),
        (State.NUMBER, "9-2-1-3-3-3-4-5-5-5-5-5-5-5-5-5-5-5-5", Input.SPEECH),
        (State.CONFIRM, "yes", Input.YES),
        (State.CONFIRM, "no", Input.NO),
        (State.CONFIRM, "no, my name is Jon", Input.NAME),
        (State.CONFIRM, "no, it's 555 123 4567", Input.NUMBER),
        (State.CONFIRM, "the phone is wrong", Input.ABOUT_NUMBER),
        (State.CONFIRM, "no, the message", Input.ABOUT_REASON),
        (State.CORRECT, "the name please", Input.ABOUT_NAME),
        (State.CORRECT, "it's fine", Input.YES),
        (State.DONE, "yes", Input.SPEECH),
    ],
)
def test_what_words_mean_depends_on_the_question(state: State, text: str, kind: Input) -> None:
    assert read_speech(state, text, "en").kind is kind


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("555 12 34, 555 12 34", "5551234"),
        ("+1 555 123 4567, I repeat: 1 555 123 4567", "+15551234567"),
        ("5555 5555", "55555555"),
        ("011 44 20 7946 0958", "011442079460958"),
    ],
)
def test_a_number_that_is_said_twice_is_one(text: str, number: str) -> None:
    assert read_speech(State.NUMBER, text, "en").number == number


@pytest.mark.parametrize(
    ("state", "keys", "kind", "number"),
    [
        (State.NUMBER, "5551234#", Input.NUMBER, "5551234"),
        (State.NUMBER, "5551234", Input.NUMBER, "5551234"),
        (State.NUMBER, "999*5551234#", Input.NUMBER, "5551234"),
        (State.REASON, "5551234#", Input.NUMBER, "5551234"),
        (State.NUMBER, "555#", Input.SPEECH, ""),
        (State.NUMBER, "5" * 19 + "#", Input.SPEECH, ""),
        (State.NUMBER, "#", Input.NOTHING, ""),
        (State.CONFIRM, "1", Input.YES, ""),
        (State.CONFIRM, "2#", Input.NO, ""),
        (State.CONFIRM, "7", Input.NOTHING, ""),
        (State.CALLER_NUMBER, "1", Input.YES, ""),
        (State.CORRECT, "1", Input.ABOUT_REASON, ""),
        (State.CORRECT, "2", Input.ABOUT_NAME, ""),
        (State.CORRECT, "3", Input.ABOUT_NUMBER, ""),
        (State.REASON, "1", Input.NOTHING, ""),
        (State.DONE, "1", Input.NOTHING, ""),
    ],
)
def test_what_keys_mean_depends_on_the_question(
    state: State, keys: str, kind: Input, number: str
) -> None:
    heard = read_keys(state, keys)
    assert (heard.kind, heard.number) == (kind, number)


@given(st.text(), st.sampled_from(State), st.sampled_from(LANGUAGES))
def test_any_text_means_something_in_any_state(text: str, state: State, language: str) -> None:
    assert (state, read_speech(state, text, language).kind) in TABLE
    assert (state, read_keys(state, text).kind) in TABLE
