"""What the page is told beside the database."""

from __future__ import annotations

from gateway.console.latency import Minute
from gateway.console.view import View
from gateway.ops.records import CallStarted, TurnAnswered


def test_the_version_rises_when_the_database_has_something_new() -> None:
    view = View()
    view.happened(0, CallStarted("CA1", 1, "MZ1"))
    assert view.facts()["version"] == 0
    view.stored()
    assert view.facts()["version"] == 1
    assert [call.call_id for call in view.live] == ["CA1"]


def test_answers_are_in_the_hour() -> None:
    view = View()
    for response_ms in (400, 600, -1):  # -1: the stage did not happen
        view.happened(0, TurnAnswered("CA1", 1, 1, 1, 1, 1, response_ms))
    whole = view.facts()["hour"]
    assert isinstance(whole, Minute)
    assert (whole.count, whole.p50_ms) == (2, 400)
