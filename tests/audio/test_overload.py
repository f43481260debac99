"""Who cannot keep up gives up the model first and frames last, whatever the ticks do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from audio.format import FRAME_NS, NS_PER_MS
from audio.overload import AGED_FRAMES, HOLD_NS, SPARED_FRAMES, Overload, Relief
from audio.ticks import WINDOW_NS

#: (milliseconds since the last pass, median tick in ms, longest backlog in frames)
PASSES = st.lists(
    st.tuples(st.integers(1, 3_000), st.integers(0, 60), st.integers(0, 40)), max_size=40
)


@given(passes=PASSES, has_model=st.booleans())
def test_frames_are_dropped_only_after_the_model_was_spared(
    *, passes: list[tuple[int, int, int]], has_model: bool
) -> None:
    overload, now, slow = Overload(has_model=has_model), 0, list[int]()
    for wait_ms, median_ms, backlog in passes:
        now += wait_ms * NS_PER_MS
        if median_ms * NS_PER_MS > FRAME_NS:
            slow.append(now)
        relief = overload.relief(now, median_ms * NS_PER_MS, backlog)
        recently = bool(slow) and now - slow[-1] < HOLD_NS
        assert relief.model == (has_model and recently and backlog > SPARED_FRAMES)
        if relief.aged:
            assert slow[-1] == now
            assert backlog > AGED_FRAMES
            assert not has_model or any(at <= now - WINDOW_NS for at in slow)


def test_a_long_overload_ends_in_dropped_frames() -> None:
    overload, median = Overload(has_model=True), FRAME_NS + 1
    assert overload.relief(0, median, AGED_FRAMES + 1) == Relief(model=True, aged=False)
    late = overload.relief(WINDOW_NS, median, AGED_FRAMES + 1)
    assert late == Relief(model=True, aged=True)
    assert overload.relief(WINDOW_NS, median, AGED_FRAMES) == Relief(model=True, aged=False)
    assert overload.relief(WINDOW_NS, FRAME_NS, 40) == Relief(model=True, aged=False)
    after = WINDOW_NS + HOLD_NS
    assert overload.relief(after, FRAME_NS, 40) == Relief(model=False, aged=False)
    assert overload.relief(after, median, 40) == Relief(model=True, aged=False), "patient again"


def test_without_a_model_there_is_nothing_to_spare() -> None:
    overload = Overload(has_model=False)
    assert overload.relief(0, FRAME_NS + 1, AGED_FRAMES + 1) == Relief(model=False, aged=True)
