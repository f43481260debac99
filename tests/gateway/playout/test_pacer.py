"""The pacer against a model of a carrier, and the promises of its essay one by one."""

from __future__ import annotations

from collections import deque
from copy import deepcopy

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from audio.format import FRAME_NS, NS_PER_MS
from gateway import limits
from gateway.playout.pacer import MESSAGE_FRAMES_MAX, Pacer

LEAD_NS = limits.PLAYOUT_LEAD_MS * NS_PER_MS
CUSHION_NS = limits.PLAYOUT_CUSHION_MS * NS_PER_MS
MESSAGE_NS = limits.MESSAGE_MS_MAX * NS_PER_MS
START_NS = 1_000_000 * NS_PER_MS
# How long an example takes on a busy machine decides nothing.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
jitters_ns = st.integers(0, MESSAGE_NS)


def serve(pacer: Pacer, available: int, now_ns: int, coming: int = 0) -> list[int]:
    """Send all that is due; return the messages, each as its number of frames."""
    messages = []
    while frames := pacer.take(available, now_ns, coming):
        assert 1 <= frames <= min(available, MESSAGE_FRAMES_MAX)
        available -= frames
        messages.append(frames)
    return messages


def next_tick_ns(pacer: Pacer) -> int:
    assert pacer.next_due_ns is not None
    return pacer.next_due_ns


class PacerMachine(RuleBasedStateMachine):
    """A source, a carrier that plays in real time, and any number of stalls between them."""

    def __init__(self) -> None:
        super().__init__()
        self.pacer = Pacer()
        self.now_ns = START_NS
        self.made = 0
        self.waiting: deque[int] = deque()
        self.received: list[int] = []
        self.cleared: list[int] = []
        self.unplayed_ns = 0
        self.silent_ns = 0
        self.speaking = False
        self.gaps = 0
        self.gap_ns = 0

    def serve(self) -> None:
        was_silent = self.unplayed_ns == 0
        messages = serve(self.pacer, len(self.waiting), self.now_ns)
        if messages:
            if was_silent:
                assert messages[0] == 1
            if was_silent and self.speaking and self.silent_ns >= NS_PER_MS:
                self.gaps += 1
                self.gap_ns += self.silent_ns
            self.speaking = True
            self.silent_ns = 0
        for _ in range(sum(messages)):
            self.received.append(self.waiting.popleft())
        self.unplayed_ns += sum(messages) * FRAME_NS

    def advance(self, duration_ns: int) -> None:
        self.now_ns += duration_ns
        self.silent_ns += max(0, duration_ns - self.unplayed_ns)
        self.unplayed_ns = max(0, self.unplayed_ns - duration_ns)

    @rule(frames=st.integers(1, 40))
    def frames_arrive(self, frames: int) -> None:
        self.waiting.extend(range(self.made, self.made + frames))
        self.made += frames
        self.serve()

    @rule(duration_ns=st.integers(0, 400 * NS_PER_MS))
    def time_passes(self, duration_ns: int) -> None:
        self.advance(duration_ns)

    @precondition(lambda self: self.pacer.next_due_ns is not None)
    @rule(late_ns=st.sampled_from([0, 0, NS_PER_MS // 2, 30 * NS_PER_MS, 250 * NS_PER_MS]))
    def tick(self, late_ns: int) -> None:
        self.advance(max(0, next_tick_ns(self.pacer) - self.now_ns) + late_ns)
        before = len(self.received)
        self.serve()
        assert len(self.received) > before, "what was promised is due"

    @precondition(lambda self: not self.waiting)
    @rule()
    def utterance_ends(self) -> None:
        self.pacer.end_of_utterance()
        self.speaking = False

    @rule()
    def barge_in(self) -> None:
        self.pacer.clear(self.now_ns)
        self.cleared.extend(self.waiting)
        self.waiting.clear()
        self.unplayed_ns = 0
        self.silent_ns = 0
        self.speaking = False

    @invariant()
    def the_carrier_is_known(self) -> None:
        assert max(0, self.pacer.end_ns - self.now_ns) == self.unplayed_ns
        assert self.unplayed_ns <= LEAD_NS

    @invariant()
    def nothing_is_skipped_or_reordered(self) -> None:
        assert sorted(self.received) == self.received
        assert sorted([*self.received, *self.cleared, *self.waiting]) == list(range(self.made))
        assert self.pacer.frames_sent == len(self.received)

    @invariant()
    def gaps_are_what_the_carrier_had(self) -> None:
        assert self.pacer.gaps == self.gaps
        assert self.pacer.gap_ms_total == self.gap_ns // NS_PER_MS

    @invariant()
    def no_frames_no_message(self) -> None:
        assert deepcopy(self.pacer).take(0, self.now_ns) == 0


PacerMachine.TestCase.settings = settings(unhurried, max_examples=60, stateful_step_count=40)
TestPacerMachine = PacerMachine.TestCase


def test_a_burst_leaves_as_one_frame_and_then_as_full_messages() -> None:
    pacer, now_ns, waiting = Pacer(), START_NS, 500
    sizes = serve(pacer, waiting, now_ns)
    assert sizes == [1, 5]
    for _ in range(20):
        waiting -= sum(sizes)
        now_ns = next_tick_ns(pacer)
        sizes = serve(pacer, waiting, now_ns)
        assert sizes == [5]
        assert pacer.end_ns - now_ns == LEAD_NS
    assert pacer.late_ms_max == 0


def test_the_end_of_a_burst_is_not_held_back() -> None:
    pacer = Pacer()
    assert serve(pacer, 9, START_NS) == [1, 5, 3]
    assert pacer.next_due_ns is None


def test_less_waits_for_a_full_message_until_the_carrier_needs_it() -> None:
    pacer = Pacer()
    assert serve(pacer, 9, START_NS, coming=2) == [1, 5]
    now_ns = next_tick_ns(pacer)
    assert pacer.end_ns - now_ns == CUSHION_NS
    assert serve(pacer, 3, now_ns, coming=2) == [3]
    assert pacer.next_due_ns is None


@unhurried
@given(st.lists(st.integers(0, LEAD_NS - FRAME_NS), min_size=1, max_size=100))
def test_a_source_in_real_time_passes_straight_through(jitters: list[int]) -> None:
    """Frame n arrives 20 ms x n after the first, each with its own delay, in order."""
    pacer, now_ns = Pacer(), START_NS
    for index, jitter_ns in enumerate(jitters):
        now_ns = max(now_ns, START_NS + index * FRAME_NS + jitter_ns)
        assert serve(pacer, 1, now_ns) == [1]


@unhurried
@given(st.lists(st.integers(0, 4 * MESSAGE_NS), min_size=1, max_size=100), st.integers(0, 9))
def test_frames_held_back_are_never_late(delays: list[int], coming: int) -> None:
    """However uneven the source: who asks again when told to keeps the carrier playing."""
    pacer, now_ns, waiting = Pacer(), START_NS, 0
    for delay_ns in delays:
        arrival_ns = now_ns + delay_ns
        while waiting and (pacer.next_due_ns or arrival_ns) < arrival_ns:
            now_ns = next_tick_ns(pacer)
            waiting -= sum(serve(pacer, waiting, now_ns, coming))
            assert pacer.end_ns > now_ns
        now_ns, waiting = arrival_ns, waiting + 1
        waiting -= sum(serve(pacer, waiting, now_ns, coming))


@unhurried
@given(late=st.lists(jitters_ns, min_size=1, max_size=60))
def test_late_ticks_within_the_lead_are_never_heard(late: list[int]) -> None:
    """Each tick may be late by as much as the lead leaves; the schedule stays the same."""
    pacer = Pacer()
    serve(pacer, 10_000, START_NS)
    for late_ns in late:
        now_ns = next_tick_ns(pacer) + late_ns
        serve(pacer, 10_000, now_ns)
        assert pacer.end_ns == START_NS + pacer.frames_sent * FRAME_NS, "on average real time"
        assert LEAD_NS - MESSAGE_NS < pacer.end_ns - now_ns <= LEAD_NS, "all that was late is there"
    assert pacer.gaps == 0
    assert pacer.late_ms_max == max(late) // NS_PER_MS


@unhurried
@given(stall_ms=st.integers(1, 5_000))
def test_a_stall_beyond_the_lead_is_one_gap_and_leaves_no_lag(stall_ms: int) -> None:
    pacer = Pacer()
    serve(pacer, 1_000, START_NS)
    now_ns = pacer.end_ns + stall_ms * NS_PER_MS
    assert sum(serve(pacer, 1_000, now_ns)) * FRAME_NS > LEAD_NS - MESSAGE_NS
    assert (pacer.gaps, pacer.gap_ms_total) == (1, stall_ms)


def test_drift_between_clocks_is_no_gap() -> None:
    pacer = Pacer()
    for index in range(1_000):
        serve(pacer, 1, START_NS + index * (FRAME_NS + 1_000))
    assert (pacer.gaps, pacer.gap_ms_total) == (0, 0)


def test_silence_between_utterances_is_no_gap() -> None:
    pacer = Pacer()
    serve(pacer, 3, START_NS)
    pacer.end_of_utterance()
    serve(pacer, 3, START_NS + 5_000 * NS_PER_MS)
    assert pacer.gaps == 0


def test_after_a_clear_the_next_frame_leaves_at_once() -> None:
    pacer = Pacer()
    serve(pacer, 100, START_NS)
    now_ns = START_NS + NS_PER_MS
    assert pacer.take(100, now_ns) == 0
    pacer.clear(now_ns)
    assert pacer.next_due_ns is None
    assert serve(pacer, 100, now_ns) == [1, 5]
    assert pacer.gaps == 0


def test_frames_that_vanish_are_no_longer_promised() -> None:
    pacer = Pacer()
    serve(pacer, 100, START_NS)
    assert pacer.next_due_ns is not None
    assert pacer.take(0, START_NS) == 0
    assert pacer.next_due_ns is None
