"""Marks with a real pacer and every kind of carrier: prompt, mute, forgetful, lying."""

from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from audio.format import FRAME_MS, NS_PER_MS
from gateway import limits
from gateway.playout.marks import Marks
from gateway.playout.pacer import Pacer

START_NS = 1_000_000 * NS_PER_MS
MARGIN_MS = limits.HEARD_MARGIN_MS
# How long an example takes on a busy machine decides nothing.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Playout:
    """A pacer and its marks as a session drives them; times in ms since the start."""

    def __init__(self) -> None:
        self.pacer = Pacer()
        self.marks = Marks()
        self.now_ns = START_NS

    def send(self, frames: int) -> int:
        """Send what is due of ``frames``; return how many frames that were."""
        due = self.pacer.take(frames, self.now_ns)
        if due:
            self.marks.sent(due * FRAME_MS, self.now_ns, self.pacer.end_ns)
        return due

    def speak(self, duration_ms: int) -> None:
        """Send that much audio, in the time that takes; at the end all of it has been played."""
        frames = duration_ms // FRAME_MS
        while frames:
            sent = self.send(frames)
            frames -= sent
            if frames and not sent:
                self.now_ns = self.pacer.next_due_ns or self.now_ns
        self.now_ns = self.pacer.end_ns
        self.pacer.end_of_utterance()

    def wait(self, duration_ms: int) -> None:
        self.now_ns += duration_ms * NS_PER_MS

    @property
    def heard_ms(self) -> int:
        return self.marks.heard_ms(self.now_ns)


class MarksMachine(RuleBasedStateMachine):
    """Any order of audio, marks, acknowledgements (true, old, repeated, invented) and clears."""

    def __init__(self) -> None:
        super().__init__()
        self.playout = Playout()
        self.marks = self.playout.marks
        self.names: list[str] = []
        self.heard_ms = 0
        self.begun_ns: int | None = None

    @rule(frames=st.integers(1, 20))
    def audio(self, frames: int) -> None:
        if self.playout.send(frames) and self.begun_ns is None:
            self.begun_ns = self.playout.now_ns

    @rule(duration_us=st.sampled_from([1, 900, 1_000, 20_000, 100_000, 400_000, 3_000_000]))
    def time(self, duration_us: int) -> None:
        self.playout.now_ns += duration_us * 1_000

    @rule()
    def place(self) -> None:
        name = self.marks.place()
        assert name not in self.names
        self.names.append(name)

    @precondition(lambda self: self.names)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(self.names))
        before = self.playout.heard_ms
        self.marks.acknowledged(name)
        if not name.startswith(f"e{self.marks.epoch}."):
            assert self.playout.heard_ms == before, "marks of an old epoch prove nothing"

    @rule(name=st.text(max_size=12) | st.sampled_from(["e0.m999", "e999.m1", "e.m", "e0.m٣"]))
    def invented(self, name: str) -> None:
        before = self.playout.heard_ms
        if name not in self.names:
            self.marks.acknowledged(name)
            assert self.playout.heard_ms == before

    @rule()
    def clear(self) -> None:
        heard_ms = self.playout.heard_ms
        assert self.marks.clear(self.playout.now_ns) == heard_ms
        self.playout.pacer.clear(self.playout.now_ns)
        self.heard_ms = 0
        self.begun_ns = None
        assert (self.marks.position_ms, self.playout.heard_ms) == (0, 0)

    @invariant()
    def heard_is_sent_and_played_and_never_goes_back(self) -> None:
        heard_ms = self.playout.heard_ms
        assert self.heard_ms <= heard_ms <= self.marks.position_ms
        begun_ns = self.playout.now_ns if self.begun_ns is None else self.begun_ns
        assert heard_ms * NS_PER_MS <= self.playout.now_ns - begun_ns
        self.heard_ms = heard_ms

    @invariant()
    def nothing_waits_for_a_mark(self) -> None:
        later_ns = max(self.playout.now_ns, self.playout.pacer.end_ns) + MARGIN_MS * NS_PER_MS
        assert deepcopy(self.marks).heard_ms(later_ns) == self.marks.position_ms


MarksMachine.TestCase.settings = settings(unhurried, max_examples=60, stateful_step_count=40)
TestMarksMachine = MarksMachine.TestCase


def test_names_carry_their_epoch() -> None:
    marks = Marks()
    assert [marks.place(), marks.place()] == ["e0.m1", "e0.m2"]
    marks.clear(START_NS)
    assert marks.place() == "e1.m3"


def test_an_acknowledged_mark_was_heard() -> None:
    playout = Playout()
    playout.speak(600)
    name = playout.marks.place()
    assert playout.heard_ms == 0, "played, but nobody has said so yet"
    playout.marks.acknowledged(name)
    assert playout.heard_ms == 600
    assert playout.marks.acknowledged_total == 1


def test_a_mark_stands_for_all_before_it() -> None:
    playout = Playout()
    playout.speak(200)
    first = playout.marks.place()
    playout.speak(200)
    playout.marks.acknowledged(playout.marks.place())
    assert playout.heard_ms == 400
    playout.marks.acknowledged(first)
    assert playout.heard_ms == 400
    assert (playout.marks.acknowledged_total, playout.marks.unknown) == (1, 1)


def test_a_peer_that_returns_marks_unplayed_is_not_believed() -> None:
    playout = Playout()
    for _ in range(2):
        playout.send(5)
    playout.marks.acknowledged(playout.marks.place())
    assert (playout.marks.position_ms, playout.heard_ms) == (120, 0)
    playout.wait(50)
    assert playout.heard_ms == 50
    playout.wait(500)
    assert playout.heard_ms == 120


@unhurried
@given(spoken=st.integers(1, 100), waited_ms=st.integers(0, 2 * MARGIN_MS + 100))
def test_without_acknowledgements_heard_follows_the_clock(spoken: int, waited_ms: int) -> None:
    playout = Playout()
    playout.speak(spoken * FRAME_MS)
    playout.wait(waited_ms)
    expected = min(spoken * FRAME_MS, spoken * FRAME_MS + waited_ms - MARGIN_MS)
    assert playout.heard_ms == max(0, expected)


def test_a_pause_does_not_make_what_was_heard_unheard() -> None:
    playout = Playout()
    playout.speak(2_000)
    playout.wait(5_000)
    playout.send(1)
    playout.wait(20)
    assert playout.heard_ms == 2_000


def test_marks_of_an_earlier_epoch_are_cancelled() -> None:
    playout = Playout()
    playout.speak(400)
    name = playout.marks.place()
    playout.marks.clear(playout.now_ns)
    playout.pacer.clear(playout.now_ns)
    playout.speak(400)
    playout.marks.acknowledged(name)
    assert playout.heard_ms == 0
    assert (playout.marks.cancelled, playout.marks.unknown) == (1, 0)


@pytest.mark.parametrize("name", ["", "m1", "e0.m1 ", "e9.m1", "e" + "9" * 300 + ".m1"])
def test_other_names_are_counted(name: str) -> None:
    marks = Marks()
    marks.acknowledged(name)
    assert (marks.acknowledged_total, marks.cancelled, marks.unknown) == (0, 0, 1)


@unhurried
@given(steps=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2_500)), max_size=40))
def test_one_report_may_stand_for_many_messages(steps: list[tuple[int, int]]) -> None:
    """Told only before a pause and before a question, no less is known, and nothing untrue."""
    playout, late = Playout(), Marks()
    unreported_ms = 0
    ends_ns: list[int] = []  # when each ms of audio has been played
    for frames, pause_ms in steps:
        if unreported_ms and playout.pacer.end_ns < playout.now_ns:
            late.sent(unreported_ms, playout.now_ns, playout.pacer.end_ns)
            unreported_ms = 0
        sent_ms = playout.send(frames) * FRAME_MS
        unreported_ms += sent_ms
        ends_ns += [playout.pacer.end_ns - n * NS_PER_MS for n in reversed(range(sent_ms))]
        playout.wait(pause_ms)
        told = deepcopy(late)
        if unreported_ms:
            told.sent(unreported_ms, playout.now_ns, playout.pacer.end_ns)
        played_ms = sum(end_ns <= playout.now_ns for end_ns in ends_ns)
        known_ms = deepcopy(playout).heard_ms
        assert known_ms <= told.heard_ms(playout.now_ns) <= played_ms
        assert told.position_ms == playout.marks.position_ms == len(ends_ns)


def test_outstanding_marks_are_bounded() -> None:
    playout = Playout()
    playout.speak(20)
    first = playout.marks.place()
    for _ in range(limits.MARKS_OUTSTANDING_MAX + 9):
        playout.speak(20)
        playout.marks.place()
    assert playout.marks.forgotten == 10
    assert len(playout.marks._outstanding) == limits.MARKS_OUTSTANDING_MAX
    playout.marks.acknowledged(first)
    assert playout.marks.unknown == 1
