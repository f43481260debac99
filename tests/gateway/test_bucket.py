"""The token bucket against a model that adds up everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.bucket import NS_PER_SECOND, Bucket, Rate

RATE = Rate(per_second=10, burst=25)


@given(st.lists(st.tuples(st.integers(0, 3 * NS_PER_SECOND), st.integers(0, 30)), max_size=30))
def test_never_more_than_the_burst_and_the_rate_of_the_time(steps: list[tuple[int, int]]) -> None:
    bucket, now_ns, taken = Bucket(RATE, 0), 0, 0
    for wait_ns, count in steps:
        now_ns += wait_ns
        if bucket.spend(count, RATE, now_ns):
            taken += count
        allowed = RATE.burst + RATE.per_second * now_ns / NS_PER_SECOND
        assert taken <= allowed + 1e-6


def test_the_burst_then_the_rate_and_no_debt() -> None:
    bucket = Bucket(RATE, 0)
    assert bucket.spend(25, RATE, 0)
    assert not bucket.spend(1, RATE, 0)
    assert not bucket.spend(1000, RATE, NS_PER_SECOND)
    assert bucket.spend(10, RATE, 2 * NS_PER_SECOND), "what did not fit is not owed"
    assert not bucket.is_full(RATE, 4 * NS_PER_SECOND)
    assert bucket.is_full(RATE, 5 * NS_PER_SECOND)
