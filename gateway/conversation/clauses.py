"""Cuts a text that arrives in pieces into clauses for text-to-speech. Pure.

The first clause is what the caller waits for, so it may end at a comma; later ones end with a
sentence, because a voice reads whole sentences better. A boundary is only taken where the white
space behind it has arrived, and where a cut is forced by length everything up to the limit has:
therefore the clauses do not depend on how the text was cut into pieces.

No boundary: the full stop of an abbreviation, an initial or a list's number ("1. Milk"), a stop or
comma inside a number, an address or a URL (no white space follows), a comma between numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gateway.conversation.lexicon import abbreviations
from gateway.limits import CLAUSE_CHARS_MAX

#: The first clause may end at a comma once it is this long: shorter ones sound chopped.
FIRST_CLAUSE_CHARS_MIN = 24

# The look-behind lets a run of stops match from its first one only, else a long run is quadratic.
_BOUNDARY = re.compile(
    r"""(?<![.!?…؟۔])[.!?…؟۔]++["'»”’)\]]*+(?=\s)|[,;:،؛—–](?=\s)|\n""",
)
_SOFT = frozenset(",;:،؛—–")
_INITIALS = re.compile(r"(?:[^\W\d_]\.)*[^\W\d_]")


class ClauseSplitter:
    """One reply: ``feed`` it as it comes, ``flush`` it at its end."""

    __slots__ = ("_abbreviations", "_buffer", "_chars_max", "_first")

    def __init__(self, chars_max: int = CLAUSE_CHARS_MAX) -> None:
        if chars_max < 1:
            raise ValueError("chars_max must be at least 1")
        self._abbreviations = abbreviations()
        self._chars_max = chars_max
        self._buffer = ""
        self._first = True

    def feed(self, text: str) -> list[str]:
        """Take a piece; returns the clauses that are complete now."""
        self._buffer += text
        return list(self._cut(last=False))

    def flush(self) -> list[str]:
        """The text is complete: return what is left, be ready for another reply."""
        clauses = list(self._cut(last=True))
        self._buffer, self._first = "", True
        return clauses

    def _cut(self, *, last: bool) -> Iterator[str]:
        begin = 0
        while True:
            begin = self._skip_space(begin)
            end = self._end(begin, last=last)
            clause = self._buffer[begin:end].rstrip()
            if not clause:
                break
            self._first = False
            yield clause
            begin = end
        self._buffer = self._buffer[begin:]

    def _skip_space(self, begin: int) -> int:
        while begin < len(self._buffer) and self._buffer[begin].isspace():
            begin += 1
        return begin

    def _end(self, begin: int, *, last: bool) -> int:
        """Where the clause that starts at ``begin`` ends; ``begin`` itself when not known yet."""
        limit = begin + self._chars_max
        for match in _BOUNDARY.finditer(self._buffer, begin, limit):
            if self._is_boundary(begin, match):
                return match.end()
        if len(self._buffer) > limit:
            return self._last_space(begin, limit)
        return len(self._buffer) if last else begin

    def _last_space(self, begin: int, limit: int) -> int:
        for end in range(limit, begin, -1):
            if self._buffer[end].isspace():
                return end
        return limit  # one word longer than a clause may be

    def _is_boundary(self, begin: int, match: re.Match[str]) -> bool:
        before = self._buffer[begin : match.start()].rstrip()
        if not any(char.isalnum() for char in before):
            return False
        if match[0] in _SOFT:
            long_enough = len(before) >= FIRST_CLAUSE_CHARS_MIN
            return self._first and long_enough and not before[-1].isdecimal()
        if match[0] != ".":
            return True
        word = before.split()[-1].lstrip("\"'«“‘([").casefold()
        return not (before.isdecimal() or word in self._abbreviations or _INITIALS.fullmatch(word))
