from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation.care import CallCare, CallPolicy
from gateway.conversation.turn import Event, State

POLICY = CallPolicy(idle_prompt_ms=10_000, max_call_ms=100_000)
MS = 1_000_000


def test_who_does_not_answer_to_being_asked_is_left() -> None:
    care = CallCare(POLICY, 0)
    care.moved(State.LISTENING, 0)
    assert care.due(9_999 * MS) is None
    assert care.due(10_000 * MS) is Event.IDLE
    care.moved(State.RESPONDING, 10_000 * MS)
    assert care.due(20_000 * MS) is None
    care.moved(State.LISTENING, 21_000 * MS)
    assert care.due(30_999 * MS) is None
    assert care.due(31_000 * MS) is Event.DESERTED


def test_words_and_keys_show_that_somebody_is_there() -> None:
    care = CallCare(POLICY, 0)
    care.moved(State.LISTENING, 0)
    assert care.due(10_000 * MS) is Event.IDLE
    care.moved(State.LISTENING, 12_000 * MS)
    care.alive(15_000 * MS)
    assert care.due(24_999 * MS) is None
    assert care.due(25_000 * MS) is Event.IDLE


def test_the_end_comes_in_every_state_and_is_hung_up_if_it_takes_too_long() -> None:
    for state in (State.CALLER, State.LISTENING, State.ASSISTANT, State.RESPONDING):
        care = CallCare(POLICY, 0)
        care.moved(state, 99_000 * MS)
        assert care.due(99_999 * MS) is None
        assert care.due(100_000 * MS) is Event.GOING_DOWN
    care = CallCare(POLICY, 0)
    care.moved(State.CLOSING, 100_000 * MS)
    assert care.due(129_999 * MS) is None
    assert care.due(130_000 * MS) is Event.TIME_UP
    care.moved(State.ENDED, 130_000 * MS)
    assert (care.due_ns, care.due(10**15)) == (None, None)


@given(st.sampled_from(State), st.integers(0, 200_000), st.integers(0, 300_000))
def test_nothing_is_due_before_it_is_said_to_be(state: State, moved_ms: int, now_ms: int) -> None:
    care = CallCare(POLICY, 0)
    care.moved(state, moved_ms * MS)
    due_ns = care.due_ns
    is_due = due_ns is not None and now_ms * MS >= due_ns
    assert (care.due(now_ms * MS) is not None) == is_due
