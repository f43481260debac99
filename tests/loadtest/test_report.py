"""Figures, named faults, promises, the table and the exit status."""

from __future__ import annotations

from pathlib import Path
from statistics import quantiles

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.analysis import CallResult
from loadtest.errors import UsageError
from loadtest.faults import generator_note, name_faults
from loadtest.host import ServerCost, ServerUsage, server_cost
from loadtest.options import Options, parse_options
from loadtest.report import Measured, make_report, spread
from loadtest.slo import AT_LEAST, NAMES, Slo, check, parse_slo
from loadtest.table import render

KEYS = """
    calls seconds seed scenario wire url frames_sent frames_received frames_lost
    frames_out_of_order frames_duplicated frames_unidentified frames_withheld disconnects
    rtt_ms send_lateness_ms playout_gap_ms playout_lead_ms setup_ms response_ms barge_in_ms
    group_delay_ms server client versions host faults slo
"""
ALL_OPTIONS = """
    --calls 400 --seconds 20 --ramp 5 --scenario talk --processes 2 --pid 1 --seed 7
    --json x.json --slo rtt_ms.p99=40 frames_lost=0 --slo rtt_ms.p50=20
    --save-heard out --wire plain --parameter a=b=c --parameter d=
"""


def call(**changes: object) -> CallResult:
    result = CallResult(index=0, connected=True, setup_ms=12.5, sent=500, received=500)
    result.rtt_ms = np.linspace(10, 20, 500).astype(np.float32)
    result.lateness_ms = np.full(500, 0.5, np.float32)
    for name, value in changes.items():
        setattr(result, name, value)
    return result


def options(*arguments: str) -> Options:
    return parse_options(["--url", "ws://127.0.0.1:4000/", *arguments])


def measured(*results: CallResult, arguments: tuple[str, ...] = ()) -> Measured:
    server = ServerCost(1.25, 800.0, 82.1, 0.15, 4)
    host: dict[str, str | int] = {"cpu": "x", "cores": 2, "kernel": "Linux", "python": "3.11"}
    return Measured(options(*arguments), results, 33.3, server, {"numpy": "2"}, host)


@given(st.lists(st.lists(st.floats(0, 1e4, width=32), max_size=30), min_size=1, max_size=4))
def test_percentiles_are_of_all_samples_together(samples: list[list[float]]) -> None:
    found = spread([np.array(part, np.float32) for part in samples])
    together = sorted(value for part in samples for value in part)
    assert found.count == len(together)
    if not together:
        assert found.max is found.p50 is None
        return
    assert found.max == pytest.approx(together[-1], abs=1e-3)
    if len(together) > 1:
        oracle = quantiles(together, n=100, method="inclusive")
        for value, percent in ((found.p50, 50), (found.p95, 95), (found.p99, 99)):
            assert value == pytest.approx(oracle[percent - 1], abs=1e-3, rel=1e-6)


def test_no_samples_no_spread() -> None:
    assert spread([]).count == 0


def test_the_json_object() -> None:
    report = make_report(measured(call(), call(lost=0)))
    assert report.figures.keys() == set(KEYS.split())
    assert report.exit_status == 0
    written = orjson.loads(orjson.dumps(report.figures))
    assert written["frames_sent"] == 1000
    assert written["rtt_ms"].keys() == {"p50", "p95", "p99", "max", "count"}
    assert written["barge_in_ms"] == {
        "p50": None,
        "p95": None,
        "p99": None,
        "max": None,
        "count": 0,
    }
    assert written["server"]["calls_per_core"] == 800
    assert written["client"]["cpu_percent"] == 33.3


def milliseconds(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, np.float32)


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


def test_the_cost_of_a_server() -> None:
    cost = server_cost(ServerUsage(5.0, 60.0, 100.0, 3), calls=400, call_seconds=4000)
    assert cost == ServerCost(1.25, 800.0, 100.0, 0.1, 3)


def test_a_server_that_cannot_be_read_has_no_cost() -> None:
    cost = server_cost(ServerUsage(0.0, None, None, 0), calls=1, call_seconds=0)
    assert cost == ServerCost(None, None, None, None, 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "http://127.0.0.1/"],
        ["--url", "ws://"],
        ["--calls", "0"],
        ["--calls", "-1"],
        ["--calls", "1.5"],
        ["--calls", "99999999"],
        ["--seconds", "0"],
        ["--seconds", "nan"],
        ["--seconds", "x"],
        ["--ramp", "-1"],
        ["--scenario", "none"],
        ["--wire", "none"],
        ["--audio", "no/such/file"],
        ["--parameter", "x"],
        ["--parameter", "=x"],
        ["--slo", "x=1"],
        ["--unknown"],
        ["stray"],
    ],
)
def test_usage_errors(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        options(*arguments)


def test_all_options() -> None:
    given_options = options(*ALL_OPTIONS.split())
    assert given_options.calls == 400
    assert (given_options.seconds, given_options.ramp) == (20.0, 5.0)
    assert [slo.name for slo in given_options.slos] == ["rtt_ms.p99", "frames_lost", "rtt_ms.p50"]
    assert given_options.parameters == (("a", "b=c"), ("d", ""))
    assert given_options.json == Path("x.json")


def test_defaults() -> None:
    given_options = options()
    assert (given_options.calls, given_options.processes, given_options.seed) == (1, 1, 1)
    assert given_options.seconds == 10
    assert options("--scenario", "talk").seconds == 60
    assert options("--processes", "8").processes == 1  # no more than calls
