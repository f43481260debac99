"""The exposition, read back by prometheus_client's own parsers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gateway import clock
from gateway.ops.metrics import Exposition, Usage
from supervisor.scoreboard import (
    COUNTERS,
    FAMILIES,
    HISTOGRAMS,
    Field,
    Phase,
    RowName,
    Scoreboard,
    counts,
)

KINDS = ("worker", "dsp", "speech", "console")
NAMES = [RowName("worker", 0), RowName("worker", 1), *(RowName(kind, 0) for kind in KINDS[1:])]
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
LIVENESS = {
    "voice_gateway_up",
    "voice_gateway_parked",
    "voice_gateway_heartbeat_age_seconds",
    "voice_gateway_loop_lag_seconds",
    "voice_gateway_calls_active",
    "voice_gateway_calls_capacity",
    "voice_gateway_child_start_time_seconds",
}
USAGE = {100: Usage(rss_bytes=5_000, pss_bytes=3_000, descriptors=12)}
USAGES = {f"voice_gateway_process_{name}" for name in ("pss_bytes", "rss_bytes", "descriptors")}
HISTOGRAM_FAMILIES = {name.partition("/")[0] for name in HISTOGRAMS}


def value(board: Scoreboard, sample: str, kind: str, index: int, **more: str) -> float:
    """One sample's value, by way of the text."""
    text = Exposition(board).render("", {})[0].decode()
    labels = {"kind": kind, "index": str(index), **more}
    found = [
        item.value
        for family in parse_text(text)
        for item in family.samples
        if item.name == sample and item.labels == labels
    ]
    assert len(found) == 1, sample
    return found[0]


def test_both_formats_are_accepted_and_hold_every_cell() -> None:
    board = Scoreboard(NAMES, 1)
    text, text_type = Exposition(board).render("text/plain", USAGE)
    open_text, open_type = Exposition(board).render(OPENMETRICS, USAGE)
    assert text_type.startswith("text/plain")
    assert open_type.startswith("application/openmetrics-text")
    families = list(parse_text(text.decode()))
    plain = [counter for counter in COUNTERS if "/" not in counter]
    more = len(USAGES) + len(HISTOGRAM_FAMILIES)
    assert len(families) == len(plain) + len(FAMILIES) + len(LIVENESS) + more
    cells = [f for f in families if f.name not in USAGES | LIVENESS and f.type != "histogram"]
    counted = sum(counts(name.kind, counter) for name in NAMES for counter in COUNTERS)
    assert sum(len(f.samples) for f in cells) == counted
    parsed = openmetrics.text_string_to_metric_families(open_text.decode())  # type: ignore[no-untyped-call]
    assert len(list(parsed)) == len(families)
    assert {family.name for family in families} > LIVENESS


def test_names_have_units_and_help() -> None:
    text = Exposition(Scoreboard(NAMES, 1)).render("", {})[0].decode()
    for family in parse_text(text):
        assert family.documentation
        assert not family.name.endswith(("_ns", "_ms"))
        assert not family.documentation.startswith("Gauge")
    types = {family.name: family.type for family in parse_text(text)}
    assert types["voice_gateway_frames_in"] == "counter"
    assert types["voice_gateway_dsp_busy_seconds"] == "counter"
    assert types["voice_gateway_provider_breakers_open"] == "gauge"


def test_a_child_shows_what_its_kind_can_count_and_no_row_of_zeros_beside_it() -> None:
    text = Exposition(Scoreboard(NAMES, 1)).render("", {})[0].decode()
    shown: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for family in parse_text(text):
        for sample in family.samples:
            shown[sample.labels["kind"]].add(family.name.removeprefix("voice_gateway_"))
    of_all = {"up", "parked", "restarts", "heartbeat_age_seconds", "loop_lag_seconds"}
    of_all |= {"child_start_time_seconds"}
    assert shown["speech"] == of_all
    assert shown["console"] == of_all | {"messages_invalid", "records_dropped"}
    assert of_all < shown["dsp"]
    assert {"dsp_busy_seconds", "frames_aged", "caller_ring_frames_max"} < shown["dsp"]
    assert of_all | {"calls", "calls_active", "refusals", "messages_invalid"} < shown["worker"]
    assert shown["dsp"] & shown["worker"] == of_all


def test_what_would_not_be_shown_cannot_be_counted() -> None:
    board = Scoreboard(NAMES, 1)
    with pytest.raises(KeyError):
        board.row("dsp", 0).count("calls")
    with pytest.raises(KeyError):
        board.row("worker", 0).gauge("caller_ring_frames_max", 1)
    assert board.row("dsp", 0).counter("calls") == 0


@pytest.mark.parametrize("least", [0, 1, 2**53 - len(COUNTERS)])
def test_a_count_arrives(least: int) -> None:
    """Each where it belongs, with another one in every other place."""
    board = Scoreboard([*NAMES, *(RowName(kind, 1) for kind in KINDS[1:])], 1)
    expected = {}
    for count, (counter, text) in enumerate(COUNTERS.items(), least):
        kind = next(kind for kind in KINDS if counts(kind, counter))
        board.row(kind, 1).count(counter, count)
        base, _, label = counter.partition("/")
        more = [(FAMILIES[base][0], label)] if label else []
        sample = "voice_gateway_" + base.replace("_ns", "_seconds")
        sample += "" if text.startswith("Gauge:") else "_total"
        value = count / 1e9 if counter.endswith("_ns") else count
        for index, here in (("0", 0), ("1", value)):
            labels = frozenset([("kind", kind), ("index", index), *more])
            expected[sample, labels] = here
    found = {
        (item.name, frozenset(item.labels.items())): item.value
        for family in parse_text(Exposition(board).render("", {})[0].decode())
        for item in family.samples
    }
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_refusals_are_told_apart_by_their_reason() -> None:
    board = Scoreboard(NAMES, 1)
    board.row("worker", 0).count("refusals/full", 3)
    board.row("worker", 0).count("refusals/late")
    sample = "voice_gateway_refusals_total"
    assert value(board, sample, "worker", 0, reason="full") == 3
    assert value(board, sample, "worker", 0, reason="late") == 1
    assert value(board, sample, "worker", 0, reason="draining") == 0


def test_a_replaced_child_keeps_its_counts_and_starts_anew_otherwise() -> None:
    board = Scoreboard(NAMES, 1)
    row = board.row("worker", 0)
    row.take(100, clock.now_ns())
    row.count("calls", 7)
    row.set(Field.CALLS, 3)
    row.set(Field.CAPACITY, 8)
    row.count("provider_breakers_open")  # it dies with its worker: nobody else could close it
    row.ready()
    assert value(board, "voice_gateway_up", "worker", 0) == 1
    assert value(board, "voice_gateway_calls_active", "worker", 0) == 3
    assert value(board, "voice_gateway_calls_capacity", "worker", 0) == 8
    assert value(board, "voice_gateway_provider_breakers_open", "worker", 0) == 1
    row.leave()
    assert value(board, "voice_gateway_provider_breakers_open", "worker", 0) == 0
    row.gauge("tts_cache_bytes", 9)  # a last word of the dead
    row.take(101, clock.now_ns())
    assert value(board, "voice_gateway_tts_cache_bytes", "worker", 0) == 0
    assert value(board, "voice_gateway_calls_total", "worker", 0) == 7
    assert value(board, "voice_gateway_calls_active", "worker", 0) == 0
    assert value(board, "voice_gateway_up", "worker", 0) == 0


def test_times_are_in_seconds() -> None:
    board = Scoreboard(NAMES, 1)
    row = board.row("dsp", 0)
    row.take(100, clock.now_ns())
    row.set(Field.PHASE, Phase.READY)
    row.beat(clock.now_ns() - 5 * 10**9, lag_ns=250_000_000)
    assert value(board, "voice_gateway_loop_lag_seconds", "dsp", 0) == 0.25
    assert value(board, "voice_gateway_heartbeat_age_seconds", "dsp", 0) >= 5
    assert value(board, "voice_gateway_up", "dsp", 0) == 0
    started = value(board, "voice_gateway_child_start_time_seconds", "dsp", 0)
    assert started == pytest.approx(clock.wall_ms() / 1000, abs=3600)
    assert value(board, "voice_gateway_child_start_time_seconds", "worker", 0) == 0


@given(st.sampled_from(sorted(HISTOGRAMS)), st.lists(st.integers(0, 20_000), max_size=20))
def test_what_is_observed_is_counted_in_its_bucket(name: str, values: list[int]) -> None:
    board = Scoreboard(NAMES, 1)
    histogram = HISTOGRAMS[name]
    row = board.row(histogram.kind, 0)
    for observed in values:
        row.observe(name, observed)
    row.leave()
    row.take(100, clock.now_ns())  # a new child counts on
    base, _, stage = name.partition("/")
    scale = 1000 if base.endswith("_ms") else 1
    public = "voice_gateway_" + base.removesuffix("_ms") + ("_seconds" if scale == 1000 else "")
    labels = {"kind": histogram.kind, "index": "0"} | ({"stage": stage} if stage else {})
    text = Exposition(board).render("", {})[0].decode()
    (family,) = (family for family in parse_text(text) if family.name == public)
    mine = {
        (item.name, item.labels.get("le", "")): item.value
        for item in family.samples
        if {k: v for k, v in item.labels.items() if k != "le"} == labels
    }
    for bound in histogram.bounds:
        expected = sum(observed <= bound for observed in values)
        assert mine[f"{public}_bucket", str(bound / scale)] == expected
    assert mine[f"{public}_count", ""] == mine[f"{public}_bucket", "+Inf"] == len(values)
    assert mine[f"{public}_sum", ""] == pytest.approx(sum(values) / scale)


def test_a_high_water_mark_only_rises() -> None:
    board = Scoreboard(NAMES, 1)
    for frames in (3, 7, 5):
        board.row("dsp", 0).raise_to("caller_ring_frames_max", frames)
    assert value(board, "voice_gateway_caller_ring_frames_max", "dsp", 0) == 7


def test_processes_tell_what_they_use() -> None:
    board = Scoreboard(NAMES, 1)
    board.row("worker", 0).take(100, clock.now_ns())
    text = Exposition(board).render("", USAGE)[0].decode()
    found = {f.name: [s.value for s in f.samples] for f in parse_text(text) if f.name in USAGES}
    assert found == {
        "voice_gateway_process_pss_bytes": [3_000],
        "voice_gateway_process_rss_bytes": [5_000],
        "voice_gateway_process_descriptors": [12],
    }
