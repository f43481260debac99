from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation.words import Phrases, clean, norms, split


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("That's right.", ["thats", "right"]),
        ("That’s RIGHT", ["thats", "right"]),
        ("Twenty-three", ["twenty", "three"]),
        ("Отключён!", ["отключен"]),
        ("مَرْحَبًا، أَهْلًا", ["مرحبا", "اهلا"]),
        ("مـــرحبا", ["مرحبا"]),
        ("مدرسة", ["مدرسه"]),
        ("٠١٢ and 345", ["012", "and", "345"]),
        ("5a", ["5", "a"]),
        ("\u202bنعم\u202c", ["نعم"]),
        ("thatʼs ʼ", ["thats"]),
        ("...", []),
        ("", []),
    ],
)
def test_the_same_word_is_the_same_however_it_is_written(text: str, expected: list[str]) -> None:
    assert norms(text) == expected


@given(st.text())
def test_any_text_splits_and_offsets_lead_back_to_it(text: str) -> None:
    cleaned = clean(text)
    words = split(cleaned)
    end = 0
    for word in words:
        assert word.norm
        assert cleaned[end : word.start] == word.gap
        assert end <= word.start < word.end
        end = word.end


@pytest.mark.parametrize(
    ("text", "breaks"),
    [
        ("Anna, Ben", True),
        ("Anna Ben", False),
        ("Anna-Ben", False),
        ("Anna - Ben", True),
        ("Dr. Ben", False),
        ("so... Ben", True),
        ("نعم، لا", True),
        ("نعم لا", False),
    ],
)
def test_punctuation_breaks_but_a_hyphen_and_a_full_stop_do_not(text: str, *, breaks: bool) -> None:
    assert split(clean(text))[1].breaks is breaks


def test_the_longest_phrase_matches() -> None:
    phrases = Phrases(["no", "no problem", "problem"])
    assert phrases.match(norms("No problem at all"), 0) == 2
    assert phrases.match(norms("No way"), 0) == 1
    assert phrases.match(norms("a problem"), 0) == 0
    assert phrases.match(norms("no"), 0) == 1


def test_phrases_are_found_at_the_end_anywhere_and_all_over() -> None:
    phrases, fillers = Phrases(["good bye", "bye"]), Phrases(["thank you", "ok"])
    assert phrases.found_in(norms("well good bye then"))
    assert not phrases.found_in(norms("good by then"))
    assert phrases.ends(norms("thanks, good bye"))
    assert not phrases.ends(norms("bye now"))
    assert phrases.cover(norms("OK, thank you, good bye, bye"), fillers)
    assert not phrases.cover(norms("ok, thank you"), fillers)
    assert not phrases.cover(norms("bye John"), fillers)
    assert not phrases.cover([])


def test_a_phrase_without_a_word_is_refused() -> None:
    with pytest.raises(ValueError, match="no word"):
        Phrases(["..."])
