"""Words as the lists of a language know them: text to comparable words, and lists of phrases.

Speech-to-text writes the same word in many ways: "That's right.", "that’s right", "ОТКЛЮЧЁН",
"отключен", Arabic with and without vowel marks, digits of three alphabets. Every comparison of
the conversation goes through ``split``, which folds these differences away, so that the data
files hold each phrase once. The offsets of a word lead back to the cleaned text, because a
caller's name is to be stored as it was written, not as it was compared.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Arabic vowel marks, the tatweel that only stretches a word, and marks of text direction.
_INVISIBLE = re.compile(
    "[\u0610-\u061a\u064b-\u065f\u0670\u0640\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)
_APOSTROPHES = "'’`"
_WORD = re.compile(rf"\d+|[^\W\d_]+(?:[{_APOSTROPHES}][^\W\d_]+)*")
_BREAK = re.compile(r"[,;:!?()،؛؟…—–\n]|\.\.|\s[-.]\s")
_FOLD = str.maketrans(
    {"ё": "е", "أ": "ا", "إ": "ا", "آ": "ا", "ٱ": "ا", "ى": "ي", "ة": "ه"}
    | dict.fromkeys(_APOSTROPHES)
)


@dataclass(frozen=True, slots=True)
class Word:
    """One word or one number of a cleaned text.

    ``norm`` is what is compared; ``text[start:end]`` is how it was written; ``gap`` is what
    stands between it and the word before.
    """

    norm: str
    start: int
    end: int
    gap: str

    @property
    def breaks(self) -> bool:
        """Whether punctuation separates it from the word before (a full stop is not told)."""
        return _BREAK.search(self.gap) is not None


def clean(text: str) -> str:
    """``text`` in Unicode's NFKC form without invisible marks; the text that offsets refer to."""
    # The modifier letter apostrophe counts as a letter; alone it would be a word of nothing.
    return _INVISIBLE.sub("", unicodedata.normalize("NFKC", text)).replace("\u02bc", "'")


def split(cleaned: str) -> list[Word]:
    """The words and numbers of a text that went through ``clean``."""
    words: list[Word] = []
    end = 0
    for match in _WORD.finditer(cleaned):
        words.append(
            Word(_norm(match[0]), match.start(), match.end(), cleaned[end : match.start()])
        )
        end = match.end()
    return words


def norms(text: str) -> list[str]:
    """The comparable words of any text."""
    return [word.norm for word in split(clean(text))]


def _norm(written: str) -> str:
    if written[0].isdecimal():
        return "".join(str(int(digit)) for digit in written)
    return written.casefold().translate(_FOLD)


class Phrases:
    """A list of phrases (one word or several), looked up in lists of comparable words."""

    __slots__ = ("_by_first",)

    def __init__(self, phrases: Iterable[str]) -> None:
        by_first: dict[str, list[tuple[str, ...]]] = {}
        for phrase in phrases:
            words = tuple(norms(phrase))
            if not words:
                raise ValueError(f"{phrase!r} holds no word")
            by_first.setdefault(words[0], []).append(words)
        self._by_first = {
            first: tuple(sorted(found, key=len, reverse=True)) for first, found in by_first.items()
        }

    def match(self, words: Sequence[str], at: int) -> int:
        """How many words the longest phrase takes that begins at index ``at``; 0 for none."""
        for phrase in self._by_first.get(words[at], ()):
            if tuple(words[at : at + len(phrase)]) == phrase:
                return len(phrase)
        return 0

    def found_in(self, words: Sequence[str]) -> bool:
        """Whether any phrase occurs anywhere."""
        return any(self.match(words, at) for at in range(len(words)))

    def ends(self, words: Sequence[str]) -> bool:
        """Whether the last words are a phrase."""
        return any(self.match(words, at) == len(words) - at for at in range(len(words)))

    def cover(self, words: Sequence[str], fillers: Phrases | None = None) -> bool:
        """Whether the words are phrases and fillers only, at least one phrase among them."""
        at, seen = 0, False
        while at < len(words):
            taken = self.match(words, at)
            filler = fillers.match(words, at) if fillers is not None else 0
            if max(taken, filler) == 0:
                return False
            seen |= taken >= filler
            at += max(taken, filler)
        return seen
