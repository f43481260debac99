"""What was said in a call, and what of it the caller really heard. Pure.

An assistant who was interrupted must not believe that it said what nobody heard. The words that
were heard are estimated from the share of the reply's audio that was played, cut back to whole
words: better to forget a word that was heard than to remember one that was not.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, replace
from enum import StrEnum

from gateway.limits import HISTORY_TURNS_MAX

_WORD = re.compile(r"\S+")


class Role(StrEnum):
    """Who spoke."""

    CALLER = "caller"
    ASSISTANT = "assistant"


@dataclass(frozen=True, slots=True)
class SpokenTurn:
    """One party's turn. ``heard_text`` is shorter than ``text`` when it was interrupted."""

    role: Role
    text: str
    heard_text: str

    @property
    def interrupted(self) -> bool:
        """Whether not all of it was heard."""
        return self.heard_text != self.text


def heard_part(text: str, heard_ms: int, total_ms: int) -> str:
    """The whole words of ``text`` that ``heard_ms`` of its ``total_ms`` of audio cover."""
    if heard_ms >= total_ms > 0:
        return text
    if heard_ms <= 0 or total_ms <= 0:
        return ""
    chars = len(text) * heard_ms // total_ms
    end = 0
    for word in _WORD.finditer(text):
        if word.end() > chars:
            break
        end = word.end()
    return text[:end]


class History:
    """The turns of one call, oldest first; the oldest are forgotten beyond the limit."""

    __slots__ = ("_turns",)

    def __init__(self, turns_max: int = HISTORY_TURNS_MAX) -> None:
        if turns_max < 1:
            raise ValueError("turns_max must be at least 1")
        self._turns: deque[SpokenTurn] = deque(maxlen=turns_max)

    @property
    def turns(self) -> tuple[SpokenTurn, ...]:
        """All turns that are kept, oldest first."""
        return tuple(self._turns)

    def add(self, role: Role, text: str) -> None:
        """Append a turn that was heard in full (``interrupt`` corrects that)."""
        self._turns.append(SpokenTurn(role, text, text))

    def interrupt(self, heard_ms: int, total_ms: int) -> SpokenTurn | None:
        """Cut the assistant's last turn to what was heard; returns it, None if there is none."""
        for index in range(len(self._turns) - 1, -1, -1):
            turn = self._turns[index]
            if turn.role is Role.ASSISTANT:
                cut = replace(turn, heard_text=heard_part(turn.text, heard_ms, total_ms))
                self._turns[index] = cut
                return cut
        return None
