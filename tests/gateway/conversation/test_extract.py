from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation.extract import (
    NAME_WORDS_MAX,
    is_goodbye,
    name,
    says_nothing,
    wants_repeat,
    yes_no,
)
from gateway.conversation.language import LANGUAGES


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "My name is John Smith.", "John Smith"),
        ("en", "My name is John Smith and I'm calling about the rent.", "John Smith"),
        ("en", "My name's Anne-Marie O’Neill, hello", "Anne-Marie O’Neill"),
        ("en", "This is Dr. Jane Doe.", "Dr. Jane Doe"),
        ("en", "My name is, J. R. Smith", "J. R. Smith"),
        ("en", "uh, john smith", "John Smith"),
        ("en", "mary-ann lee", "Mary-Ann Lee"),
        ("en", "John Smith speaking.", "John Smith"),
        ("en", "Yes, it's Will Smith", "Will Smith"),
        ("en", "Sandra Oh", "Sandra Oh"),
        ("en", "Smith, S-M-I-T-H.", "Smith"),
        ("en", "Bond. James Bond.", "James Bond"),
        ("en", "Sarah Connor, five five five one two", "Sarah Connor"),
        ("en", "I don't want to say.", ""),
        ("en", "It's for my mother.", ""),
        ("en", "Please enter your agent number followed by the pound key.", ""),
        ("en", "I'm afraid I was unable to reach you.", ""),
        ("en", "I'm trying to reach somebody.", ""),
        ("en", "five five five", ""),
        ("en", "Hello?", ""),
        ("ru", "Меня зовут Анна Петровна Иванова.", "Анна Петровна Иванова"),
        ("ru", "Здравствуйте, меня зовут Пётр, и я хочу", "Пётр"),
        ("ru", "Это Иван.", "Иван"),
        ("ru", "Меня зовут Елены Соколова.", "Елена Соколова"),
        ("ru", "Это Марии Ивановны", "Мария Ивановна"),
        ("ru", "Меня зовут Натальи.", "Наталья"),
        ("ru", "Это Ивановы.", "Ивановы"),
        ("ru", "Меня зовут Иван, фамилия Петров.", "Иван Петров"),
        ("ru", "Моя фамилия Петров, имя Иван.", "Иван Петров"),
        ("ru", "Моя фамилия Кузнецов", "Кузнецов"),
        ("ru", "Анна Смирнова беспокоит", "Анна Смирнова"),
        ("en", "First name John, last name Smith.", "John Smith"),
        ("en", "My first name is John and my last name is Smith.", "John Smith"),
        ("en", "My last name is Smith.", "Smith"),
        ("en", "That would be Tom Ford.", "Tom Ford"),
        ("en", "My name is John Smith, last name Smith.", "John Smith"),
        ("ar", "اسمي الأول محمد واسم العائلة حسن", "محمد حسن"),
        ("ar", "محمد معك", "محمد"),
        ("ru", "Анастасия Толстых", "Анастасия Толстых"),
        ("ru", "анна", "Анна"),
        ("ru", "Я хотел бы записаться", ""),
        ("ar", "اسمي محمد علي وأنا أريد موعدا", "محمد علي"),
        ("ar", "أنا فاطمة حسن.", "فاطمة حسن"),
        ("ar", "معك وليد خالد", "وليد خالد"),
        ("ar", "اسمي: سَارَة", "سارة"),
        ("ar", "أريد حجز موعد", ""),
    ],
)
def test_the_answer_to_what_is_your_name(language: str, text: str, expected: str) -> None:
    assert name(text, language, introduced=False) == expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "Hello, my name is John Smith, I have a question.", "John Smith"),
        ("en", "This is not a valid extension.", ""),
        ("en", "John Smith", ""),
        ("ru", "Меня зовут Иван, у меня вопрос", "Иван"),
        ("ru", "Это срочно", ""),
        ("ar", "مرحبا، اسمي سارة", "سارة"),
        ("ar", "هذا مهم", ""),
    ],
)
def test_in_passing_only_an_introduction_is_a_name(language: str, text: str, expected: str) -> None:
    assert name(text, language, introduced=True) == expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "Yes.", True),
        ("en", "Yeah, that's right.", True),
        ("en", "No problem.", True),
        ("en", "Of course, please do", True),
        ("en", "No.", False),
        ("en", "That's not right.", False),
        ("en", "That isn't correct", False),
        ("en", "Yes... no, wait", False),
        ("en", "Almost.", False),
        ("en", "You got it.", True),
        ("en", "I know", None),
        ("en", "John Smith", None),
        ("en", "right and could you also tell him that the door is open", None),
        ("en", "", None),
        ("ru", "Да, всё верно.", True),
        ("ru", "Нет проблем", True),
        ("ru", "Да нет", False),
        ("ru", "Неверно", False),
        ("ru", "Абсолютно.", True),
        ("ru", "Абсолютно неверно", False),
        ("ru", "Почти", False),
        ("ru", "Пётр", None),
        ("ar", "نعم", True),
        ("ar", "أجل، هذا صحيح", True),
        ("ar", "لا بأس", True),
        ("ar", "لا", False),
        ("ar", "غير صحيح", False),
        ("ar", "مو صحيح", False),
        ("ar", "نعم، هذا ما قلت", True),
        ("ar", "ما في مشكلة", True),
        ("ar", "محمد", None),
    ],
)
def test_yes_and_no(language: str, text: str, expected: bool | None) -> None:  # noqa: FBT001 # a table
    assert yes_no(text, language) is expected


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Goodbye."),
        ("en", "OK, thank you, bye bye"),
        ("ru", "Спасибо, до свидания!"),
        ("ar", "شكرا جزيلا، مع السلامة"),
    ],
)
def test_goodbye_is_heard_and_is_no_other_answer(language: str, text: str) -> None:
    assert is_goodbye(text, language)
    assert not says_nothing(text, language)
    assert not wants_repeat(text, language)


def test_goodbye_inside_a_sentence_is_none() -> None:
    assert not is_goodbye("I want to buy a goodbye card", "en")
    assert not is_goodbye("", "en")


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Pardon?"),
        ("en", "Sorry, could you repeat that, please?"),
        ("ru", "Что? Повторите, пожалуйста."),
        ("ar", "عفوا، ماذا قلت؟"),
    ],
)
def test_a_question_for_repetition(language: str, text: str) -> None:
    assert wants_repeat(text, language)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", ""),
        ("en", "..."),
        ("en", "Hello?"),
        ("en", "Thank you."),
        ("en", "um, yes, hello"),
        ("ru", "Алло, здравствуйте!"),
        ("ar", "السلام عليكم"),
    ],
)
def test_greetings_thanks_and_hesitations_say_nothing(language: str, text: str) -> None:
    assert says_nothing(text, language)


def test_a_sentence_says_something() -> None:
    assert not says_nothing("Hello, I need a doctor", "en")


@given(st.text(), st.sampled_from(LANGUAGES), st.booleans())
def test_any_text_is_read(text: str, language: str, introduced: bool) -> None:  # noqa: FBT001 # hypothesis
    found = name(text, language, introduced=introduced)
    assert found == found.strip()
    assert len(found.split()) <= 2 * NAME_WORDS_MAX
    assert yes_no(text, language) in (True, False, None)
    assert not (is_goodbye(text, language) and says_nothing(text, language))
    wants_repeat(text, language)


WORDS = st.sampled_from(
    (
        *("my", "name", "is", "this", "john", "smith", "and", "yes", "no", "hello", "dr", "five"),
        *("oh", "thank", "you", "uh", "i", ",", ".", "-"),
    )
)


@given(st.lists(WORDS, max_size=12).map(" ".join))
def test_a_name_is_a_part_of_what_was_said(text: str) -> None:
    for introduced in (True, False):
        assert name(text, "en", introduced=introduced).casefold() in text.casefold()
