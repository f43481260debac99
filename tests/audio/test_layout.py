"""The memory map: nothing overlaps, everything is aligned, a slot stays within its budget."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audio.layout import (
    ALIGN,
    CELLS,
    META_WORDS,
    SLOT_BYTES_MAX,
    STATE_VALUES,
    VERDICT_VALUES,
    WORD_BYTES,
    Layout,
    SlotWord,
)


def spans(layout: Layout) -> list[tuple[int, int]]:
    slots = layout.slots
    found = [(0, 64)]
    found += [(layout.word_at(word), slots * WORD_BYTES) for word in SlotWord]
    for ring in (
        layout.caller_wire,
        layout.caller_pcm,
        layout.assistant_pcm,
        layout.assistant_wire,
    ):
        found.append((ring.payload_at, slots * CELLS * ring.cell_bytes))
        found.append((ring.meta_at, slots * CELLS * META_WORDS * WORD_BYTES))
    found.append((layout.verdict_at, slots * CELLS * VERDICT_VALUES * 4))
    found.append((layout.vad_state_at, slots * STATE_VALUES * 4))
    return sorted(found)


@given(st.integers(1, 4096))
def test_arrays_are_aligned_and_disjoint_and_a_slot_is_cheap(slots: int) -> None:
    layout = Layout(slots)
    places = spans(layout)
    for (begin, size), (after, _) in pairwise(places):
        assert begin % ALIGN == 0
        assert begin + size <= after
    begin, size = places[-1]
    assert begin + size <= layout.nbytes
    assert layout.nbytes <= slots * SLOT_BYTES_MAX


def test_the_rings_of_a_direction_share_their_done_counter() -> None:
    layout = Layout(2)
    assert layout.caller_wire.consumed is layout.caller_pcm.published is SlotWord.CALLER_DONE
    assert (
        layout.assistant_pcm.consumed is layout.assistant_wire.published is SlotWord.ASSISTANT_DONE
    )


def test_an_arena_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one slot"):
        Layout(0)
