"""A language's data: its fixed sentences, its word lists and its number words.

One file a language (``sentences/en.toml`` ...) holds everything that must be translated, so that
a new language is a new file and no code. The files are part of the program, like its modules:
they are read once, when first needed, and ``parse`` refuses a file that lacks a sentence, a
placeholder or a list, so a bad translation fails a test and not a call.

Number words have a kind, which says how they combine. "twenty three" is one number because the
English file lists "ten unit" under ``composes``; Arabic says "three and twenty" and lists
"unit ten" under ``composes_after_and``. The rules are data because they are grammar.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
from importlib import resources
from string import Formatter

from gateway.conversation.language import FALLBACK, LANGUAGES, normalise
from gateway.conversation.words import Phrases, norms

#: Every fixed sentence: id -> the placeholders that it must contain.
SENTENCES: Mapping[str, frozenset[str]] = {
    "greeting": frozenset({"business"}),
    "offer": frozenset(),
    "how_help": frozenset(),
    "take_over": frozenset(),
    "ask_reason": frozenset(),
    "ask_name": frozenset(),
    "ask_caller_number": frozenset(),
    "ask_number": frozenset(),
    "ask_confirm": frozenset({"reason", "name", "number"}),
    "ask_correct": frozenset(),
    "heard_reason": frozenset({"reason"}),
    "heard_name": frozenset({"name"}),
    "heard_number": frozenset({"number"}),
    "retry_reason": frozenset(),
    "retry_name": frozenset(),
    "retry_caller_number": frozenset(),
    "retry_number": frozenset(),
    "retry_confirm": frozenset(),
    "retry_correct": frozenset(),
    "go_on": frozenset(),
    "not_given": frozenset(),
    "goodbye": frozenset(),
    "farewell": frozenset(),
    "parting": frozenset(),
    "are_you_there": frozenset(),
    "deserted": frozenset(),
    "one_moment": frozenset(),
    "trouble": frozenset(),
    "say_again": frozenset(),
}


class Kind(StrEnum):
    """What a number word is, hence what it combines with."""

    ZERO = "zero"
    UNIT = "unit"
    TEEN = "teen"
    TEN = "ten"
    HUNDRED = "hundred"
    SCALE = "scale"  # multiplies the number before it: "five hundred"
    REPEAT = "repeat"  # repeats the digit after it: "double five"
    REPEATED = "repeated"  # a digit repeated by the number before it: "два нуля"
    PLUS = "plus"
    FILLER = "filler"  # may stand inside a number and says nothing


@dataclass(frozen=True, slots=True)
class NumberWord:
    """One entry of the number tables."""

    kind: Kind
    value: int = 0


@dataclass(frozen=True, slots=True)
class Numbers:
    """How a language says numbers.

    ``spoken`` holds the words for 0 to 9, ``plus`` the one for +, ``pause`` stands between groups
    of digits that are read out. ``and_prefix`` is an "and" that is written onto the next word.
    """

    words: Mapping[tuple[str, ...], NumberWord]
    words_max: int
    spoken: tuple[str, ...]
    plus: str
    pause: str
    and_words: frozenset[str]
    and_prefix: str
    composes: frozenset[tuple[Kind, Kind]]
    composes_after_and: frozenset[tuple[Kind, Kind]]

    def match(self, words: Sequence[str]) -> tuple[int, NumberWord | None]:
        """Length and meaning of the longest number word that ``words`` begin with, or (0, None)."""
        for length in range(min(self.words_max, len(words)), 0, -1):
            found = self.words.get(tuple(words[:length]))
            if found is not None:
                return length, found
        return 0, None


@dataclass(frozen=True, slots=True)
class WordLists:
    """The phrase lists of a language; each field is one list of the file's ``[words]``."""

    acknowledgements: Phrases
    yes: Phrases
    no: Phrases
    goodbye: Phrases
    small_talk: Phrases
    fillers: Phrases
    repeat: Phrases
    unfinished: Phrases
    name_is: Phrases
    name_maybe: Phrases
    surname_is: Phrases
    not_names: Phrases
    titles: Phrases
    about_reason: Phrases
    about_name: Phrases
    about_number: Phrases


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Everything that is known of one language."""

    language: str
    sentences: Mapping[str, str]
    words: WordLists
    numbers: Numbers
    abbreviations: frozenset[str]
    #: Endings of names that are no nominative, and what they stand for.
    nominative: Mapping[str, str]


def placeholders(sentence: str) -> frozenset[str]:
    """The names in braces of a sentence; ``ValueError`` for braces that are anything else."""
    names: set[str] = set()
    for _, name, spec, conversion in Formatter().parse(sentence):
        if spec or conversion:
            raise ValueError(f"{{{name}}} must hold a name and nothing else")
        if name is not None:
            names.add(name)
    return frozenset(names)


def parse(text: str, language: str) -> Lexicon:
    """A language file's content as a Lexicon; ``ValueError`` says what is missing or wrong."""
    data = tomllib.loads(text)
    sentences, lists = data["sentences"], data["words"]
    _same_keys("sentences", sentences, SENTENCES)
    for key, sentence in sentences.items():
        if placeholders(sentence) != SENTENCES[key]:
            raise ValueError(f"sentences.{key}: needs the placeholders {sorted(SENTENCES[key])}")
    _same_keys("words", lists, [field.name for field in fields(WordLists)])
    return Lexicon(
        language=language,
        sentences=sentences,
        words=WordLists(**{name: Phrases(phrases) for name, phrases in lists.items()}),
        numbers=_numbers(data["numbers"]),
        abbreviations=frozenset(entry.casefold() for entry in data["abbreviations"]["list"]),
        nominative=data["names"]["nominative"],
    )


def lexicon(language: str) -> Lexicon:
    """The data of a language or of any hint of it; English for one that we do not speak."""
    return _load(normalise(language) or FALLBACK)


@cache
def abbreviations() -> frozenset[str]:
    """The abbreviations of all languages (case folded, without their last full stop)."""
    return frozenset().union(*(lexicon(language).abbreviations for language in LANGUAGES))


@cache
def _load(language: str) -> Lexicon:
    folder = resources.files("gateway.conversation") / "sentences"
    return parse((folder / f"{language}.toml").read_text(encoding="utf-8"), language)


def _same_keys(section: str, got: Iterable[str], wanted: Iterable[str]) -> None:
    missing, unknown = set(wanted) - set(got), set(got) - set(wanted)
    if missing or unknown:
        raise ValueError(f"{section}: missing {sorted(missing)}, unknown {sorted(unknown)}")


def _numbers(data: Mapping[str, Mapping[str, int]]) -> Numbers:
    grammar: Mapping[str, object] = data["grammar"]
    words: dict[tuple[str, ...], NumberWord] = {}
    for kind in Kind:
        for phrase, value in data.get(kind.value, {}).items():
            key = tuple(norms(phrase))
            if key in words:
                raise ValueError(f"numbers.{kind.value}: {phrase!r} is listed twice")
            words[key] = NumberWord(kind, value)
    spoken, plus = _strings(grammar, "spoken"), _string(grammar, "plus")
    if len(spoken) != 10:
        raise ValueError("numbers.grammar.spoken: must be ten words")
    words[tuple(norms(plus))] = NumberWord(Kind.PLUS)
    for filler in _strings(grammar, "fillers"):
        words[tuple(norms(filler))] = NumberWord(Kind.FILLER)
    return Numbers(
        words=words,
        words_max=max(map(len, words)),
        spoken=tuple(spoken),
        plus=plus,
        pause=_string(grammar, "pause"),
        and_words=frozenset(_strings(grammar, "and_words")),
        and_prefix=_string(grammar, "and_prefix"),
        composes=_pairs(_strings(grammar, "composes")),
        composes_after_and=_pairs(_strings(grammar, "composes_after_and")),
    )


def _strings(table: Mapping[str, object], key: str) -> list[str]:
    value = table.get(key)
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ValueError(f"numbers.grammar.{key}: must be a list of texts")
    return value


def _string(table: Mapping[str, object], key: str) -> str:
    value = table.get(key)
    if not isinstance(value, str):
        raise ValueError(f"numbers.grammar.{key}: must be text")
    return value


def _pairs(entries: Sequence[str]) -> frozenset[tuple[Kind, Kind]]:
    return frozenset((Kind(a), Kind(b)) for a, b in (entry.split() for entry in entries))
