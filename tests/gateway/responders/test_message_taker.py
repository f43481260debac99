from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation.endpointing import Question
from gateway.conversation.language import LANGUAGES
from gateway.conversation.profile import Profile
from gateway.responders.base import CallInfo, HangUp, Reply, Responder, Say, TakeMessage
from gateway.responders.message_taker import MessageTaker

PROFILE = Profile(business_name="Riverside Clinic")
CALLER = "+15551234567"


def _taker(
    language: str = "en", caller_number: str = "", profile: Profile = PROFILE
) -> MessageTaker:
    return MessageTaker(profile, CallInfo("CA1", caller_number, "+15550000000", language))


def _all(replies: AsyncIterator[Reply]) -> list[Reply]:
    async def collect() -> list[Reply]:
        return [reply async for reply in replies]

    return asyncio.run(collect())


def _text(replies: Sequence[Reply]) -> str:
    return " ".join(reply.text for reply in replies if isinstance(reply, Say))


@dataclass(frozen=True)
class Keys:
    """A keypad entry in a conversation."""

    keys: str


def _converse(taker: MessageTaker, language: str, said: Sequence[str | Keys]) -> list[list[Reply]]:
    """The replies to the greeting and to each thing said; the language never changes on its own."""
    responder: Responder = taker
    replies = [_all(responder.greet())]
    for words in said:
        answer = (
            responder.digits(words.keys)
            if isinstance(words, Keys)
            else responder.answer(words, language)
        )
        replies.append(_all(answer))
    for reply in itertools.chain(*replies):
        assert not isinstance(reply, Say) or reply.language == language
    return replies


def test_an_answer_whose_reply_was_not_heard_is_taken_back() -> None:
    taker = _taker()
    _converse(taker, "en", ["I would like to"])
    questions = [taker.question]
    taker.heard("")
    questions.append(taker.question)
    assert questions == [Question.NAME, Question.OPEN]
    (reply,) = _converse(taker, "en", ["I would like to book an appointment."])[1:]
    assert "You said: I would like to book an appointment." in _text(reply)
    taker.heard("Thank you. You said")
    taker.heard("")
    assert taker.question is Question.NAME, "what was heard stays said"


def test_a_whole_call_in_english() -> None:
    taker = _taker(caller_number=CALLER)
    greeting, reason, name, number, confirm = _converse(
        taker,
        "en",
        [
            "I would like to book an appointment.",
            "It's John Smith.",
            "Yes, please.",
            "That's right.",
        ],
    )
    assert "Riverside Clinic" in _text(greeting)
    assert _text(greeting).endswith("What is your call about?")
    assert _text(reason) == (
        "Thank you. You said: I would like to book an appointment. May I have your name, please?"
    )
    assert _text(name).startswith("Thank you, John Smith. Shall we call you back")
    assert "plus one five five, five one two, three four five, six seven" in _text(number)
    assert confirm == [
        TakeMessage(
            {
                "reason": "I would like to book an appointment.",
                "name": "John Smith",
                "number": CALLER,
                "status": "confirmed",
            }
        ),
        Say("Thank you. I will pass your message on. Goodbye.", "en"),
        HangUp(),
    ]
    assert taker.pending() is None


def test_a_wrong_name_and_a_wrong_number_are_corrected_by_voice_and_by_keypad() -> None:
    taker = _taker()
    said: list[str | Keys] = [
        *("I need a doctor.", "John Smith", "five five five one two three five"),
        *(
            "No, the name is wrong.",
            "Jon Smyth",
            "No, my number is five five five one two three six",
        ),
        *("no", Keys("3"), Keys("5551234#"), Keys("1")),
    ]
    replies = _converse(taker, "en", said)
    assert replies[-1][0] == TakeMessage(
        {
            "reason": "I need a doctor.",
            "name": "Jon Smyth",
            "number": "5551234",
            "status": "confirmed",
        }
    )
    assert replies[-1][-1] == HangUp()


def test_a_whole_call_in_russian() -> None:
    said = [
        *("Алло?", "Здравствуйте, я хочу узнать цену.", "Меня зовут Пётр Иванов."),
        *("восемь девятьсот двенадцать триста сорок пять шестьдесят семь восемьдесят девять",),
        *("Нет, имя неверно.", "Пётр Иваненко", "Да, всё верно."),
    ]
    replies = _converse(_taker("ru-RU"), "ru", said)
    assert "Вы сказали: Здравствуйте, я хочу узнать цену." in _text(replies[2])
    assert "восемь девять один, два три четыре, пять шесть семь, восемь девять" in _text(replies[4])
    assert replies[-1][0] == TakeMessage(
        {
            "reason": "Здравствуйте, я хочу узнать цену.",
            "name": "Пётр Иваненко",
            "number": "89123456789",
            "status": "confirmed",
        }
    )
    assert replies[-1][-1] == HangUp()


def test_a_whole_call_in_arabic() -> None:
    said: list[str | Keys] = [
        *("أريد حجز موعد يوم الثلاثاء.", "اسمي محمد علي", "لا", Keys("0551234567#")),
        *("لا، الاسم خطأ", "اسمي محمود علي", "نعم، هذا صحيح"),
    ]
    replies = _converse(_taker("ar", CALLER), "ar", said)
    assert "قلتم: أريد حجز موعد يوم الثلاثاء." in _text(replies[1])
    assert "صفر خمسة خمسة، واحد اثنان ثلاثة، أربعة خمسة ستة سبعة" in _text(replies[4])
    assert replies[-1][0] == TakeMessage(
        {
            "reason": "أريد حجز موعد يوم الثلاثاء.",
            "name": "محمود علي",
            "number": "0551234567",
            "status": "confirmed",
        }
    )
    assert replies[-1][-1] == HangUp()


def test_a_caller_who_hangs_up_half_way_leaves_what_was_said() -> None:
    taker = _taker()
    assert taker.pending() is None
    _converse(taker, "en", ["I need a doctor.", "the weather is nice today"])
    expected = {
        "reason": "I need a doctor.",
        "remarks": "the weather is nice today",
        "status": "partial",
    }
    assert taker.pending() == TakeMessage(expected)
    asyncio.run(taker.aclose())
    assert taker.pending() == TakeMessage(expected)


@pytest.mark.parametrize(("language", "word"), [("en", "call again"), ("ru", "Перезвоните")])
def test_a_call_that_must_end_is_ended_politely_and_leaves_what_was_said(
    language: str, word: str
) -> None:
    taker = _taker()
    _converse(taker, "en", ["I need a doctor."])
    last = _all(taker.part(language))
    assert [type(reply) for reply in last] == [Say]
    assert word in _text(last)
    assert taker.pending() is not None


def test_a_caller_who_hangs_up_at_the_read_back_leaves_an_unconfirmed_message() -> None:
    taker = _taker()
    _converse(taker, "en", ["I need a doctor.", "John Smith", "555 123 4567"])
    pending = taker.pending()
    assert pending is not None
    assert pending.fields["status"] == "unconfirmed"


def test_a_caller_who_says_goodbye_leaves_what_was_said_and_is_let_go() -> None:
    taker = _taker()
    replies = _converse(taker, "en", ["I need a doctor.", "OK, bye bye."])
    assert replies[-1] == [
        TakeMessage({"reason": "I need a doctor.", "status": "partial"}),
        Say("Thank you. I will pass your message on. Goodbye.", "en"),
        HangUp(),
    ]
    assert taker.pending() is None


def test_the_message_is_out_before_the_goodbye_can_be_interrupted() -> None:
    taker = _taker()
    _converse(taker, "en", ["I need a doctor.", "John Smith", "555 123 4567"])

    async def first() -> Reply:
        replies = taker.answer("Yes.", "en")
        return await anext(aiter(replies))

    assert isinstance(asyncio.run(first()), TakeMessage)


def test_the_reply_follows_the_language_it_is_told() -> None:
    taker = _taker("auto")
    assert all(isinstance(reply, Say) and reply.language == "en" for reply in _all(taker.greet()))
    answer = _all(taker.answer("Мне нужен врач.", "ru"))
    assert _text(answer) == "Спасибо. Вы сказали: Мне нужен врач. Как вас зовут?"
    assert "Спасибо, Анна" in _text(_all(taker.answer("Анна", "")))
    assert "номер" in _text(_all(taker.digits("12")))


def test_the_profile_decides_what_is_said() -> None:
    profile = Profile(
        business_name="Example",
        business_names={"ru": "Пример"},
        language="ru",
        greeting={"en": "Welcome to {business}."},
        consent={"en": "{business} records this {{call}}."},
        questions={
            "en": {
                "offer": "Speak to me.",
                "reason": "How can we help?",
                "name": "Who are you?",
            }
        },
    )
    english = _taker("en", profile=profile)
    assert [reply.text for reply in _all(english.greet()) if isinstance(reply, Say)] == [
        "Welcome to Example.",
        "Example records this {call}.",
        "Speak to me.",
        "How can we help?",
    ]
    assert _text(_all(english.answer("I need help", "en"))).endswith("Who are you?")
    russian = _text(_all(_taker("auto", profile=profile).greet()))
    assert "Пример" in russian
    assert russian.endswith("По какому вопросу вы звоните?")


def test_the_endpointing_is_told_what_is_asked() -> None:
    taker = _taker(caller_number=CALLER)
    asked = [taker.question]
    for text in ("I need help", "John Smith", "no", "555 123 4567", "no"):
        _all(taker.answer(text, "en"))
        asked.append(taker.question)
    assert asked == [
        *(Question.OPEN, Question.NAME, Question.YES_NO),
        *(Question.NUMBER, Question.YES_NO, Question.OPEN),
    ]


@given(
    st.lists(st.text() | st.builds(Keys, st.text("0123456789*#ABCD")), max_size=12),
    st.sampled_from([*LANGUAGES, "auto", "", "xx"]),
    st.sampled_from(["", CALLER, "anonymous"]),
)
def test_any_caller_is_answered(said: list[str | Keys], language: str, caller_number: str) -> None:
    taker = _taker(language, caller_number)
    assert _text(_all(taker.greet()))
    for words in said:
        replies = _all(
            taker.digits(words.keys) if isinstance(words, Keys) else taker.answer(words, language)
        )
        assert _text(replies)
        assert all(isinstance(reply, Say) for reply in replies[1:-1])


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_was_said_is_repeated_word_for_word(language: str) -> None:
    said = {
        "en": "Please enter your conference number followed by the pound key.",
        "ru": "Недействительный номер конференции, попробуйте еще раз.",
        "ar": "الرقم الذي طلبته غير موجود في الخدمة.",
    }[language]
    assert said in _text(_all(_taker(language).answer(said, language)))
