"""Promises about figures: read, checked, reported."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.errors import UsageError
from loadtest.report import make_report
from loadtest.slo import AT_LEAST, NAMES, Slo, check, parse_slo
from loadtest.table import render
from tests.loadtest.samples import call, measured


@pytest.mark.parametrize(
    ("text", "met", "value"),
    [
        ("rtt_ms.p99=40", True, 19.9),
        ("rtt_ms.p99=15", False, 19.9),
        ("rtt_ms.count=500", True, 500),
        ("rtt_ms.count=501", False, 500),
        ("frames_lost=0", True, 0),
        ("server.calls_per_core=700", True, 800),
        ("server.calls_per_core=900", False, 800),
        ("server.pss_mb=180", True, 82.1),
        ("client.cpu_percent=60", True, 33.3),
        ("response_ms.p50=900", False, None),
    ],
)
def test_promises(text: str, met: bool, value: float | None) -> None:  # noqa: FBT001
    report = make_report(measured(call(), arguments=("--slo", text)))
    (verdict,) = report.verdicts
    assert verdict.met is met
    assert verdict.value == pytest.approx(value) if value is not None else verdict.value is None
    assert report.exit_status == int(not met)
    assert verdict.line() in render(report)
    assert verdict.name in verdict.line()


@given(st.sampled_from(sorted(NAMES)), st.floats(-1e9, 1e9), st.floats(-1e9, 1e9))
def test_any_figure_can_be_promised(name: str, limit: float, value: float) -> None:
    slo = parse_slo(f"{name}={limit!r}")
    assert slo == Slo(name, limit)
    figures: dict[str, object] = {name: value}
    if "." in name:
        outer, inner = name.split(".")
        figures = {outer: {inner: value}}
    verdict = check(slo, figures)
    assert verdict.met is (value >= limit if name in AT_LEAST else value <= limit)
    assert not check(slo, {}).met


def test_every_promise_is_a_figure_of_the_report() -> None:
    figures = make_report(measured(call())).figures
    for name in NAMES:
        found: object = figures
        for key in name.split("."):
            assert isinstance(found, dict)
            found = found[key]


@pytest.mark.parametrize("text", ["", "rtt_ms.p99", "rtt_ms.p99=", "rtt_ms=3", "x=1", "=1"])
def test_a_promise_that_is_none(text: str) -> None:
    with pytest.raises(UsageError):
        parse_slo(text)


@pytest.mark.parametrize("number", ["nan", "inf", "40ms"])
def test_a_limit_that_is_no_number(number: str) -> None:
    with pytest.raises(UsageError):
        parse_slo(f"rtt_ms.p99={number}")
