"""The table of a child's life, and its restarts."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.child import (
    NS_PER_MS,
    TABLE,
    Child,
    Event,
    State,
    TransitionError,
    backoff_ns,
    step,
)
from supervisor.spec import ChildSpec, RestartPolicy

#: What cannot happen, and why not.
IMPOSSIBLE = {
    **dict.fromkeys(
        itertools.product(
            (State.WAITING, State.EXITED, State.PARKED), (Event.READY, Event.DRAIN, Event.EXIT)
        ),
        "there is no process that could say so or die",
    ),
    **dict.fromkeys(
        itertools.product((State.SPAWNED, State.READY, State.DRAINING), (Event.SPAWN,)),
        "the place is taken",
    ),
    **dict.fromkeys(
        itertools.product((State.EXITED, State.PARKED), (Event.SPAWN,)),
        "only who waits is spawned",
    ),
    **dict.fromkeys(
        itertools.product(set(State) - {State.EXITED}, (Event.BACK_OFF, Event.PARK)),
        "only a confirmed exit is followed by a restart",
    ),
}

SPEC = ChildSpec(kind="worker", index=0, target="a:b")

policies = st.builds(
    RestartPolicy,
    backoff_first_ms=st.integers(1, 1000),
    backoff_max_ms=st.integers(1000, 60_000),
    jitter=st.floats(0, 0.9),
    restarts_per_window_max=st.integers(1, 8),
)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_table_is_total_over_what_can_happen(state: State, event: Event) -> None:
    assert ((state, event) in TABLE) != ((state, event) in IMPOSSIBLE)


@pytest.mark.parametrize(("state", "event"), sorted(IMPOSSIBLE, key=str))
def test_impossible_event_is_an_error_that_names_both(state: State, event: Event) -> None:
    with pytest.raises(TransitionError, match=rf"{event.name} .*{state.name}"):
        step(state, event)


def test_every_state_can_be_reached_and_all_but_parked_left() -> None:
    assert {state for state, _ in TABLE} == set(State) - {State.PARKED}
    assert set(TABLE.values()) == set(State)


@given(policy=policies, failures=st.integers(1, 10_000), jitter=st.floats(-1, 1))
def test_backoff_is_bounded(policy: RestartPolicy, failures: int, jitter: float) -> None:
    pause_ns = backoff_ns(policy, failures, jitter)
    assert backoff_ns(policy, 0, jitter) == 0
    assert pause_ns >= policy.backoff_first_ms * NS_PER_MS * (1 - policy.jitter) - 1
    assert pause_ns <= policy.backoff_max_ms * NS_PER_MS * (1 + policy.jitter) + 1
    assert backoff_ns(policy, failures + 1, 0) >= backoff_ns(policy, failures, 0)


def test_backoff_doubles() -> None:
    pauses_ms = [backoff_ns(RestartPolicy(), n, 0) // NS_PER_MS for n in range(9)]
    assert pauses_ms == [0, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]


def live(child: Child, from_ns: int, ready_for_ns: int | None) -> int:
    """One process from spawn to the plan of its restart; returns when it died."""
    child.spawn(from_ns)
    died_ns = from_ns
    if ready_for_ns is not None:
        child.ready(from_ns)
        died_ns += ready_for_ns
    child.exit()
    child.plan_restart(died_ns, 0)
    return died_ns


def test_long_health_makes_the_next_restart_immediate() -> None:
    healthy_ns = SPEC.restart.healthy_after_ms * NS_PER_MS
    child = Child(SPEC, 0)
    now_ns = 0
    for _ in range(3):
        now_ns = live(child, max(now_ns, child.due_ns), 0)
    assert child.due_ns - now_ns == 1000 * NS_PER_MS
    now_ns = live(child, child.due_ns, healthy_ns - 1)
    assert child.due_ns - now_ns == 2000 * NS_PER_MS
    now_ns = live(child, child.due_ns, healthy_ns)
    assert child.due_ns == now_ns


@given(policy=policies, lives_ns=st.lists(st.integers(0, 20 * 10**9), max_size=40))
def test_restarts_in_any_window_are_bounded(policy: RestartPolicy, lives_ns: list[int]) -> None:
    child = Child(ChildSpec(kind="worker", index=0, target="a:b", restart=policy), 0)
    restarts_ns: list[int] = []
    for life_ns in lives_ns:
        died_ns = live(child, child.due_ns, life_ns)
        if child.state is State.PARKED:
            recent = [t for t in restarts_ns if t > died_ns - policy.window_ms * NS_PER_MS]
            assert len(recent) >= policy.restarts_per_window_max - 1
            break
        restarts_ns.append(died_ns)
    for start_ns in restarts_ns:
        end_ns = start_ns + policy.window_ms * NS_PER_MS
        assert sum(start_ns <= t < end_ns for t in restarts_ns) <= policy.restarts_per_window_max


def test_quick_deaths_park_it_after_the_allowed_restarts() -> None:
    child = Child(SPEC, 0)
    restarts = 0
    while child.state is not State.PARKED:
        live(child, child.due_ns, None)
        restarts += child.state is State.WAITING
    assert restarts == SPEC.restart.restarts_per_window_max
