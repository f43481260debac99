"""The figures of a run, as one JSON object."""

from __future__ import annotations

from statistics import quantiles

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.report import make_report, spread
from tests.loadtest.samples import call, measured

KEYS = """
    calls seconds seed scenario wire url frames_sent frames_received frames_lost
    frames_out_of_order frames_duplicated frames_unidentified frames_withheld
    frames_dropped_on_purpose frames_reordered_on_purpose encodings disconnects
    rtt_ms send_lateness_ms playout_gap_ms playout_lead_ms setup_ms response_ms barge_in_ms
    onset_lateness_ms group_delay_ms assistant cut_offs interruptions server client
    versions host faults slo
"""


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
