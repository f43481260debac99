"""The writer's end: what is full, what is damaged, what is a bug. Its model: test_results.py."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from audio.arena import Arena
from audio.layout import USABLE_CELLS, SlotWord
from audio.results import Results
from audio.ring import RingWriter


def test_two_processes_lose_and_repeat_nothing(make_arena: Callable[[int], Arena]) -> None:
    arena, frames = make_arena(1), 20_000
    place = arena.layout.caller_wire
    pid = os.fork()
    if pid == 0:
        writer = RingWriter(arena, place, 0)
        for n in range(frames):
            while not writer.push(n.to_bytes(4, "big") * 40):
                os.sched_yield()
        os._exit(0)
    results, taken = Results(arena, place), 0
    results.expect(0, tag=0)
    while taken < frames:
        for _, payload in results.take():
            assert payload == taken.to_bytes(4, "big") * 40
            taken += 1
        os.sched_yield()
    os.waitpid(pid, 0)
    assert results.take() == []
    assert (results.bad[0], results.stale[0]) == (0, 0)


@pytest.mark.parametrize("head", [-1, 33, 2**62])
def test_counters_that_contradict_each_other_empty_the_ring(
    make_arena: Callable[[int], Arena], head: int
) -> None:
    arena = make_arena(1)
    writer = RingWriter(arena, arena.layout.caller_wire, 0)
    arena.words[arena.layout.word_index(SlotWord.CALLER_HEAD, 0)] = head
    assert not writer.push(b"lost")
    assert (writer.damaged, writer.room) == (1, USABLE_CELLS)
    assert writer.push(b"and on")
    assert writer.damaged == 1


def test_a_payload_that_does_not_fit_is_a_bug(make_arena: Callable[[int], Arena]) -> None:
    arena = make_arena(1)
    writer = RingWriter(arena, arena.layout.caller_wire, 0)
    for payload in (b"", bytes(641)):
        with pytest.raises(AssertionError):
            writer.push(payload)


def test_a_slot_outside_the_arena_is_a_bug(make_arena: Callable[[int], Arena]) -> None:
    arena = make_arena(1)
    with pytest.raises(AssertionError):
        RingWriter(arena, arena.layout.caller_wire, 1)
