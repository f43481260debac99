"""The report for people: one table, aligned, with units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from loadtest.report import Report

SPREAD_ROWS = (
    ("rtt_ms", "round trip"),
    ("response_ms", "response"),
    ("barge_in_ms", "barge-in"),
    ("playout_gap_ms", "playout gap"),
    ("playout_lead_ms", "playout lead"),
    ("onset_lateness_ms", "speech start"),
    ("setup_ms", "call set-up"),
    ("send_lateness_ms", "send lateness"),
)
SPREAD_COLUMNS = ("p50", "p95", "p99", "max")
COUNT_ROWS = (
    ("frames_sent", "sent"),
    ("frames_received", "received"),
    ("frames_lost", "lost"),
    ("frames_out_of_order", "out of order"),
    ("frames_duplicated", "duplicated"),
    ("frames_unidentified", "unidentified"),
    ("frames_reordered_on_purpose", "reordered on purpose"),
    ("frames_dropped_on_purpose", "dropped on purpose"),
)
ASSISTANT_ROWS = (
    ("share", "of the time speaking"),
    ("messages_per_call_second", "messages per call and second"),
    ("ms_per_message", "ms a message"),
)
SERVER_ROWS = (
    ("calls_per_core", "calls per core"),
    ("cpu_ms_per_call_second", "ms CPU per call and second"),
    ("pss_mb", "MiB PSS"),
    ("pss_mb_per_call", "MiB PSS per call"),
    ("processes", "processes"),
)
INTERRUPTION_ROWS = (
    ("measured", "measured"),
    ("per_call_min", "at least in each call"),
    ("too_late", "after the assistant had as good as finished"),
    ("calls_ended_by_server", "calls ended by the server's goodbye"),
)
INTERRUPTING = ("bargein", "dtmf")
LABEL = 16
COLUMN = 11


def render(report: Report) -> str:
    """The whole table, without a final newline."""
    return "\n".join([*_head(report.figures), "", *_spreads(report.figures), "", *_foot(report)])


def _head(figures: Mapping[str, object]) -> Iterator[str]:
    yield (
        f"{figures['scenario']}: {figures['calls']} calls, {figures['seconds']:g} s, "
        f"{figures['wire']} wire, seed {figures['seed']}, {figures['url']}"
    )


def _spreads(figures: Mapping[str, object]) -> Iterator[str]:
    heads = [f"{name} ms" for name in SPREAD_COLUMNS] + ["count"]
    yield " " * LABEL + "".join(head.rjust(COLUMN) for head in heads)
    for key, label in SPREAD_ROWS:
        spread = figures[key]
        assert isinstance(spread, Mapping)
        if spread["count"]:
            cells = [f"{spread[name]:.2f}" for name in SPREAD_COLUMNS] + [str(spread["count"])]
            yield label.ljust(LABEL) + "".join(cell.rjust(COLUMN) for cell in cells)


def _foot(report: Report) -> Iterator[str]:
    figures = report.figures
    echo = figures["scenario"] == "echo"
    counts = COUNT_ROWS if echo else COUNT_ROWS[:2]
    yield _line("frames", ", ".join(f"{figures[key]} {label}" for key, label in counts))
    yield _line("disconnects", f"{figures['disconnects']}")
    cut_offs = figures["cut_offs"]
    assert isinstance(cut_offs, Mapping)
    if cut_offs:
        pauses = ", ".join(f"{count} at {ms} ms" for ms, count in cut_offs.items())
        yield _line("cut off", f"{pauses} of pause inside a sentence")
    if figures["scenario"] in INTERRUPTING:
        yield _line("interruptions", _known(figures["interruptions"], INTERRUPTION_ROWS))
    if figures["scenario"] == "phone":
        yield _line("assistant", _known(figures["assistant"], ASSISTANT_ROWS))
    if figures["server"] is not None:
        yield _line("server", _known(figures["server"], SERVER_ROWS))
    client, host = figures["client"], figures["host"]
    assert isinstance(client, Mapping)
    assert isinstance(host, Mapping)
    yield _line(
        "generator", f"{client['cpu_percent']:g} % of a core in {client['processes']} process(es)"
    )
    yield _line(
        "host", f"{host['cpu']}, {host['cores']} cores, {host['kernel']}, Python {host['python']}"
    )
    if report.note:
        yield _line("note", report.note)
    for verdict in report.verdicts:
        yield _line("slo", verdict.line())
    for fault in report.faults:
        yield _line("fault" if fault.fails else "noticed", fault.text)
    yield _line("result", "FAILED" if report.exit_status else "passed")


def _known(found: object, rows: Sequence[tuple[str, str]]) -> str:
    """Those of the figures that could be measured."""
    assert isinstance(found, Mapping)
    return ", ".join(f"{found[key]:g} {label}" for key, label in rows if found[key] is not None)


def _line(label: str, text: str) -> str:
    return label.ljust(LABEL) + text
