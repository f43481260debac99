"""Names for what a server did wrong, in words an operator can act on.

A fault that ``fails`` ends the run with exit status 1 by itself. The others depend on what the
service promises: an ``--slo`` makes them fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loadtest.analysis import CallResult

#: Audio further ahead than this makes an interruption slow and what was heard uncertain.
LEAD_MS_MAX = 1000.0
#: Share of received frames that may stay unidentified without a word.
UNIDENTIFIED_SHARE = 0.001
#: The generator's own lateness that is worth a warning.
LATE_MS_MAX = 20.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One named fault."""

    text: str
    fails: bool


def name_faults(results: Sequence[CallResult]) -> list[Fault]:
    """Everything a server did wrong in a run, most serious first."""
    return [*_counted(results), *_connections(results), *_messages(results), *_timing(results)]


def generator_note(results: Sequence[CallResult]) -> str | None:
    """A warning when the generator itself was late: its lateness is part of every latency."""
    worst = _worst(result.lateness_ms.max() for result in results if result.lateness_ms.size)
    if worst <= LATE_MS_MAX:
        return None
    return f"the generator itself was up to {worst:.0f} ms late; latencies include that"


def _counted(results: Sequence[CallResult]) -> Iterable[Fault]:
    for name, counts in (
        ("lost", [r.lost for r in results]),
        ("reordered", [r.out_of_order for r in results]),
        ("duplicated", [r.duplicated for r in results]),
    ):
        if any(counts):
            yield Fault(f"{name} {_many(sum(counts), 'frame')}{_where(counts)}", fails=True)
    unknown = [r.unidentified for r in results]
    received = sum(r.received for r in results)
    if sum(unknown) > UNIDENTIFIED_SHARE * received:
        share = 100 * sum(unknown) / received
        yield Fault(
            f"returned {_many(sum(unknown), 'frame')} that nobody sent ({share:.1f} %)"
            f"{_where(unknown)}",
            fails=True,
        )
    withheld = [r.withheld for r in results]
    if any(withheld):
        text = f"stopped reading: {_many(sum(withheld), 'frame')} could not be sent"
        yield Fault(text + _where(withheld), fails=True)


def _connections(results: Sequence[CallResult]) -> Iterable[Fault]:
    for failure, calls in Counter(r.failure for r in results if r.failure).most_common():
        yield Fault(f"disconnected {_many(calls, 'call')}: {failure}", fails=True)


def _messages(results: Sequence[CallResult]) -> Iterable[Fault]:
    malformed = sum(r.malformed for r in results)
    complaints = Counter(text for r in results for text in r.complaints)
    if malformed:
        first = next(iter(complaints), "")
        text = f"sent {_many(malformed, 'message')} that a carrier refuses, e.g. {first}"
        yield Fault(text, fails=True)
    elif complaints:
        yield Fault(f"reported {next(iter(complaints))}", fails=False)
    ignored = [r.clears_ignored for r in results]
    if any(ignored):
        text = f"ignored clear: went on sending after {_many(sum(ignored), 'clear')} of its own"
        yield Fault(text + _where(ignored), fails=True)
    unanswered = sum(r.unanswered for r in results)
    if unanswered:
        yield Fault(f"did not answer in {_many(unanswered, 'call')}", fails=True)


def _timing(results: Sequence[CallResult]) -> Iterable[Fault]:
    for name, times in (
        ("stalled", [r.stalls_ms for r in results]),
        ("delayed", [r.delayed_ms for r in results]),
    ):
        counts = [len(t) for t in times]
        if any(counts):
            worst = _worst(t.max() for t in times if t.size)
            what = _many(sum(counts), "time" if name == "stalled" else "frame")
            yield Fault(f"{name} {what}, up to {worst:.0f} ms{_where(counts)}", fails=False)
    broken = [len(r.broken_ms) for r in results]
    if any(broken):
        worst = _worst(r.broken_ms.max() for r in results if r.broken_ms.size)
        text = f"broke off {_many(sum(broken), 'time')} within its words, up to {worst:.0f} ms"
        yield Fault(text + _where(broken), fails=True)
    early = [r.early_ms > LEAD_MS_MAX for r in results]
    if any(early):
        worst = _worst(r.early_ms for r in results)
        text = f"sent early: audio up to {worst:.0f} ms ahead of its playout"
        yield Fault(text + _where(early), fails=False)


def _worst(values: Iterable[float]) -> float:
    return max((float(value) for value in values), default=0.0)


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _where(counts: Sequence[int | bool]) -> str:
    return f" in {_many(sum(map(bool, counts)), 'call')}"
