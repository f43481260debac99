from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation.clauses import ClauseSplitter
from gateway.limits import CLAUSE_CHARS_MAX

TEXTS = st.text(
    st.sampled_from("abcЯя علو  \n\t.,!?؟،؛:—1234\"')–…") | st.characters(), max_size=120
)
CUTS = st.lists(st.integers(0, 120), max_size=20)


def _split(pieces: list[str], chars_max: int = CLAUSE_CHARS_MAX) -> list[str]:
    splitter = ClauseSplitter(chars_max)
    clauses = [clause for piece in pieces for clause in splitter.feed(piece)]
    return clauses + splitter.flush()


def _cut(text: str, cuts: list[int]) -> list[str]:
    ends = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    return [text[start:end] for start, end in itertools.pairwise(ends)]


@given(TEXTS, CUTS, st.integers(1, 60))
def test_nothing_is_lost_added_or_reordered(text: str, cuts: list[int], chars_max: int) -> None:
    clauses = _split(_cut(text, cuts), chars_max)
    assert "".join("".join(clauses).split()) == "".join(text.split())


@given(TEXTS, st.integers(1, 60))
def test_clauses_are_bounded_and_never_empty(text: str, chars_max: int) -> None:
    for clause in _split([text], chars_max):
        assert 0 < len(clause) <= chars_max
        assert clause == clause.strip()


@given(TEXTS, CUTS, st.integers(1, 60))
def test_the_clauses_do_not_depend_on_the_pieces(
    text: str, cuts: list[int], chars_max: int
) -> None:
    assert _split(_cut(text, cuts), chars_max) == _split([text], chars_max)


@given(TEXTS, st.integers(1, 60))
def test_words_that_fit_are_never_cut(text: str, chars_max: int) -> None:
    words = {word for clause in _split([text], chars_max) for word in clause.split()}
    assert {word for word in text.split() if len(word) <= chars_max} <= words


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("Hello. How are you?", ["Hello.", "How are you?"]),
        ("Well, hello.", ["Well, hello."]),
        (
            "Thank you very much for calling, I will help you, of course. Bye.",
            ["Thank you very much for calling,", "I will help you, of course.", "Bye."],
        ),
        (
            "Right. I will help you with that appointment, of course.",
            ["Right.", "I will help you with that appointment, of course."],
        ),
        ("Mr. Smith and Dr. J. Doe, e.g. here.", ["Mr. Smith and Dr. J. Doe,", "e.g. here."]),
        ("It costs 3.50 or 1,000.25 euros. Good.", ["It costs 3.50 or 1,000.25 euros.", "Good."]),
        ("See www.example.com/a.b?c=d. Bye", ["See www.example.com/a.b?c=d.", "Bye"]),
        ("1. Milk\n2. Bread", ["1. Milk", "2. Bread"]),
        ("We close at 5. Then we go.", ["We close at 5.", "Then we go."]),
        ("Digits are 1, 2, 3, 4, 5, 6, 7, 8, 9, 10", ["Digits are 1, 2, 3, 4, 5, 6, 7, 8, 9, 10"]),
        ('"Really?!" he said.', ['"Really?!"', "he said."]),
        ("Ул. Ленина, д. 5. Приходите!", ["Ул. Ленина, д. 5.", "Приходите!"]),
        ("Это 5 тыс. руб. и т.д. для всех. Да.", ["Это 5 тыс. руб. и т.д. для всех.", "Да."]),
        ("كيف حالك؟ أنا بخير.", ["كيف حالك؟", "أنا بخير."]),
        (
            "شكرا جزيلا على اتصالك بنا، سأساعدك الآن.",
            ["شكرا جزيلا على اتصالك بنا،", "سأساعدك الآن."],
        ),
        ("... - ! Yes. No.", ["... - ! Yes.", "No."]),
        ("...", ["..."]),
        (" \n ", []),
        ("", []),
    ],
)
def test_where_sentences_end(text: str, clauses: list[str]) -> None:
    assert _split([text]) == clauses
    assert _split(list(text)) == clauses


def test_the_first_clause_comes_before_its_sentence_is_complete() -> None:
    splitter = ClauseSplitter()
    assert splitter.feed("Thank you very much for calling, I will ") == [
        "Thank you very much for calling,"
    ]
    assert splitter.feed("do that, at once") == []
    assert splitter.flush() == ["I will do that, at once"]


def test_a_long_sentence_is_cut_at_a_space() -> None:
    words = "word " * 200
    clauses = _split([words])
    assert all(clause.endswith("word") for clause in clauses)
    assert len(clauses) == 3


def test_white_space_does_not_pile_up() -> None:
    splitter = ClauseSplitter()
    for _ in range(100):
        splitter.feed(" " * 1_000)
    assert len(splitter._buffer) == 0


def test_after_a_flush_the_next_reply_begins_anew() -> None:
    splitter = ClauseSplitter()
    text = "Thank you very much for calling, I will do that."
    first = splitter.feed(text) + splitter.flush()
    assert splitter.feed(text) + splitter.flush() == first
    assert len(first) == 2


def test_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ClauseSplitter(0)
