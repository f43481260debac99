"""The circuit breaker against a model that remembers everything."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.providers.breaker import Breaker

FAILURES_MAX = 3
OPEN_NS = 2_000 * 1_000_000


def test_it_opens_after_failures_in_a_row_and_lets_one_probe_through() -> None:
    breaker = Breaker(failures_max=FAILURES_MAX, open_ms=2_000)
    for _ in range(FAILURES_MAX):
        assert breaker.allows(0)
        breaker.failed(0)
    assert breaker.is_open
    assert not breaker.allows(OPEN_NS - 1)
    assert breaker.allows(OPEN_NS), "the probe"
    assert not breaker.allows(OPEN_NS), "one probe at a time"
    breaker.succeeded()
    assert breaker.allows(OPEN_NS)
    assert not breaker.is_open


def test_a_probe_that_nobody_heard_of_again_is_followed_by_another() -> None:
    breaker = Breaker(failures_max=1, open_ms=2_000)
    breaker.failed(0)
    assert breaker.allows(OPEN_NS)
    assert not breaker.allows(2 * OPEN_NS - 1)
    assert breaker.allows(2 * OPEN_NS)


class BreakerModel(RuleBasedStateMachine):
    """Whatever is reported, in whatever order: closed never refuses, open asks seldom."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(failures_max=FAILURES_MAX, open_ms=2_000)
        self.now_ns = 0
        self.reports: list[bool] = []
        self.asked_ns: list[int] = []  # while open, since it opened

    def is_open(self) -> bool:
        last = self.reports[-FAILURES_MAX:]
        return len(last) == FAILURES_MAX and not any(last)

    @rule(ms=st.integers(0, 5_000))
    def time_passes(self, ms: int) -> None:
        self.now_ns += ms * 1_000_000

    @rule()
    def asks(self) -> None:
        allowed = self.breaker.allows(self.now_ns)
        if not self.is_open():
            assert allowed
        elif allowed:
            assert all(self.now_ns - at >= OPEN_NS for at in self.asked_ns)
            self.asked_ns.append(self.now_ns)

    @rule(good=st.booleans())
    def reports_back(self, good: bool) -> None:  # noqa: FBT001 - Hypothesis gives it by name
        if good:
            self.breaker.succeeded()
            self.asked_ns.clear()
        else:
            self.breaker.failed(self.now_ns)
            self.asked_ns.append(self.now_ns)
        self.reports.append(good)
        if not self.is_open():
            self.asked_ns.clear()

    @invariant()
    def it_is_open_after_failures_in_a_row(self) -> None:
        assert self.breaker.is_open == self.is_open()


TestBreaker = BreakerModel.TestCase
