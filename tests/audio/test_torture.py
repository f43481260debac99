"""Killed at random moments, the rings and the DSP process lose, repeat and damage nothing."""

from __future__ import annotations

import pytest

from audio.torture import payload_of, torture_dsp, torture_ring


def test_a_short_ring_run_finds_no_damage() -> None:
    result = torture_ring(seconds=2, seed=3)
    assert result.kills > 2, "dozens, where nothing else runs"
    assert result.cells > 100
    assert (result.corrupt, result.lost) == (0, 0)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.timeout(120)
def test_a_few_kills_of_the_dsp_process_change_no_byte(*, gated: bool) -> None:
    result = torture_dsp(kills=5, seed=3, gated=gated)
    assert result.kills == 5
    assert result.frames_lost == 0
    assert result.pcm_difference_max <= 1
    assert result.probability_difference_max <= 1e-5


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_kills_change_no_byte() -> None:
    ring = torture_ring(seconds=20, seed=4)
    assert ring.kills >= 200
    assert (ring.corrupt, ring.lost) == (0, 0)
    for gated in (True, False):
        dsp = torture_dsp(kills=200, seed=4, gated=gated)
        assert dsp.kills == 200
        assert (dsp.frames_lost, dsp.pcm_difference_max) <= (0, 1)
        assert dsp.probability_difference_max <= 1e-5


def test_payloads_are_told_apart_by_their_number() -> None:
    payloads = [payload_of(n) for n in range(2000)]
    assert len(set(payloads)) == 2000
    assert all(8 <= len(payload) <= 640 for payload in payloads)
