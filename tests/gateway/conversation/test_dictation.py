from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation.dictation import digits, spell_digits, trailing_digits
from gateway.conversation.language import LANGUAGES
from gateway.conversation.lexicon import Kind, lexicon
from gateway.limits import DIGITS_MAX

PHONE_NUMBERS = st.from_regex(r"\+?[0-9]{1,15}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("five five five, one two three four", "5551234"),
        ("My number is five double five oh one two three.", "5550123"),
        ("triple five 1234", "5551234"),
        ("double 5 1", "551"),
        ("eight hundred five five five twelve thirty-four", "8005551234"),
        ("one hundred and twenty three", "123"),
        ("one hundred and five", "105"),
        ("five five five two thousand", "5552000"),
        ("It's (555) 123-4567.", "5551234567"),
        ("+44 20 7946 0958", "+442079460958"),
        ("plus four four, two oh", "+4420"),
        ("twenty uh three", "23"),
        ("twenty, three", "203"),
        ("nought two oh", "020"),
        ("I have 2 children, call 555 1234 please", "5551234"),
        ("oh, it's five five five", "555"),
        ("ten to five", "10"),
        ("hundred", "100"),
        ("plus", ""),
        ("+", ""),
        ("nothing here", ""),
        ("", ""),
    ],
)
def test_english(text: str, expected: str) -> None:
    assert digits(text, "en") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Мой номер восемь девятьсот двенадцать триста сорок пять шестьдесят семь", "891234567"),
        ("плюс семь девятьсот шестнадцать сто двадцать три два нуля", "+791612300"),
        ("Три пятёрки, одна", "5551"),
        ("две пятерки", "55"),
        ("сто пять", "105"),
        ("пятьсот одиннадцать", "511"),
        ("пять, э, шесть", "56"),
        ("8 (912) 345-67-89", "89123456789"),
        ("дважды пять", "55"),
        ("две тысячи двадцать", "2020"),
    ],
)
def test_russian(text: str, expected: str) -> None:
    assert digits(text, "ru") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("رقمي هو صفر خمسة خمسة، واحد اثنان", "05512"),
        ("٠٥٥ ١٢٣ ٤٥٦٧", "0551234567"),
        ("خمسة وعشرون ثلاثة وأربعون", "2543"),
        ("خمسة و عشرون", "25"),
        ("أحد عشر اثنا عشر", "1112"),
        ("مئة وخمسة وعشرون", "125"),
        ("ثلاث مئة", "300"),
        ("واحد وعشرون", "21"),
        ("زائد تسعة ستة ستة", "+966"),
    ],
)
def test_arabic(text: str, expected: str) -> None:
    assert digits(text, "ar") == expected


@given(PHONE_NUMBERS, st.sampled_from(LANGUAGES))
def test_what_is_read_out_is_understood(number: str, language: str) -> None:
    assert digits(spell_digits(number, language), language) == number


@given(st.lists(st.integers(0, 99), min_size=1, max_size=7), st.sampled_from(LANGUAGES))
def test_numbers_said_in_pairs_are_written_one_after_the_other(
    pairs: list[int], language: str
) -> None:
    spoken = ", ".join(_pair(pair, language) for pair in pairs)
    assert digits(spoken, language) == "".join(map(str, pairs))


def _pair(value: int, language: str) -> str:
    """0 to 99 in words, from the language's own tables."""
    numbers = lexicon(language).numbers
    words = {
        (number.kind, number.value): " ".join(phrase) for phrase, number in numbers.words.items()
    }
    if value < 10:
        return numbers.spoken[value]
    if value < 20:
        return words[Kind.TEEN, value]
    tens, units = words[Kind.TEN, value - value % 10], value % 10
    if not units:
        return tens
    unit = words[Kind.UNIT, units]
    return f"{unit} و{tens}" if language == "ar" else f"{tens} {unit}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my number is five five five", "555"),
        ("five five five is my number", ""),
        ("five five five and", "555"),
        ("one, two, no, three", "3"),
        ("", ""),
    ],
)
def test_only_a_number_at_the_end_is_trailing(text: str, expected: str) -> None:
    assert trailing_digits(text, "en") == expected


def test_digits_are_read_out_in_groups_without_a_lonely_last_one() -> None:
    assert spell_digits("5551234", "en") == "five five five, one two three four"
    assert spell_digits("+12", "en") == "plus one two"
    assert spell_digits("55512", "ar") == "خمسة خمسة خمسة، واحد اثنان"
    assert spell_digits("", "en") == ""


@given(st.text() | st.text("0123456789 +-"), st.sampled_from(LANGUAGES))
def test_any_text_gives_a_bounded_number(text: str, language: str) -> None:
    found = digits(text, language)
    assert len(found) <= DIGITS_MAX + 1
    assert found == "" or found.removeprefix("+").isdecimal()
    last = trailing_digits(text, language)
    assert last == "" or last.removeprefix("+").isdecimal()
