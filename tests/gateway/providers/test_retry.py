"""The retry rules, row by row; and that no sequence of outcomes makes a request a storm."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.retry import (
    PAUSE_MS,
    POLL_MS,
    POLLS_MAX,
    Attempts,
    Outcome,
    outcome,
    retry_after_ms,
)


@pytest.mark.parametrize(
    ("happened", "by_default", "idempotent"),
    [
        (Outcome.NOT_SENT, 2, 2),
        (Outcome.NO_ANSWER, 0, 1),
        (Outcome.BUSY, 1, 1),
        (Outcome.FAILED, 0, 1),
        (Outcome.RUNNING, 0, POLLS_MAX),
        (Outcome.FINAL, 0, 0),
    ],
)
def test_how_often_a_request_is_repeated(
    happened: Outcome, by_default: int, idempotent: int
) -> None:
    for promised, expected in ((False, by_default), (True, idempotent)):
        attempts = Attempts(idempotent=promised)
        repeats = 0
        while attempts.pause_ms(happened, 1_000, 0.5) is not None:
            repeats += 1
        assert repeats == expected


def test_pauses_are_jittered_and_a_named_wait_is_kept() -> None:
    def pause(happened: Outcome, luck: float) -> int | None:
        return Attempts(idempotent=True).pause_ms(happened, 1_234, luck)

    assert (pause(Outcome.NOT_SENT, 0.0), pause(Outcome.NOT_SENT, 1.0)) == PAUSE_MS
    assert (pause(Outcome.RUNNING, 0.0), pause(Outcome.RUNNING, 1.0)) == POLL_MS
    assert pause(Outcome.BUSY, 0.7) == 1_234


def test_an_attempt_leaves_time_only_for_a_repetition_that_may_happen() -> None:
    assert Attempts(idempotent=False).within_ms(1_000) == 1_000
    attempts = Attempts(idempotent=True)
    assert attempts.within_ms(1_000) == 600
    attempts.pause_ms(Outcome.NO_ANSWER, None, 0)
    assert attempts.within_ms(400) == 400


@pytest.mark.parametrize(
    ("status", "header", "expected"),
    [
        (429, "1", Outcome.BUSY),
        (503, "0", Outcome.BUSY),
        (503, None, Outcome.FAILED),
        (503, "Wed, 21 Oct 2026 07:28:00 GMT", Outcome.FAILED),
        (429, None, Outcome.FINAL),
        *((code, None, Outcome.FAILED) for code in (500, 502, 504)),
        (409, None, Outcome.RUNNING),
        *((code, "1", Outcome.FINAL) for code in (200, 201, 302, 400, 401, 403, 404, 422, 501)),
    ],
)
def test_what_an_answer_means(status: int, header: str | None, expected: Outcome) -> None:
    assert outcome(status, retry_after_ms(header)) is expected


@given(st.text(max_size=12))
def test_any_header_is_a_wait_or_none(header: str) -> None:
    found = retry_after_ms(header)
    assert found is None or 0 <= found <= 60_000


@given(
    happened=st.lists(st.sampled_from(Outcome), min_size=100),
    idempotent=st.booleans(),
    luck=st.floats(0, 1),
)
def test_no_request_becomes_a_storm(
    *, happened: list[Outcome], idempotent: bool, luck: float
) -> None:
    attempts = Attempts(idempotent=idempotent)
    made = 1
    for one in happened:
        if attempts.pause_ms(one, 0, luck) is None:
            break
        made += 1
    assert made <= (1 + 2 + 1 + 1 + 1 + POLLS_MAX if idempotent else 1 + 2 + 1)
