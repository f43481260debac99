"""Specs refuse what cannot work."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from supervisor.spec import ChildSpec, RestartPolicy


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda: ChildSpec(kind="worker", index=0, target="no_colon"), "package.module:function"),
        (lambda: ChildSpec(kind="worker", index=-1, target="a:b"), "index"),
        (lambda: ChildSpec(kind="worker", index=0, target="a:b", hung_after_ms=0), "timeouts"),
        (lambda: RestartPolicy(backoff_first_ms=0), "backoff_first_ms"),
        (lambda: RestartPolicy(backoff_first_ms=2, backoff_max_ms=1), "backoff_first_ms"),
        (lambda: RestartPolicy(jitter=1), "jitter"),
        (lambda: RestartPolicy(restarts_per_window_max=0), "restarts_per_window_max"),
        (lambda: ChildSpec(kind="dsp", index=0, target="a:b", stop_timeout_ms=0), "timeouts"),
    ],
)
def test_impossible_values_are_refused(make: Callable[[], object], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        make()


def test_name() -> None:
    assert ChildSpec(kind="dsp", index=3, target="a:b").name == "dsp-3"
