"""From the calls' results to figures: one JSON object, faults by name, an exit status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from loadtest.analysis import CallResult, Milliseconds
from loadtest.diagnosis import Fault, generator_note, name_faults
from loadtest.host import ServerCost
from loadtest.options import Options
from loadtest.scenario import SCENARIOS
from loadtest.slo import Verdict, check
from loadtest.speaking import onset_lateness_ms

DIGITS = 3


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution in milliseconds; all None when there was no sample."""

    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None
    count: int


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything a run brought home."""

    options: Options
    results: Sequence[CallResult]
    client_cpu_percent: float
    server: ServerCost | None
    versions: Mapping[str, str]
    host: Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Report:
    """A judged run: figures as a JSON object, faults by name, promises kept or not."""

    figures: dict[str, object]
    faults: Sequence[Fault]
    verdicts: Sequence[Verdict]
    note: str | None

    @property
    def exit_status(self) -> int:
        """0, or 1 when the server failed."""
        failed = any(fault.fails for fault in self.faults)
        return int(failed or not all(verdict.met for verdict in self.verdicts))


def make_report(measured: Measured) -> Report:
    """Judge a run."""
    figures = make_figures(measured)
    verdicts = [check(slo, figures) for slo in measured.options.slos]
    faults = name_faults(measured.results)
    figures["faults"] = [fault.text for fault in faults]
    figures["slo"] = [asdict(verdict) for verdict in verdicts]
    return Report(figures, faults, verdicts, generator_note(measured.results))


def make_figures(measured: Measured) -> dict[str, object]:
    """The JSON object, but for faults and promises."""
    options, results = measured.options, measured.results
    spreads = {
        "rtt_ms": [r.rtt_ms for r in results],
        "send_lateness_ms": [r.lateness_ms for r in results],
        "playout_gap_ms": [r.gaps_ms for r in results],
        "playout_lead_ms": [r.lead_ms for r in results],
        "setup_ms": [np.array([r.setup_ms], np.float32) for r in results if r.connected],
        "response_ms": [r.response_ms for r in results],
        "barge_in_ms": [r.barge_in_ms for r in results],
        "onset_lateness_ms": _onset_lateness(measured),
    }
    return {
        "calls": options.calls,
        "seconds": options.seconds,
        "seed": options.seed,
        "scenario": options.scenario,
        "wire": options.wire.name,
        "encodings": [options.wire.caller.name, options.wire.assistant.name],
        "url": options.url,
        "frames_sent": sum(r.sent for r in results),
        "frames_received": sum(r.received for r in results),
        "frames_lost": sum(r.lost for r in results),
        "frames_out_of_order": sum(r.out_of_order for r in results),
        "frames_duplicated": sum(r.duplicated for r in results),
        "frames_unidentified": sum(r.unidentified for r in results),
        "frames_withheld": sum(r.withheld for r in results),
        "frames_dropped_on_purpose": sum(r.dropped for r in results),
        "frames_reordered_on_purpose": sum(r.reordered for r in results),
        "disconnects": sum(bool(r.failure) for r in results),
        **{key: asdict(spread(samples)) for key, samples in spreads.items()},
        "group_delay_ms": _group_delay(results),
        "assistant": _assistant(results),
        "interruptions": _interruptions(results),
        "cut_offs": _cut_offs(results),
        "server": asdict(measured.server) if measured.server else None,
        "client": {
            "cpu_percent": round(measured.client_cpu_percent, 1),
            "processes": options.processes,
        },
        "versions": dict(measured.versions),
        "host": dict(measured.host),
    }


def _onset_lateness(measured: Measured) -> Sequence[Milliseconds]:
    """How late utterances began; only an assistant that keeps a rhythm can be late."""
    if not SCENARIOS[measured.options.scenario].recites:
        return []
    return onset_lateness_ms([result.onsets_ns for result in measured.results])


def _assistant(results: Sequence[CallResult]) -> dict[str, float | None]:
    """How much the assistant spoke in the steady window, and in what pieces."""
    up = sum(result.steady_seconds for result in results)
    spoken = sum(result.spoken_seconds for result in results)
    messages = sum(result.messages for result in results)
    return {
        "share": round(spoken / up, DIGITS) if up else None,
        "messages_per_call_second": round(messages / up, DIGITS) if up else None,
        "ms_per_message": round(1000 * spoken / messages, 1) if messages else None,
    }


def _interruptions(results: Sequence[CallResult]) -> dict[str, int]:
    """How many were measured, in all and in the call with the fewest; why there are no more."""
    counts = [len(r.barge_in_ms) for r in results if r.connected]
    return {
        "measured": sum(counts),
        "per_call_min": min(counts, default=0),
        "too_late": sum(r.too_late for r in results),
        "calls_ended_by_server": sum(r.left for r in results),
    }


def _cut_offs(results: Sequence[CallResult]) -> dict[str, str]:
    """By the length of the pause inside a sentence (ms): how many of them were cut off."""
    found = [each for result in results for each in result.cut_offs]
    return {
        str(pause): f"{sum(cut for ms, cut in found if ms == pause)} of {lengths.count(pause)}"
        for lengths in [[ms for ms, _ in found]]
        for pause in sorted(set(lengths))
    }


def spread(samples: Sequence[Milliseconds]) -> Spread:
    """Percentiles of all samples together (linear between neighbours)."""
    together = np.concatenate(samples) if samples else np.empty(0, np.float32)
    if not together.size:
        return Spread(None, None, None, None, 0)
    p50, p95, p99, most = np.percentile(together.astype(np.float64), [50, 95, 99, 100])
    return Spread(
        p50=round(float(p50), DIGITS),
        p95=round(float(p95), DIGITS),
        p99=round(float(p99), DIGITS),
        max=round(float(most), DIGITS),
        count=int(together.size),
    )


def _group_delay(results: Sequence[CallResult]) -> float | None:
    """The part of the server's delay that is no whole frame and not in the round trip, median."""
    delays = [r.group_delay_ms for r in results if r.group_delay_ms is not None]
    return round(float(np.median(delays)), DIGITS) if delays else None
