from __future__ import annotations

from dataclasses import fields
from importlib import resources

import pytest

from gateway.conversation.dictation import spell_digits
from gateway.conversation.language import LANGUAGES
from gateway.conversation.lexicon import (
    SENTENCES,
    Kind,
    WordLists,
    abbreviations,
    lexicon,
    parse,
    placeholders,
)


def _source(language: str) -> str:
    folder = resources.files("gateway.conversation") / "sentences"
    return (folder / f"{language}.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_is_there_with_the_same_placeholders(language: str) -> None:
    sentences = lexicon(language).sentences
    assert sentences.keys() == SENTENCES.keys()
    for key, sentence in sentences.items():
        assert sentence.strip() == sentence != ""
        assert placeholders(sentence) == SENTENCES[key]


@pytest.mark.parametrize("language", LANGUAGES)
def test_sentences_are_in_the_script_of_their_language(language: str) -> None:
    low, high = {"en": ("a", "z"), "ru": ("а", "я"), "ar": ("ء", "ي")}[language]
    for sentence in lexicon(language).sentences.values():
        text = sentence.format(business="", reason="", name="", number="").lower()
        letters = [char for char in text if char.isalpha()]
        assert all(low <= char <= high or char == "ё" for char in letters), sentence


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_digit_and_every_list_is_there(language: str) -> None:
    data = lexicon(language)
    assert {number.kind for number in data.numbers.words.values()} >= {
        Kind.ZERO,
        Kind.UNIT,
        Kind.TEEN,
        Kind.TEN,
        Kind.PLUS,
    }
    assert len(set(data.numbers.spoken)) == 10
    assert len(spell_digits("0123456789", language).split()) == 10
    assert [field.name for field in fields(WordLists)]


def test_a_hint_finds_its_language_and_an_unknown_one_english() -> None:
    assert lexicon("ru-RU").language == "ru"
    assert lexicon("Arabic").language == "ar"
    assert lexicon("fi") is lexicon("en")
    assert lexicon("") is lexicon("auto") is lexicon("en")


def test_abbreviations_of_all_languages_are_known_together() -> None:
    assert {"mr", "e.g", "ул", "т.е", "إلخ"} <= abbreviations()


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('farewell = "', 'farewel = "', "missing \\['farewell'\\], unknown \\['farewel'\\]"),
        ("Thank you, {name}.", "Thank you.", "sentences.heard_name"),
        ("Thank you, {name}.", "Thank you, {nam}.", "sentences.heard_name"),
        ("Thank you, {name}.", "Thank you, {name!r}.", "a name and nothing else"),
        ("titles = [", "title = [", "words: missing \\['titles'\\]"),
        ('titles = ["mr"', 'titles = ["..."', "no word"),
        ("twelve = 12", "TEN = 10", "listed twice"),
        ('spoken = ["zero", ', "spoken = [", "ten words"),
        ('spoken = ["zero", ', "spoken = [0, ", "list of texts"),
        ('plus = "plus"', "plus = 1", "must be text"),
        ('"ten unit", ', '"ten apples", ', "apples"),
    ],
)
def test_a_faulty_language_file_is_refused(old: str, new: str, fault: str) -> None:
    source = _source("en")
    assert old in source
    with pytest.raises(ValueError, match=fault):
        parse(source.replace(old, new), "en")
