"""Findings: a line each, one status for all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.doctor.finding import fail, ok, skip, status_of


def test_a_finding_is_its_mark_its_subject_and_what_to_do() -> None:
    assert ok("stream", "open").line == "ok    stream: open"
    assert fail("stream", "open it").line == "FAIL  stream: open it"
    assert skip("stream", "not asked").line == "skip  stream: not asked"


@given(st.text())
def test_it_is_one_line_whatever_a_server_said(text: str) -> None:
    line = fail("models", text).line
    assert line.splitlines() == [line]
    assert line.isprintable()


def test_one_failure_is_enough() -> None:
    assert status_of([ok("a", ""), skip("b", "")]) == 0
    assert status_of([ok("a", ""), fail("b", ""), ok("c", "")]) == 1
