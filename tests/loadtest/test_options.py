"""The command line: what it takes and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.errors import UsageError
from tests.loadtest.samples import options

ALL_OPTIONS = """
    --calls 400 --seconds 20 --ramp 5 --scenario talk --processes 2 --pid 1 --seed 7
    --json x.json --slo rtt_ms.p99=40 frames_lost=0 --slo rtt_ms.p50=20
    --save-heard out --wire plain --parameter a=b=c --parameter d=
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--url", "http://127.0.0.1/"],
        ["--url", "ws://"],
        ["--calls", "0"],
        ["--calls", "-1"],
        ["--calls", "1.5"],
        ["--calls", "99999999"],
        ["--seconds", "0"],
        ["--seconds", "nan"],
        ["--seconds", "x"],
        ["--ramp", "-1"],
        ["--hold", "0"],
        ["--hold", "1", "--seconds", "2"],
        ["--scenario", "none"],
        ["--wire", "none"],
        ["--wire", "plain", "--encoding", "PCMA"],
        ["--wire", "telnyx", "--encoding", "OPUS"],
        ["--reorder", "5"],
        ["--loss", "51"],
        ["--loss", "x"],
        ["--audio", "no/such/file"],
        ["--parameter", "x"],
        ["--parameter", "=x"],
        ["--slo", "x=1"],
        ["--unknown"],
        ["stray"],
    ],
)
def test_usage_errors(arguments: list[str]) -> None:
    with pytest.raises(UsageError):
        options(*arguments)


def test_all_options() -> None:
    given_options = options(*ALL_OPTIONS.split())
    assert given_options.calls == 400
    assert (given_options.seconds, given_options.ramp) == (20.0, 5.0)
    assert [slo.name for slo in given_options.slos] == ["rtt_ms.p99", "frames_lost", "rtt_ms.p50"]
    assert given_options.parameters == (("a", "b=c"), ("d", ""))
    assert given_options.json == Path("x.json")


def test_defaults() -> None:
    given_options = options()
    assert (given_options.calls, given_options.processes, given_options.seed) == (1, 1, 1)
    assert given_options.seconds == 10
    assert options("--scenario", "talk").seconds > 60  # five turns, and time for their answers
    assert options("--processes", "8").processes == 1  # no more than calls


def test_a_holding_time_is_the_length_of_a_call() -> None:
    held = options("--hold", "2.5")
    assert (held.hold, held.seconds) == (2.5, 2.5)
    assert options().hold is None
