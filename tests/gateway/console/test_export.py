"""CSV that a spreadsheet reads back, and that computes nothing."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.console.export import messages_csv
from gateway.ops.store import StoredMessage

texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


def message(
    fields: dict[str, str], number: str = "", done_at_ms: int | None = None
) -> StoredMessage:
    return StoredMessage("CA1", "1", 0, number, fields, done_at_ms)


def rows(*messages: StoredMessage) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(messages_csv(messages), newline="")))


@given(st.lists(st.dictionaries(texts.map(lambda name: f"f{name}"), texts, max_size=4), max_size=4))
def test_every_field_arrives_and_none_is_a_formula(fields: list[dict[str, str]]) -> None:
    found = rows(*map(message, fields))
    assert len(found) == len(fields)
    for row, given_fields in zip(found, fields, strict=True):
        for name, text in given_fields.items():
            assert row[name] in {text, f"'{text}"}
            assert not row[name].startswith(("=", "@"))


@pytest.mark.parametrize("text", ["=1+1", "@SUM(A1)", "+cmd|' /C calc'!A0", "-2+3+cmd", "\t=1"])
def test_formulas_become_text(text: str) -> None:
    assert rows(message({"reason": text}))[0]["reason"] == f"'{text}"


@pytest.mark.parametrize("number", ["+49 151 123-45 (6)", "+15550100", "-5", "call me +1"])
def test_numbers_stay_as_they_are(number: str) -> None:
    (row,) = rows(message({"number": number}, number))
    assert (row["number"], row["caller_number"]) == (number, number)


def test_when_it_was_done() -> None:
    done, still_open = rows(message({}, done_at_ms=60_000), message({}))
    assert done["done_at"] == "1970-01-01 00:01:00+00:00"
    assert still_open["done_at"] == ""
