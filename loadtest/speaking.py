"""How an assistant spoke, judged by the carrier's playout buffer: how much, in what pieces, when.

For assistants whose rhythm is their own (utterances begin a fixed period apart, whatever the
caller says). Nobody tells the load test that period or the phase of a call. It is the median time
between two onsets, over all calls; a call's earliest utterance, by that rhythm, is taken to be on
time, and every other one is late by as much as it began after its turn. Pure, after the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loadtest.playout import PAUSE_NS
from loadtest.schedule import NS_PER_MS

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Speech:
    """One call's assistant within a window: ns heard and messages sent; all its onsets (ns)."""

    spoken_ns: int
    messages: int
    onsets_ns: Times


def hear_out(starts_ns: Times, lengths_ns: Times, window_ns: tuple[int, int]) -> Speech:
    """Judge a call by when each payload was played and for how long.

    An onset is audio after more than a second without, or the first of the call.
    """
    assert len(starts_ns) == len(lengths_ns)
    begin, end = window_ns
    ends = starts_ns + lengths_ns
    within = np.minimum(ends, end) - np.maximum(starts_ns, begin)
    first = np.ones(len(starts_ns), bool)
    first[1:] = starts_ns[1:] - ends[:-1] > PAUSE_NS
    return Speech(
        spoken_ns=int(np.maximum(within, 0).sum()),
        messages=int((within > 0).sum()),
        onsets_ns=starts_ns[first],
    )


def onset_lateness_ms(calls: Sequence[Times]) -> list[NDArray[np.float32]]:
    """For each call, how late its utterances began by the common rhythm; of two onsets at least."""
    apart = np.concatenate([np.diff(onsets) for onsets in calls]) if calls else np.empty(0)
    if not apart.size:
        return [np.empty(0, np.float32) for _ in calls]
    period_ns = int(np.median(apart))
    return [_lateness_ms(onsets, period_ns) for onsets in calls]


def _lateness_ms(onsets_ns: Times, period_ns: int) -> NDArray[np.float32]:
    if len(onsets_ns) < 2:
        return np.empty(0, np.float32)
    turns = np.rint((onsets_ns - onsets_ns[0]) / period_ns).astype(np.int64)
    phases = onsets_ns - turns * period_ns
    late: NDArray[np.float32] = ((phases - phases.min()) / NS_PER_MS).astype(np.float32)
    return late
