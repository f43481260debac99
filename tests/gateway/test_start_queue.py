"""Calls begin in order, after those who knock were let in, and not too late."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from audio.format import NS_PER_MS
from gateway.limits import START_WAIT_MS_MAX
from gateway.start_queue import StartQueue

WAIT_NS = START_WAIT_MS_MAX * NS_PER_MS

#: Turns of a loop: how long each lasts (ms), who asks to begin, who is let in.
TURNS = st.lists(st.tuples(st.integers(0, 90), st.integers(0, 3), st.integers(0, 2)), max_size=60)


def test_a_call_begins_at_the_next_look_when_nobody_knocks() -> None:
    queue: StartQueue[str] = StartQueue()
    queue.add("a", 0)
    assert queue.due(0, 1) == "a"
    assert queue.due(0, 2) is None
    assert not queue


def test_it_waits_while_others_are_let_in_and_no_longer() -> None:
    queue: StartQueue[str] = StartQueue()
    queue.add("a", 0)
    assert queue.due(1, 1) is None
    assert queue.due(2, WAIT_NS - 1) is None
    assert queue.due(2, WAIT_NS - 1) == "a"


def test_it_begins_in_any_crowd_when_it_has_waited_long_enough() -> None:
    queue: StartQueue[str] = StartQueue()
    queue.add("a", 0)
    queue.add("b", 1)
    assert queue.due(1, WAIT_NS) == "a"
    assert queue.due(2, WAIT_NS) is None
    assert queue.due(3, WAIT_NS + 1) == "b"


@given(TURNS)
def test_every_call_begins_once_in_order_and_none_before_a_young_crowd(
    turns: list[tuple[int, int, int]],
) -> None:
    queue: StartQueue[int] = StartQueue()
    now_ns, let_in, asked = 0, 0, 0
    since: list[int] = []
    begun: list[int] = []
    for lasts_ms, new, entering in turns:
        now_ns += lasts_ms * NS_PER_MS
        for _ in range(new):
            queue.add(asked, now_ns)
            since.append(now_ns)
            asked += 1
        let_in += entering
        due = queue.due(let_in, now_ns)
        if due is not None:
            assert not entering or now_ns - since[due] >= WAIT_NS
            begun.append(due)
        elif queue:
            assert entering
            assert now_ns - since[len(begun)] < WAIT_NS
    while queue:
        due = queue.due(let_in, now_ns)
        assert due is not None
        begun.append(due)
    assert begun == list(range(asked))
