"""Counting what became of the frames, and whom to blame for time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.analysis import (
    DELAY_NS,
    HEAD_FRAMES,
    STALL_NS,
    TAIL_FRAMES,
    CallResult,
    count_frames,
    delays,
    stalls,
)
from loadtest.identify import Identification
from loadtest.schedule import FRAME_NS, NS_PER_MS

SENT = 200
NONE = np.empty(0, np.int64)
ON_TIME = np.zeros(SENT, np.int64)


def counted(frames: list[int], withheld: list[int] | None = None) -> CallResult:
    result = CallResult(index=0, connected=True, sent=SENT)
    found = Identification(np.array(frames, np.int64), 0.0)
    count_frames(result, found, np.array(withheld or [], np.int64), SENT)
    return result


def figures(result: CallResult) -> tuple[int, int, int, int]:
    return result.lost, result.out_of_order, result.duplicated, result.unidentified


@given(st.data())
def test_counts_are_those_of_what_was_done(data: st.DataObject) -> None:
    places = st.integers(10, SENT - TAIL_FRAMES - 10)
    kinds = data.draw(st.dictionaries(places, st.sampled_from(["lose", "double", "late", "blur"])))
    # Effects must not overlap, or one hides the other.
    at = [k for i, k in enumerate(sorted(kinds)) if i == 0 or k - sorted(kinds)[i - 1] > 3]
    order: list[int] = []
    for frame in range(SENT):
        kind = kinds[frame] if frame in at else ""
        if frame - 2 in at and kinds[frame - 2] == "late":
            order.append(frame)
            order.append(frame - 2)
        elif kind == "blur":
            order.append(-1)
        elif kind not in ("lose", "late"):
            order += [frame] * (2 if kind == "double" else 1)
    expected = tuple(
        sum(kinds[k] == kind for k in at) for kind in ("lose", "late", "double", "blur")
    )
    assert figures(counted(order)) == expected


def test_frames_on_their_way_at_the_end_are_not_lost() -> None:
    assert counted(list(range(SENT - TAIL_FRAMES))).lost == 0
    assert counted(list(range(SENT - TAIL_FRAMES - 1))).lost == 1


def test_nothing_back_but_the_head() -> None:
    assert counted([0, 1, 2]).lost == SENT - TAIL_FRAMES - 3


def test_a_little_silence_at_the_beginning_is_free() -> None:
    assert figures(counted([-1] * HEAD_FRAMES + list(range(SENT)))) == (0, 0, 0, 0)
    late = [-1] * (HEAD_FRAMES + 1) + list(range(SENT))
    assert figures(counted(late)) == (0, 0, 0, HEAD_FRAMES + 1)


def test_what_was_withheld_is_not_lost() -> None:
    assert counted([0, 1, *range(4, SENT)], withheld=[2, 3]).lost == 0


def arrivals(waits_ms: list[float]) -> list[int]:
    return [round(at * NS_PER_MS) for at in np.cumsum([0.0, *waits_ms])]


def test_a_stall_is_the_servers_unless_we_stood_still_too() -> None:
    came = arrivals([20, 20, 520, 1, 1, 20])
    assert stalls(came, 0, ON_TIME).tolist() == [520]
    late = ON_TIME.copy()
    late[5] = 200 * NS_PER_MS
    assert stalls(came, 0, late).tolist() == [320]
    late[5] = 400 * NS_PER_MS
    assert stalls(came, 0, late).size == 0
    late[5], late[100] = 0, 400 * NS_PER_MS  # at another time
    assert stalls(came, 0, late).tolist() == [520]


def test_no_arrivals_no_stall() -> None:
    assert stalls([], 0, ON_TIME).size == 0
    assert stalls([5], 0, NONE).size == 0


def test_a_delayed_frame_is_the_servers_unless_we_were_late() -> None:
    rtt = np.full(SENT, 20 * NS_PER_MS)
    rtt[50] += 400 * NS_PER_MS
    frames = np.arange(SENT)
    assert delays(rtt, frames, ON_TIME).tolist() == [400]
    late = ON_TIME.copy()
    late[50 + 400 * NS_PER_MS // FRAME_NS] = 350 * NS_PER_MS
    assert delays(rtt, frames, late).size == 0
    assert delays(NONE, NONE, NONE).size == 0


@pytest.mark.parametrize("limit", [STALL_NS, DELAY_NS])
def test_limits_are_longer_than_a_message(limit: int) -> None:
    assert limit >= 5 * FRAME_NS
