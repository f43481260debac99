"""What the page is told beside the database."""

from __future__ import annotations

from gateway.console.latency import Minute
from gateway.console.view import View
from gateway.ops.live import CallAnswered
from gateway.ops.records import CallEnded, CallStarted, MessageTaken


def test_versions_rise_when_a_list_has_changed() -> None:
    view = View()
    view.happened(0, CallStarted("CA1", 1, "MZ1"))
    assert view.versions == {"calls": 0, "messages": 0}
    view.happened(0, MessageTaken("CA1", 2, {"name": "Ann"}))
    view.happened(0, CallEnded("CA1", 3, "stopped", 2))
    assert view.versions == {"calls": 1, "messages": 1}
    assert len(view.live) == 0


def test_answers_are_in_the_hour() -> None:
    view = View()
    for response_ms in (400, 600, -1):  # -1: the stage did not happen
        view.reported(0, CallAnswered("CA1", response_ms))
    whole = view.facts()["hour"]
    assert isinstance(whole, Minute)
    assert (whole.count, whole.p50_ms) == (2, 400)
