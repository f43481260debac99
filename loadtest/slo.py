"""Service levels on the command line: ``rtt_ms.p99=40`` is the most that figure may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from loadtest.errors import UsageError

COUNTS = (
    "frames_sent",
    "frames_received",
    "frames_lost",
    "frames_out_of_order",
    "frames_duplicated",
    "frames_unidentified",
    "frames_withheld",
    "disconnects",
)
SPREADS = (
    "rtt_ms",
    "send_lateness_ms",
    "playout_gap_ms",
    "playout_lead_ms",
    "setup_ms",
    "response_ms",
    "barge_in_ms",
    "onset_lateness_ms",
)
SPREAD_KEYS = ("p50", "p95", "p99", "max", "count")
ASSISTANT_KEYS = ("share", "messages_per_call_second", "ms_per_message")
SERVER_KEYS = ("cpu_ms_per_call_second", "calls_per_core", "pss_mb", "pss_mb_per_call")

NAMES = frozenset(
    [
        *COUNTS,
        *(f"{spread}.{key}" for spread in SPREADS for key in SPREAD_KEYS),
        *(f"server.{key}" for key in SERVER_KEYS),
        *(f"assistant.{key}" for key in ASSISTANT_KEYS),
        "client.cpu_percent",
    ]
)

#: Of these the value is the least, not the most, that will do.
AT_LEAST = frozenset(
    ["frames_sent", "frames_received", "server.calls_per_core"]
    + ["assistant.share", "assistant.ms_per_message"]
    + [f"{spread}.count" for spread in SPREADS]
)


@dataclass(frozen=True, slots=True)
class Slo:
    """One promise: a figure's name and its limit."""

    name: str
    limit: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """A promise and what was measured; ``value`` is None when there was nothing to measure."""

    name: str
    limit: float
    value: float | None
    met: bool

    def line(self) -> str:
        """One line for the report."""
        sign = ">=" if self.name in AT_LEAST else "<="
        found = "not measured" if self.value is None else f"{self.value:g}"
        return f"{self.name} {sign} {self.limit:g}: {'met' if self.met else 'MISSED'} ({found})"


def parse_slo(text: str) -> Slo:
    """Read ``NAME=VALUE``; raises UsageError."""
    name, separator, number = text.partition("=")
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not separator or not math.isfinite(limit):
        raise UsageError(f"{text!r} is not NAME=VALUE with a number")
    if name not in NAMES:
        raise UsageError(f"there is no figure {name!r}; try one like rtt_ms.p99 or frames_lost")
    return Slo(name, limit)


def check(slo: Slo, figures: Mapping[str, object]) -> Verdict:
    """Compare one promise with the figures of a run (the JSON object)."""
    value = _look_up(slo.name, figures)
    if value is None:
        return Verdict(slo.name, slo.limit, None, met=False)
    met = value >= slo.limit if slo.name in AT_LEAST else value <= slo.limit
    return Verdict(slo.name, slo.limit, value, met)


def _look_up(name: str, figures: Mapping[str, object]) -> float | None:
    found: object = figures
    for key in name.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) else None
