"""The table for people."""

from __future__ import annotations

from loadtest.report import make_report
from loadtest.table import render
from tests.loadtest.samples import call, measured, milliseconds


def test_the_table_is_aligned() -> None:
    text = render(make_report(measured(call(response_ms=milliseconds(700)))))
    lines = text.splitlines()
    head = next(i for i, line in enumerate(lines) if "p50 ms" in line)
    rows = lines[head : lines.index("", head)]
    assert len(rows) == 1 + 4  # of what was measured only: round trip, response, set-up, lateness
    assert {len(row) for row in rows} == {len(rows[0])}
    assert rows[1].split()[:4] == ["round", "trip", "15.00", "19.50"]
    assert "800 calls per core" in text
    assert lines[-1].split() == ["result", "passed"]


def test_a_conversation_has_no_lost_frames_to_show() -> None:
    talk = make_report(measured(call(), arguments=("--scenario", "talk")))
    assert "0 lost" not in render(talk)
    assert "0 lost" in render(make_report(measured(call())))
