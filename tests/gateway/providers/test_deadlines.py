"""What is tried after a failure, and that no plan outlasts its budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ProviderFault
from gateway.providers.deadlines import (
    ATTEMPT_MS_MIN,
    NS_PER_MS,
    RETRY_PAUSE_MS,
    Patience,
    Plan,
    RetryAllowance,
    Step,
)

PATIENCE = Patience(budget_ms=5_000, attempt_ms=2_000, stall_ms=1_000)
FAULTS: tuple[ProviderFault, ...] = (
    "timeout",
    "connection",
    "server",
    "limited",
    "key",
    "refused",
    "garbage",
    "closed",
)


def after(
    fault: ProviderFault, *, servers: int, retry_after_ms: int | None = None, at_ms: int = 100
) -> Step | None:
    plan = Plan(PATIENCE, servers, 0)
    plan.first(0)
    return plan.after(fault, retry_after_ms, at_ms * NS_PER_MS, may_retry=True)


def test_the_only_server_may_take_the_whole_budget() -> None:
    assert Plan(PATIENCE, 1, 0).first(0) == Step(0, 0, 5_000)
    assert Plan(PATIENCE, 2, 0).first(0) == Step(0, 0, 2_000)


@pytest.mark.parametrize(
    ("fault", "retry_after_ms", "servers", "expected"),
    [
        # One server: once more for what may pass, in what is left.
        ("connection", None, 1, Step(0, RETRY_PAUSE_MS, 4_800)),
        ("server", None, 1, Step(0, RETRY_PAUSE_MS, 4_800)),
        ("server", 1_000, 1, Step(0, 1_000, 3_900)),
        ("limited", 2_000, 1, Step(0, 2_000, 2_900)),
        # Retry-After counts only while it leaves time for an attempt.
        ("limited", 4_400, 1, Step(0, 4_400, 500)),
        ("limited", 4_401, 1, None),
        ("limited", 120_000, 1, None),
        ("limited", None, 1, None),
        ("timeout", None, 1, None),
        ("key", None, 1, None),
        ("refused", None, 1, None),
        ("garbage", None, 1, None),
        ("closed", None, 1, None),
        # Another server: only an instant is given to the first.
        ("connection", None, 2, Step(0, RETRY_PAUSE_MS, 2_000)),
        ("limited", 200, 2, Step(0, 200, 2_000)),
        ("limited", 1_000, 2, Step(1, 0, 4_900)),
        ("limited", None, 2, Step(1, 0, 4_900)),
        ("timeout", None, 2, Step(1, 0, 4_900)),
        ("key", None, 2, Step(1, 0, 4_900)),
        ("closed", None, 2, Step(1, 0, 4_900)),
    ],
)
def test_what_follows_a_failure(
    fault: ProviderFault, retry_after_ms: int | None, servers: int, expected: Step | None
) -> None:
    assert after(fault, servers=servers, retry_after_ms=retry_after_ms) == expected


def test_an_exhausted_allowance_means_no_retry() -> None:
    plan = Plan(PATIENCE, 1, 0)
    plan.first(0)
    assert plan.after("server", None, 0, may_retry=False) is None


@given(
    st.integers(1, 4),
    st.lists(
        st.tuples(
            st.sampled_from(FAULTS), st.none() | st.integers(0, 10_000), st.integers(0, 3_000)
        ),
        max_size=20,
    ),
)
def test_no_plan_outlasts_its_budget_or_asks_more_than_twice(
    servers: int, failures: list[tuple[ProviderFault, int | None, int]]
) -> None:
    plan = Plan(PATIENCE, servers, 0)
    step: Step | None = plan.first(0)
    now_ms, asked = 0, [0] * servers
    for fault, retry_after_ms, took_ms in failures:
        if step is None:
            break
        asked[step.server] += 1
        now_ms += step.wait_ms
        assert now_ms + step.within_ms <= PATIENCE.budget_ms
        assert step.within_ms >= ATTEMPT_MS_MIN
        now_ms += min(took_ms, step.within_ms)
        step = plan.after(fault, retry_after_ms, now_ms * NS_PER_MS, may_retry=True)
    assert max(asked) <= 2
    assert asked == sorted(asked, key=lambda n: n == 0), "no server is skipped"


@given(st.lists(st.booleans(), max_size=400))
def test_retries_are_a_fifth_of_the_requests_but_for_a_small_stock(wanted: list[bool]) -> None:
    allowance = RetryAllowance()
    retries = 0
    for want in wanted:
        allowance.requested()
        if want and allowance.allows:
            allowance.retried()
            retries += 1
    assert retries <= 1 + len(wanted) / 5
