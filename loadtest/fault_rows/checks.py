"""What must hold after a fault, as pure functions of the calls' results and the time of the fault.

A ``Check`` is one sentence of a row of the table: what was measured, and whether that will do.
``timed`` ones depend on how fast the machine is: a test that shares it does not rely on them.
All times of day are nanoseconds of the monotonic clock, which processes share.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.analysis import CallResult, Milliseconds
from loadtest.schedule import FRAME_NS, NS_PER_MS, NS_PER_SECOND

#: Round trips are compared over this long before the fault and after it.
COMPARED_NS = 2 * NS_PER_SECOND
#: A fault's gaps are those that end within this time after it.
GAP_WITHIN_NS = 3 * NS_PER_SECOND
#: Longer than a handshake takes that waits for nobody.
SERVED_WITHIN_NS = NS_PER_SECOND

_NONE = np.empty(0, np.float32)


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was measured; ``holds``: as required."""

    text: str
    holds: bool
    timed: bool = False


def at_most(what: str, value: float, limit: float, unit: str) -> Check:
    """A measured time or size with its limit."""
    return Check(f"{what} {value:.0f} {unit}", value <= limit, timed=True)


def cut_calls(calls: Iterable[CallResult]) -> list[CallResult]:
    """Calls that were up and ended before their time."""
    return [call for call in calls if call.connected and call.failure]


def refused_calls(calls: Iterable[CallResult]) -> list[CallResult]:
    """Calls that could not be set up."""
    return [call for call in calls if not call.connected]


def up_at(calls: Iterable[CallResult], now_ns: int) -> list[CallResult]:
    """Calls that were up at that time."""
    return [call for call in calls if call.connected and call.opened_ns <= now_ns < call.closed_ns]


def none_cut(calls: Sequence[CallResult]) -> Check:
    """No call ended before its time."""
    cut = cut_calls(calls)
    reasons = f" ({_reasons(cut)})" if cut else ""
    return Check(f"{len(cut)} of {len(calls)} calls cut{reasons}", not cut)


def none_refused(
    calls: Sequence[CallResult], what: str = "connects", fault_ns: int = 0, why: Sequence[str] = ()
) -> Check:
    """Every call could be set up.

    On a machine that is busy with other things two failures say nothing of the fault: a gateway
    that is late refuses calls by HTTP 503, and a handshake that was under way at the time of the
    fault may have been in the hands of the process that died. ``why``: the gateway's own reasons
    for its 503.
    """
    refused = refused_calls(calls)
    late = [_refused_for_lateness(call) or call.connect_ns < fault_ns for call in refused]
    reasons = [_reasons(refused)] if refused else []
    if why and any(map(_refused_for_lateness, refused)):
        reasons.append(f"refused as {', '.join(why)}")
    told = f" ({'; '.join(reasons)})" if reasons else ""
    text = f"{len(refused)} of {len(calls)} {what} failed{told}"
    return Check(text, not refused, timed=bool(late) and all(late))


def none_lost(calls: Sequence[CallResult], whose: str = "", *, aged: bool = False) -> Check:
    """Every frame came back once and in order.

    ``aged``: the gateway has thrown frames away because it was late, as it is when it is given too
    little processor time: on a machine that is busy with other things that says nothing.
    """
    lost = sum(call.lost + call.withheld for call in calls)
    wrong = sum(call.out_of_order + call.duplicated for call in calls)
    text = f"{lost} frames{whose} lost"
    text += f", {wrong} out of order or doubled" if wrong else ""
    return Check(text, not lost + wrong, timed=aged)


def only_those_on(ports: Collection[int], calls: Sequence[CallResult], fault_ns: int) -> Check:
    """A worker's death ends the calls on it and no other.

    ``ports`` are the callers' ends of the connections that it held when it stopped.
    """
    theirs, others = shared_out(ports, calls, fault_ns)
    ended = cut_calls(theirs)
    cut = cut_calls(others)
    reasons = f" ({_reasons(cut)})" if cut else ""
    text = f"{len(ended)} of its {len(theirs)} calls ended and {len(cut)} others{reasons}"
    return Check(text, bool(theirs) and not cut)


def shared_out(
    ports: Collection[int], calls: Sequence[CallResult], fault_ns: int
) -> tuple[list[CallResult], list[CallResult]]:
    """The calls with those ports that had begun before the fault and not ended, and all others."""
    on_it = {
        id(call)
        for call in calls
        if call.local_port in ports and call.connect_ns <= fault_ns < call.closed_ns
    }
    theirs = [call for call in calls if id(call) in on_it]
    return theirs, [call for call in calls if id(call) not in on_it]


def p99_ms(calls: Iterable[CallResult], from_ns: int, to_ns: int) -> float | None:
    """99th percentile of the round trips of frames due in that time."""
    times = np.concatenate([_NONE, *(_round_trips(call, from_ns, to_ns) for call in calls)])
    return float(np.percentile(times, 99)) if times.size else None


def p99_moves(calls: Sequence[CallResult], fault_ns: int, limit_ms: float) -> Check:
    """The fault does not slow the others down."""
    before = p99_ms(calls, fault_ns - COMPARED_NS, fault_ns)
    after = p99_ms(calls, fault_ns, fault_ns + COMPARED_NS)
    if before is None or after is None:
        return Check("their p99 was not measured", holds=False, timed=True)
    text = f"their p99 {before:.0f} -> {after:.0f} ms"
    return Check(text, after - before <= limit_ms, timed=True)


def gap_within(calls: Iterable[CallResult], fault_ns: int, limit_ms: float) -> Check:
    """The longest gap that a caller heard from the fault on, less the generator's own lateness.

    A silence of more than a second is no gap to the playout buffer; an echo never pauses so long.
    """
    worst = 0.0
    for call in calls:
        worst = max(worst, float(call.stalls_ms.max(initial=0)))
        after = (call.gap_ends_ns >= fault_ns) & (call.gap_ends_ns <= fault_ns + GAP_WITHIN_NS)
        worst = max(worst, float(call.gaps_blamed_ms[after].max(initial=0)))
    return at_most("gap in playout", worst, limit_ms, "ms")


def served_while_hung(calls: Sequence[CallResult], from_ns: int, to_ns: int) -> Check:
    """Calls that came while a worker hung were up before anything was done about it.

    While the others are late, and refuse calls, nobody can take what waits for the hung one. Who
    came in the last moment may have been served at once and be up only afterwards.
    """
    all_came = [call for call in calls if from_ns <= call.connect_ns < to_ns - SERVED_WITHIN_NS]
    came = [call for call in all_came if not _refused_for_lateness(call)]
    waited = [call for call in came if not call.connected or call.opened_ns >= to_ns]
    text = f"{len(waited)} of {len(came)} new calls waited for it"
    return Check(text, bool(came) and not waited, timed=len(came) < len(all_came))


def setup_p99_ms(calls: Iterable[CallResult]) -> float:
    """99th percentile of the time from connect to the end of the handshake."""
    setups = [call.setup_ms for call in calls if call.connected]
    return float(np.percentile(setups, 99)) if setups else float("inf")


def slowest_setup(calls: Iterable[CallResult], limit_ms: float, floor_ms: float) -> Check:
    """The slowest handshakes; ``floor_ms`` are those of a server that does nothing else."""
    value = setup_p99_ms(calls)
    text = f"handshake p99 {value:.0f} ms (a bare server's: {floor_ms:.0f} ms)"
    return Check(text, value <= limit_ms, timed=True)


def evenly_placed(held: Collection[int], workers: int, limit: float) -> Check:
    """Connections of the busiest worker to the mean; ``held``: the worker of each connection."""
    counts = sorted((sum(pid == other for other in held) for pid in set(held)), reverse=True)
    ratio = counts[0] * workers / len(held) if held else float("inf")
    shown = "/".join(map(str, counts + [0] * (workers - len(counts))))
    return Check(f"max/mean {ratio:.2f} ({shown})", ratio <= limit)


def _refused_for_lateness(call: CallResult) -> bool:
    return not call.connected and "HTTP 503" in call.failure


def _reasons(calls: Sequence[CallResult]) -> str:
    """The commonest two reasons."""
    counts: dict[str, int] = {}
    for call in calls:
        counts[call.failure] = counts.get(call.failure, 0) + 1
    common = sorted(counts, key=lambda reason: -counts[reason])[:2]
    return "; ".join(f"{counts[reason]} x {reason}" for reason in common)


def _round_trips(call: CallResult, from_ns: int, to_ns: int) -> Milliseconds:
    due = call.first_ns + call.rtt_frames * FRAME_NS
    return call.rtt_ms[(due >= from_ns) & (due < to_ns)]


def ms(duration_ns: float) -> float:
    """Nanoseconds as milliseconds."""
    return duration_ns / NS_PER_MS
