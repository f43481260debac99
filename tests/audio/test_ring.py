"""The ring against a ``deque``: full, empty, wrap-around, tags, damage, and both ends at once."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from typing_extensions import override

from audio.arena import Arena
from audio.layout import CELLS, META_WORDS, USABLE_CELLS, Meta, RingPlace, SlotWord
from audio.ring import CallerReader, RingReader, RingWriter


def input_ring(arena: Arena) -> RingPlace:
    """A ring whose reader is a plain one: what the DSP process consumes, popped one by one."""
    return arena.layout.caller_wire


class RingAgainstDeque(RuleBasedStateMachine):
    """A writer, a reader of the same ring, and a ``deque`` that says what must happen."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = Arena.create(3)
        place = input_ring(self.arena)
        self.writer = RingWriter(self.arena, place, 1, tag=1)
        self.reader = RingReader(self.arena, place, 1, tag=1)
        self.neighbours = [RingReader(self.arena, place, slot, tag=1) for slot in (0, 2)]
        self.model: deque[tuple[int, bytes]] = deque()

    @rule(payload=st.binary(min_size=1, max_size=640))
    def push(self, payload: bytes) -> None:
        pushed = self.writer.push(payload)
        assert pushed == (len(self.model) < USABLE_CELLS)
        if pushed:
            self.model.append((self.writer.tag, payload))

    @rule()
    def pop(self) -> None:
        while self.model and self.model[0][0] != self.reader.tag:
            self.model.popleft()
        expected = self.model.popleft()[1] if self.model else None
        assert self.reader.pop() == expected

    @rule()
    def raise_the_epoch(self) -> None:
        self.writer.tag += 1
        self.reader.tag += 1

    @rule()
    def discard(self) -> None:
        self.reader.discard()
        self.model.clear()

    @rule()
    def the_writer_is_replaced(self) -> None:
        tag = self.writer.tag
        self.writer.close()
        self.writer = RingWriter(self.arena, input_ring(self.arena), 1, tag=tag)

    @rule()
    def the_reader_is_replaced(self) -> None:
        tag = self.reader.tag
        self.reader.close()
        self.reader = RingReader(self.arena, input_ring(self.arena), 1, tag=tag)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def a_cell_is_damaged(self, data: st.DataObject) -> None:
        """Its frame is never played: it is skipped, and counted."""
        at = data.draw(st.integers(0, len(self.model) - 1))
        cell = (self.reader._consumed[0] + at) % CELLS
        word = data.draw(st.sampled_from([Meta.SEQUENCE, Meta.LENGTH]))
        self.reader._meta[cell * META_WORDS + word] = data.draw(
            st.sampled_from([-1, 0, 2**40, 2**62])
        )
        self.model[at] = (-1, b"")

    @invariant()
    def it_counts_like_the_model(self) -> None:
        if not self.model or all(tag == self.reader.tag for tag, _ in self.model):
            assert len(self.reader) == len(self.model)
        assert self.writer.room == USABLE_CELLS - len(self.writer)
        assert all(neighbour.pop() is None for neighbour in self.neighbours)

    @override
    def teardown(self) -> None:
        for end in (self.writer, self.reader, *self.neighbours):
            end.close()
        self.arena.close()


TestRingAgainstDeque = RingAgainstDeque.TestCase
TestRingAgainstDeque.settings = settings(max_examples=60, stateful_step_count=60)


def test_two_processes_lose_and_repeat_nothing(make_arena: Callable[[int], Arena]) -> None:
    arena, frames = make_arena(1), 20_000
    place = input_ring(arena)
    pid = os.fork()
    if pid == 0:
        writer = RingWriter(arena, place, 0)
        for n in range(frames):
            while not writer.push(n.to_bytes(4, "big") * 40):
                os.sched_yield()
        os._exit(0)
    reader = RingReader(arena, place, 0)
    for n in range(frames):
        while (payload := reader.pop()) is None:
            os.sched_yield()
        assert payload == n.to_bytes(4, "big") * 40
    os.waitpid(pid, 0)
    assert reader.pop() is None
    assert (reader.bad, reader.stale) == (0, 0)
    reader.close()


def test_a_caller_frame_comes_with_its_verdict(make_arena: Callable[[int], Arena]) -> None:
    arena = make_arena(2)
    place = arena.layout.caller_pcm
    dsp = RingWriter(arena, place, 1, tag=9)
    reader = CallerReader(arena, 1, tag=9)
    dsp.push(b"\x01\x02" * 320)
    reader._verdict[0], reader._verdict[1] = 0.75, 0.5
    assert reader.available == 1
    assert reader.pop_heard() == (b"\x01\x02" * 320, 0.75, 0.5)
    assert reader.pop_heard() is None
    dsp.close()
    reader.close()


def test_a_payload_that_does_not_fit_is_a_bug(make_arena: Callable[[int], Arena]) -> None:
    arena = make_arena(1)
    writer = RingWriter(arena, input_ring(arena), 0)
    for payload in (b"", bytes(641)):
        with pytest.raises(AssertionError):
            writer.push(payload)
    writer.close()


def test_a_slot_outside_the_arena_is_a_bug(make_arena: Callable[[int], Arena]) -> None:
    arena = make_arena(1)
    with pytest.raises(AssertionError):
        RingReader(arena, input_ring(arena), 1)
    assert input_ring(arena).published is SlotWord.CALLER_HEAD
