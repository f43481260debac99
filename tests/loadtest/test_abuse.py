"""The abuse command: whom it attacks, what it judges, what it prints."""

from __future__ import annotations

from collections import Counter

import pytest

from loadtest.abuse import PSS_GROWTH_MB_MAX, Findings, main, table, target_of
from loadtest.attacks import Target
from loadtest.errors import UsageError

CALLS: dict[str, object] = {
    "frames_sent": 100,
    "frames_lost": 0,
    "frames_out_of_order": 0,
    "disconnects": 0,
    "rtt_ms": {"p50": 14.0, "p99": 25.0},
}


@pytest.mark.parametrize(
    ("url", "source"),
    [
        ("ws://192.0.2.1:4000/", "127.0.0.9"),
        ("ws://voice.example:4000/", "127.0.0.9"),
        ("wss://127.0.0.1:4000/", "127.0.0.9"),
        ("ws://127.0.0.1/", "127.0.0.9"),
        ("ws://127.0.0.1:4000/", "192.0.2.1"),
        ("nonsense", "127.0.0.9"),
    ],
)
def test_only_this_machine_is_attacked(url: str, source: str) -> None:
    with pytest.raises(UsageError):
        target_of(url, source, 1)
    assert main(["--url", url, "--source", source]) == 2


def test_localhost_is_this_machine() -> None:
    assert target_of("ws://localhost:4000/", "127.0.0.9", 1) == Target(4000, "127.0.0.9", 1)


def test_memory_that_stays_and_frames_that_are_lost_fail() -> None:
    good = Findings(pss_mb_before=100, pss_mb_most=120, pss_mb_after=101, calls=CALLS)
    assert good.holds()
    assert not Findings(
        pss_mb_before=100, pss_mb_after=100 + PSS_GROWTH_MB_MAX, calls=CALLS
    ).holds()
    assert not Findings(calls=CALLS | {"frames_lost": 1}).holds()
    assert not Findings(calls=CALLS | {"disconnects": 1}).holds()
    assert not Findings().holds(), "no report is no success"


def test_the_table() -> None:
    found = Findings(
        answers={"storm": Counter({"429 Too Many Requests": 900, "101": 100})},
        pss_mb_before=100,
        pss_mb_most=120,
        pss_mb_after=101,
        calls=CALLS,
    )
    lines = table(found, 50)
    assert "| storm | 429 Too Many Requests x 900, 101 x 100 |" in lines
    assert "PSS 100.0 MiB before, 120.0 at most, 101.0 after: +1.0 (limit 8)" in lines
    assert lines[-2].startswith("50 echo calls beside it: 100 frames sent, 0 lost")
    assert lines[-1] == "holds"
