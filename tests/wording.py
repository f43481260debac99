"""What the shared recordings say, and how far a transcript is from it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CLIPS = Path(__file__).parent / "fixtures" / "clips"

_SPELLINGS = {"mr": "mister", "10": "ten", "7": "seven", "8": "eight", "4": "four"}
_CONTRACTIONS = {"i'm": "i am", "that's": "that is"}


class Clip(NamedTuple):
    path: str
    language: str
    text: str


def clips(language: str) -> Iterator[Clip]:
    with (CLIPS / "manifest.tsv").open(encoding="utf-8", newline="") as manifest:
        for row in csv.DictReader(manifest, delimiter="\t", quoting=csv.QUOTE_NONE):
            if row["lang"] == language:
                yield Clip(row["path"], language, row["text"])


def words(text: str) -> list[str]:
    """Lower case, no punctuation, numbers and titles in words, contractions in full."""
    text = text.lower().replace("ё", "е").replace("’", "'")
    for short, full in _CONTRACTIONS.items():
        text = text.replace(short, full)
    return [_SPELLINGS.get(word, word) for word in re.findall(r"[\w']+", text)]


def word_errors(said: list[str], heard: list[str]) -> int:
    """Levenshtein distance in words."""
    row = list(range(len(heard) + 1))
    for i, a in enumerate(said, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(heard, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]
