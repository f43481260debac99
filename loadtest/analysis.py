"""One finished call, judged: what was lost, late, doubled, unheard. After the run, never during it.

All that takes thought about a recording happens here, as array expressions over the whole call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loadtest.caller import Caller
from loadtest.clips import FULL_SCALE
from loadtest.identify import Echo, Identification, identify
from loadtest.recorder import Recorder
from loadtest.scenario import Scenario
from loadtest.schedule import FRAME_NS, NS_PER_MS, NS_PER_SECOND
from loadtest.speaking import hear_out
from loadtest.wires import Wire

Milliseconds = NDArray[np.float32]

#: Frames sent in the last half second may still be on their way when the call ends.
TAIL_FRAMES = 25
#: A server may begin with this much silence, as a resampler and a tick need it.
HEAD_FRAMES = 3
#: An echo that pauses for longer has stalled (messages may hold 100 ms).
STALL_NS = 200 * NS_PER_MS
#: A gap in an assistant's speech that its caller notices.
GAP_NS = 100 * NS_PER_MS
#: A frame this much slower than the call's median was delayed.
DELAY_NS = 100 * NS_PER_MS
#: A server that ignores its own clear sends on: this much audio within this time after it.
CLEAR_WITHIN_NS = 250 * NS_PER_MS
CLEAR_IGNORED_NS = 100 * NS_PER_MS


def _none() -> Milliseconds:
    return np.empty(0, np.float32)


def _no_times() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(slots=True, kw_only=True)
class CallResult:
    """The figures of one call. Arrays are float32 milliseconds.

    ``stalls_ms``, ``delayed_ms``, ``early_ms`` and ``broken_ms`` are what may be blamed on the
    server, ``gaps_blamed_ms`` how much of each of ``gaps_ms``; the other times are as they were
    measured. Times of day (``_ns``) are of the monotonic clock. ``rtt_frames`` are the numbers of
    the frames of ``rtt_ms``: number ``k`` was due 20 ms times ``k`` after ``first_ns``.
    """

    index: int
    connected: bool
    failure: str = ""
    complaints: list[str] = field(default_factory=list)
    malformed: int = 0
    connect_ns: int = 0
    opened_ns: int = 0
    closed_ns: int = 0
    first_ns: int = 0
    local_port: int = 0
    setup_ms: float = 0.0
    steady_seconds: float = 0.0
    sent: int = 0
    withheld: int = 0
    dropped: int = 0
    reordered: int = 0
    received: int = 0
    lost: int = 0
    out_of_order: int = 0
    duplicated: int = 0
    unidentified: int = 0
    group_delay_ms: float | None = None
    early_ms: float = 0.0
    clears_ignored: int = 0
    unanswered: bool = False
    left: bool = False
    too_late: int = 0
    lateness_ms: Milliseconds = field(default_factory=_none)
    rtt_ms: Milliseconds = field(default_factory=_none)
    rtt_frames: NDArray[np.int64] = field(default_factory=_no_times)
    delayed_ms: Milliseconds = field(default_factory=_none)
    stalls_ms: Milliseconds = field(default_factory=_none)
    gaps_ms: Milliseconds = field(default_factory=_none)
    gaps_blamed_ms: Milliseconds = field(default_factory=_none)
    gap_ends_ns: NDArray[np.int64] = field(default_factory=_no_times)
    broken_ms: Milliseconds = field(default_factory=_none)
    spoken_seconds: float = 0.0
    messages: int = 0
    onsets_ns: NDArray[np.int64] = field(default_factory=_no_times)
    lead_ms: Milliseconds = field(default_factory=_none)
    response_ms: Milliseconds = field(default_factory=_none)
    barge_in_ms: Milliseconds = field(default_factory=_none)
    cut_offs: list[tuple[int, bool]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Study:
    """What the analysis must know besides the calls; the steady window is in absolute time."""

    scenario: Scenario
    wire: Wire
    steady_from_ns: int
    steady_to_ns: int


def judge(caller: Caller, study: Study) -> CallResult:
    """The figures of a finished call."""
    record = caller.record
    connected = record.opened_ns > 0
    result = CallResult(
        index=caller.plan.index,
        connected=connected,
        failure=record.failure,
        left=record.left,
        complaints=record.complaints,
        malformed=record.malformed,
        connect_ns=record.connect_ns,
        opened_ns=record.opened_ns,
        closed_ns=record.closed_ns,
        first_ns=caller.first_ns,
        local_port=record.local_port,
        setup_ms=(record.opened_ns - record.connect_ns) / NS_PER_MS if connected else 0.0,
        steady_seconds=_steady_seconds(caller, study),
        sent=record.sent - len(record.unsent),
        withheld=len(record.withheld),
        dropped=len(record.dropped),
        reordered=caller.reordered,
        received=len(record.audio) // study.wire.frame_bytes,
        lateness_ms=_ms(record.lateness_ns),
        gaps_ms=_ms(caller.playout.gaps_ns),
        gap_ends_ns=np.asarray(caller.playout.gap_ends, np.int64),
        lead_ms=_leads(caller, study.wire),
    )
    if not connected:
        return result
    lateness = _lateness_by_frame(record)
    result.gaps_blamed_ms = _gaps_blamed(caller, lateness)
    _judge_speech(result, caller, study)
    if study.scenario.echoes:
        _judge_echo(result, caller, study, lateness)
        return result
    result.early_ms = _early_ms(result)
    result.clears_ignored = _clears_ignored(caller, study.wire, lateness)
    noticed = result.gaps_blamed_ms[result.gaps_blamed_ms > GAP_NS / NS_PER_MS]
    if study.scenario.recites:
        result.broken_ms = noticed
        result.unanswered = not result.onsets_ns.size
    else:
        result.stalls_ms = noticed
        result.response_ms = _ms(caller.behaviour.responses_ns())
        result.barge_in_ms = _ms(caller.behaviour.barge_ins_ns())
        result.too_late = caller.behaviour.too_late()
        result.cut_offs = caller.behaviour.cut_offs()
        result.unanswered = caller.behaviour.unanswered()
    return result


def _judge_speech(result: CallResult, caller: Caller, study: Study) -> None:
    starts = np.asarray(caller.playout.starts, np.int64)
    lengths_ns = np.asarray(caller.playout.played, np.int64) * study.wire.ns_per_byte
    speech = hear_out(starts, lengths_ns, _steady_window(caller, study))
    result.spoken_seconds = speech.spoken_ns / NS_PER_SECOND
    result.messages = speech.messages
    result.onsets_ns = speech.onsets_ns


def _judge_echo(
    result: CallResult, caller: Caller, study: Study, lateness: NDArray[np.int64]
) -> None:
    record, wire = caller.record, study.wire
    result.stalls_ms = stalls(record.arrivals, caller.first_ns, lateness)
    if not result.received:
        result.lost = max(0, result.sent - TAIL_FRAMES)
        return
    echo = _echo(caller, study)
    assert study.scenario.reference is not None
    unsent = np.asarray(record.unsent, np.int64)
    found = identify(study.scenario.reference, echo).with_seams(unsent)
    if found.delay_samples is not None:
        result.group_delay_ms = found.delay_samples * 1000 / wire.rate
    count_frames(result, found, unsent, record.sent)
    first, rows = first_arrivals(found.frames)
    rtt_ns = echo.arrival_ns[rows] - echo.first_ns - first * FRAME_NS
    result.rtt_ms = _ms(rtt_ns)
    result.rtt_frames = first
    result.delayed_ms = delays(rtt_ns, first, lateness)


def _echo(caller: Caller, study: Study) -> Echo:
    """The received audio in rows of 20 ms, each with the arrival of the message that ended it."""
    record, wire = caller.record, study.wire
    size = wire.frame_bytes
    count = len(record.audio) // size
    samples = wire.assistant.decoder()(memoryview(record.audio)[: count * size]).astype(np.float32)
    ends = np.cumsum(np.asarray(record.lengths, np.int64))
    message = np.searchsorted(ends, np.arange(1, count + 1) * size)
    return Echo(
        offset=study.scenario.offset(caller.plan),
        sent=record.sent,
        first_ns=caller.first_ns,
        received=samples.reshape(count, wire.frame_samples) / np.float32(FULL_SCALE),
        arrival_ns=np.asarray(record.arrivals, np.int64)[message],
    )


def first_arrivals(frames: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each identified frame once, and the row in which it came first."""
    rows = np.flatnonzero(frames >= 0)
    known, first = np.unique(frames[rows], return_index=True)
    return known, rows[first]


def count_frames(
    result: CallResult, found: Identification, unsent: NDArray[np.int64], sent: int
) -> None:
    """Fill in how many frames were lost, out of order, doubled and not identified.

    A frame is out of order when a newer one came before it. Silence at the very beginning is a
    late start, up to ``HEAD_FRAMES`` of it free of charge.
    """
    identified, rows = first_arrivals(found.frames)
    missing = np.ones(sent, bool)
    missing[max(0, sent - TAIL_FRAMES) :] = False
    in_place = found.in_place(unsent)
    for excused in (identified, in_place, unsent):
        missing[excused] = False
    result.lost = int(missing.sum())
    in_order_of_arrival = identified[np.argsort(rows)]
    newest = np.maximum.accumulate(in_order_of_arrival) if identified.size else identified
    result.out_of_order = int((in_order_of_arrival < newest).sum())
    known = int((found.frames >= 0).sum())
    result.duplicated = known - identified.size
    head = int(rows.min()) if rows.size else 0
    head = head if head <= HEAD_FRAMES else 0
    result.unidentified = len(found.frames) - known - head


def stalls(arrivals: Sequence[int], first_ns: int, lateness_ns: NDArray[np.int64]) -> Milliseconds:
    """Pauses between arrivals, less what the generator's own lateness explains."""
    came = np.asarray(arrivals, np.int64)
    pauses = came[1:] - came[:-1]
    found = []
    for i in np.flatnonzero(pauses > STALL_NS):
        begin, end = (came[i : i + 2] - first_ns) // FRAME_NS
        found.append(pauses[i] - _own_lateness(lateness_ns, begin, end))
    return _ms([pause for pause in found if pause > STALL_NS])


def delays(
    rtt_ns: NDArray[np.int64], frames: NDArray[np.int64], lateness_ns: NDArray[np.int64]
) -> Milliseconds:
    """How much slower than the median single frames were, less our own lateness in their time."""
    if not rtt_ns.size:
        return _none()
    excess = rtt_ns - int(np.median(rtt_ns))
    found = []
    for i in np.flatnonzero(excess > DELAY_NS):
        end = frames[i] + rtt_ns[i] // FRAME_NS
        found.append(excess[i] - _own_lateness(lateness_ns, frames[i], end))
    return _ms([delay for delay in found if delay > DELAY_NS])


def _own_lateness(lateness_ns: NDArray[np.int64], begin: int, end: int) -> int:
    """The worst lateness of the frames due in that time.

    A generator that stands still neither sends nor reads: it must not blame the server.
    """
    return int(lateness_ns[max(0, begin) : max(0, end) + 1].max(initial=0))


def _lateness_by_frame(record: Recorder) -> NDArray[np.int64]:
    """How late each frame left, ns; 0 for those that did not."""
    lateness = np.zeros(record.sent, np.int64)
    sent = np.ones(record.sent, bool)
    sent[np.asarray(record.unsent, np.int64)] = False
    lateness[sent] = np.asarray(record.lateness_ns, np.int64)
    return lateness


def _leads(caller: Caller, wire: Wire) -> Milliseconds:
    """For each message: how far ahead of its playout the server was once it had come."""
    record = caller.record
    starts = np.asarray(caller.playout.starts, np.int64)
    lengths = np.asarray(record.lengths, np.int64)
    return _ms(starts + lengths * wire.ns_per_byte - np.asarray(record.arrivals, np.int64))


def _early_ms(result: CallResult) -> float:
    """The longest lead, less our own lateness: what we read late has piled up."""
    return float(result.lead_ms.max(initial=0.0) - result.lateness_ms.max(initial=0.0))


def _gaps_blamed(caller: Caller, lateness_ns: NDArray[np.int64]) -> Milliseconds:
    """Gaps in the assistant's speech, less our own lateness at the time."""
    found = []
    for end_ns, gap in zip(caller.playout.gap_ends, caller.playout.gaps_ns, strict=True):
        begin, end = ((at - caller.first_ns) // FRAME_NS for at in (end_ns - gap, end_ns))
        found.append(max(0, gap - _own_lateness(lateness_ns, begin, end)))
    return _ms(found)


def _clears_ignored(caller: Caller, wire: Wire, lateness_ns: NDArray[np.int64]) -> int:
    record = caller.record
    arrivals = np.asarray(record.arrivals, np.int64)
    lengths_ns = np.asarray(record.lengths, np.int64) * wire.ns_per_byte
    ignored = 0
    for clear in record.clears:
        begin = (clear - caller.first_ns) // FRAME_NS
        ours = _own_lateness(lateness_ns, begin, begin + 2 * CLEAR_WITHIN_NS // FRAME_NS)
        after = (arrivals > clear) & (arrivals <= clear + CLEAR_WITHIN_NS + ours)
        ignored += bool(lengths_ns[after].sum() >= CLEAR_IGNORED_NS)
    return ignored


def _steady_window(caller: Caller, study: Study) -> tuple[int, int]:
    """From when to when the call was up in the steady window; empty when it never was."""
    if not caller.record.opened_ns:
        return 0, 0
    begin = max(caller.record.opened_ns, study.steady_from_ns)
    return begin, max(begin, min(caller.record.closed_ns, study.steady_to_ns))


def _steady_seconds(caller: Caller, study: Study) -> float:
    begin, end = _steady_window(caller, study)
    return (end - begin) / NS_PER_SECOND


def _ms(times_ns: Sequence[int] | NDArray[np.int64]) -> Milliseconds:
    return (np.asarray(times_ns, np.int64) / NS_PER_MS).astype(np.float32)
