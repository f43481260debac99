"""Numbers put in order: any order within the window, losses given up, late ones dropped."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.in_order import RESTART, WINDOW, InOrder


def take_all(order: InOrder[str], numbers: list[int]) -> list[int]:
    return [number for n in numbers for number, _ in order.take(n, str(n))]


@given(
    st.lists(st.integers(0, WINDOW - 1), min_size=1, max_size=60),
    st.sets(st.integers(1, 60), max_size=20),
)
def test_what_is_within_the_window_comes_in_order_and_what_is_lost_is_skipped(
    shifts: list[int], lost: set[int]
) -> None:
    """A number is moved back by less than the window; every later one comes exactly once."""
    numbers = sorted(range(1, len(shifts) + 1), key=lambda n: (n + shifts[n - 1], n))
    came = [n for n in numbers if n not in lost]
    order: InOrder[str] = InOrder(1)
    given_out = take_all(order, came) + [n for n, _ in order.rest()]
    assert given_out == sorted(came)
    assert order.late == 0


@given(st.lists(st.integers(-5, 600), max_size=80))
def test_any_numbers_are_given_out_late_or_waiting(numbers: list[int]) -> None:
    order: InOrder[str] = InOrder(1)
    out = 0
    for n in numbers:
        out += len(order.take(n, ""))
        assert len(order._waiting) < WINDOW
    assert out + order.late + len(order.rest()) == len(numbers)


def test_a_hole_is_given_up_when_the_window_is_full() -> None:
    order: InOrder[str] = InOrder(1)
    assert take_all(order, [1, 2, 4, 5, 6, 7]) == [1, 2]
    assert take_all(order, [8]) == [4, 5, 6, 7, 8]
    assert take_all(order, [3, 8]) == []
    assert order.late == 2
    assert take_all(order, [9]) == [9]


def test_a_number_far_behind_begins_a_new_count() -> None:
    order: InOrder[str] = InOrder(1)
    take_all(order, list(range(1, RESTART + 10)))
    assert take_all(order, [1, 2]) == [1, 2]
    assert order.late == 0
