"""Numbers as callers dictate them, and as a voice reads them back. Pure, by a language's tables.

Digits are dictated in many ways ("five double three", "twenty-three", "восемьсот", "خمسة وعشرون",
"555-1234"), often several in one number. The words of an utterance are first cut into runs that
hold nothing but number words, written digits and hesitations; the longest run is the number that
was meant. Within a run, words combine by the grammar of the language (``lexicon.Numbers``), and
what does not combine is written one after the other, as on a telephone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gateway.conversation.lexicon import Kind, Numbers, NumberWord, lexicon
from gateway.conversation.words import Word, clean, split
from gateway.limits import DIGITS_MAX

_REPEATS_MAX = 4
_LAST_GROUP = 4
_GROUP = 3


@dataclass(frozen=True, slots=True)
class _Item:
    """One element of a run: a number word, or digits as they were written (``kind`` None)."""

    kind: Kind | None
    value: int = 0
    written: str = ""
    joined: bool = False  # an "and" stands before it
    apart: bool = False  # a comma or a full stop does: "twenty, five" is 20 5


def digits(text: str, language: str) -> str:
    """The longest number dictated in ``text``: digits, perhaps after a "+"; "" for none."""
    return max((number for number, _ in _dictated(text, language)), key=len, default="")


def trailing_digits(text: str, language: str) -> str:
    """The number that ``text`` ends with; "" when its last word is no number word."""
    found = ""
    for number, is_last in _dictated(text, language):
        found = number if is_last else ""
    return found


def spell_digits(number: str, language: str) -> str:
    """A number in words, digit by digit in groups, for a voice: the inverse of ``digits``."""
    numbers = lexicon(language).numbers
    words = [numbers.spoken[int(char)] for char in number if char.isdecimal()]
    groups: list[str] = []
    while words:
        # Four digits that are left stay together, rather than as three and one.
        size = _LAST_GROUP if len(words) == _LAST_GROUP else _GROUP
        groups.append(" ".join(words[:size]))
        del words[:size]
    return (numbers.plus + " " if number.startswith("+") else "") + numbers.pause.join(groups)


def _dictated(text: str, language: str) -> Iterator[tuple[str, bool]]:
    """Every number in a text, and whether the text ends with it."""
    numbers = lexicon(language).numbers
    run: list[_Item] = []
    for item in _items(split(clean(text)), numbers):
        if item is not None:
            run.append(item)
            continue
        yield _Number(numbers).write(run), False
        run = []
    yield _Number(numbers).write(run), True


def _items(words: Sequence[Word], numbers: Numbers) -> Iterator[_Item | None]:
    """Number words and written digits in order; None for a word that ends a run."""
    at, joined = 0, False
    while at < len(words):
        norm = words[at].norm
        if norm in numbers.and_words:
            at, joined = at + 1, True
            continue
        if norm[0].isdecimal():
            if words[at].gap.endswith("+"):
                yield _Item(Kind.PLUS)
            yield _Item(None, written=norm)
            at, joined = at + 1, False
            continue
        length, found, prefixed = _number_word(_phrase(words, at, numbers.words_max), numbers)
        joined = joined or prefixed
        apart = _is_apart(words[at])
        yield _Item(found.kind, found.value, joined=joined, apart=apart) if found else None
        at, joined = at + length, False


def _is_apart(word: Word) -> bool:
    return word.breaks or "." in word.gap


def _phrase(words: Sequence[Word], at: int, words_max: int) -> list[str]:
    """A word and those after it, at most ``words_max``, up to the next punctuation."""
    end = at + 1
    while end < min(at + words_max, len(words)) and not _is_apart(words[end]):
        end += 1
    return [word.norm for word in words[at:end]]


def _number_word(said: list[str], numbers: Numbers) -> tuple[int, NumberWord | None, bool]:
    """How many words the first number word takes, what it is, whether "and" is its prefix."""
    length, found = numbers.match(said)
    prefix = numbers.and_prefix
    if found is not None or not prefix or not said[0].startswith(prefix) or said[0] == prefix:
        return max(length, 1), found, False
    length, found = numbers.match([said[0].removeprefix(prefix), *said[1:]])
    return max(length, 1), found, True


class _Number:
    """Writes one run: keeps the number that may still combine, and what is written already."""

    __slots__ = ("_kind", "_numbers", "_open", "_repeats", "_written")

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._written = ""
        self._open = 0
        self._kind: Kind | None = None  # of the open number's last word; None: nothing is open
        self._repeats = 1

    def write(self, run: Sequence[_Item]) -> str:
        """The digits of a run, at most ``DIGITS_MAX``."""
        for item in run:
            self._take(item)
        self._close()
        plus = "+" if self._written.startswith("+") else ""
        return (plus + self._written.replace("+", "")[:DIGITS_MAX]) if self._written != "+" else ""

    def _take(self, item: _Item) -> None:
        match item.kind:
            case Kind.FILLER:
                pass
            case Kind.PLUS:
                self._append("+" if not self._written and self._kind is None else "")
            case None:
                self._append(item.written[0] * (self._repeats - 1) + item.written)
            case Kind.ZERO:
                self._append("0" * self._repeats)
            case Kind.REPEAT:
                self._close()
                self._repeats = item.value
            case Kind.SCALE:
                self._scale(item.value)
            case Kind.REPEATED:
                self._repeat_noun(item.value)
            case _:
                self._combine(item)

    def _combine(self, item: _Item) -> None:
        assert item.kind is not None
        rules = self._numbers.composes_after_and if item.joined else self._numbers.composes
        together = item.joined or not item.apart
        if together and self._kind is not None and (self._kind, item.kind) in rules:
            self._open += item.value
        elif item.kind is Kind.UNIT and self._repeats > 1:
            self._append(str(item.value) * self._repeats)
            return
        else:
            self._close()
            self._open = item.value
        self._kind = item.kind

    def _scale(self, factor: int) -> None:
        if self._kind in (Kind.UNIT, Kind.TEEN, Kind.TEN):
            self._open *= factor
        else:
            self._close()
            self._open = factor
        # What may follow "five hundred" may follow "five thousand".
        self._kind = Kind.HUNDRED

    def _repeat_noun(self, digit: int) -> None:
        times = self._open if self._kind is Kind.UNIT and self._open <= _REPEATS_MAX else 0
        if times:
            self._open, self._kind = 0, None
        self._append(str(digit) * max(times, 1))

    def _append(self, written: str) -> None:
        self._close()
        self._written += written

    def _close(self) -> None:
        if self._kind is not None:
            self._written += str(self._open)
        self._open, self._kind, self._repeats = 0, None, 1
