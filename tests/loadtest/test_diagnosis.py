"""Every fault has a name; some fail a run by themselves."""

from __future__ import annotations

import pytest

from loadtest.analysis import CallResult
from loadtest.diagnosis import generator_note, name_faults
from loadtest.report import make_report
from loadtest.table import render
from tests.loadtest.samples import call, measured, milliseconds


@pytest.mark.parametrize(
    ("fault", "text", "status"),
    [
        (call(lost=5), "lost 5 frames in 1 call", 1),
        (call(out_of_order=1), "reordered 1 frame in 1 call", 1),
        (call(duplicated=2), "duplicated 2 frames in 1 call", 1),
        (call(unidentified=100), "returned 100 frames that nobody sent (10.0 %) in 1 call", 1),
        (call(withheld=7), "stopped reading: 7 frames could not be sent in 1 call", 1),
        (call(failure="closed with 1011"), "disconnected 1 call: closed with 1011", 1),
        (
            call(malformed=3, complaints=["not JSON", "not JSON"]),
            "sent 3 messages that a carrier refuses, e.g. not JSON",
            1,
        ),
        (call(complaints=["error from the server: no"]), "reported error from the server: no", 0),
        (
            call(clears_ignored=1),
            "ignored clear: went on sending after 1 clear of its own in 1 call",
            1,
        ),
        (call(unanswered=True), "did not answer in 1 call", 1),
        (call(stalls_ms=milliseconds(300, 250)), "stalled 2 times, up to 300 ms in 1 call", 0),
        (call(delayed_ms=milliseconds(203)), "delayed 1 frame, up to 203 ms in 1 call", 0),
        (
            call(early_ms=2800.0),
            "sent early: audio up to 2800 ms ahead of its playout in 1 call",
            0,
        ),
    ],
)
def test_every_fault_has_a_name(fault: CallResult, text: str, status: int) -> None:
    report = make_report(measured(call(), fault))
    assert [found.text for found in report.faults] == [text]
    assert report.figures["faults"] == [text]
    assert report.exit_status == status
    assert text in render(report)


def test_a_good_run_has_no_faults_and_few_unidentified_frames_are_forgiven() -> None:
    assert name_faults([call(), call(unidentified=1)]) == []


def test_a_late_generator_says_so() -> None:
    late = call(lateness_ms=milliseconds(0.5, 31))
    assert generator_note([call()]) is None
    assert "31 ms late" in (generator_note([call(), late]) or "")
    assert "31 ms late" in render(make_report(measured(late)))


def test_interruptions_are_counted_and_a_goodbye_is_no_fault() -> None:
    good = call(barge_in_ms=milliseconds(240, 250, 260))
    left = call(barge_in_ms=milliseconds(230), left=True, too_late=1)
    report = make_report(measured(good, left, arguments=("--scenario", "bargein")))
    assert report.figures["interruptions"] == {
        "measured": 4,
        "per_call_min": 1,
        "too_late": 1,
        "calls_ended_by_server": 1,
    }
    assert report.exit_status == 0
    assert "4 measured, 1 at least in each call" in render(report)
