"""Writers and results against deques: every frame of every slot once, in order, and no other."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from typing_extensions import override

from audio.arena import Arena
from audio.layout import CELLS, USABLE_CELLS, Meta, SlotWord, Verdict
from audio.results import CallerResults, Results
from audio.ring import RingWriter

SLOTS = 3
DAMAGED = -99
NOBODYS = -1
slots = st.integers(0, SLOTS - 1)
tags = st.integers(0, 2)


class Rung:
    """A bell that remembers."""

    def __init__(self) -> None:
        self.rung = False

    def ring(self) -> None:
        self.rung = True


class RingsAgainstDeques(RuleBasedStateMachine):
    """Leases and epochs come and go on three slots, cells are damaged, either side restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.arena = Arena.create(SLOTS)
        self.place = self.arena.layout.assistant_wire
        self.bell = Rung()
        self.results = Results(self.arena, self.place, self.bell)
        self.writers = [RingWriter(self.arena, self.place, n) for n in range(SLOTS)]
        self.tags = [NOBODYS] * SLOTS
        self.waiting: list[deque[tuple[int, bytes]]] = [deque() for _ in range(SLOTS)]
        self.pushed = self.stale = self.bad = 0

    @rule(slot=slots, tag=tags)
    def begin(self, slot: int, tag: int) -> None:
        self.results.begin(slot, tag)
        self.tags[slot] = tag
        self.waiting[slot].clear()

    @rule(slot=slots, tag=tags)
    def expect(self, slot: int, tag: int) -> None:
        self.results.expect(slot, tag)
        self.tags[slot] = tag

    @rule(slot=slots)
    def end(self, slot: int) -> None:
        self.results.end(slot)
        self.tags[slot] = NOBODYS

    @rule(slot=slots, tag=tags, length=st.integers(1, 640), frames=st.integers(1, USABLE_CELLS + 1))
    def push(self, slot: int, tag: int, length: int, frames: int) -> None:
        waiting = self.waiting[slot]
        self.writers[slot].tag = tag
        for _ in range(frames):
            self.pushed += 1
            payload = (self.pushed.to_bytes(4, "little") * 160)[:length]
            pushed = self.writers[slot].push(payload)
            assert pushed == (len(waiting) < USABLE_CELLS)
            if pushed:
                waiting.append((tag, payload))

    @rule(slot=slots)
    def a_writer_is_replaced(self, slot: int) -> None:
        self.writers[slot] = RingWriter(self.arena, self.place, slot)

    @rule()
    def the_results_are_replaced(self) -> None:
        """Others go on where they were."""
        self.results.close()
        self.results = Results(self.arena, self.place, self.bell)
        self.stale = self.bad = 0
        for slot, tag in enumerate(self.tags):
            self.results.expect(slot, tag)

    @rule(
        slot=slots,
        behind=st.integers(0, USABLE_CELLS - 1),
        word=st.sampled_from([Meta.SEQUENCE, Meta.LENGTH]),
        value=st.sampled_from([-1, 0, 2**40, 2**62]),
    )
    def a_cell_is_damaged(self, slot: int, behind: int, word: Meta, value: int) -> None:
        """Its frame is never played: it is passed over, and counted."""
        if behind < len(self.waiting[slot]):
            cell = (self.results._tail[slot] + behind) % CELLS
            self.results._meta[slot * CELLS + cell, word] = value
            self.waiting[slot][behind] = (DAMAGED, b"")

    @rule()
    def take(self) -> None:
        self.bell.rung = False
        taken: dict[int, list[bytes]] = defaultdict(list)
        for slot, payload in self.results.take():
            taken[slot].append(payload)
        assert self.bell.rung == any(len(each) == USABLE_CELLS for each in self.waiting)
        for slot, waiting in enumerate(self.waiting):
            mine = [payload for tag, payload in waiting if tag == self.tags[slot]]
            assert taken[slot] == mine
            damaged = sum(tag == DAMAGED for tag, _ in waiting)
            self.bad += damaged
            self.stale += len(waiting) - len(mine) - damaged
            waiting.clear()
        assert self.results.take() == []

    @invariant()
    def it_counts_like_the_model(self) -> None:
        for writer, waiting in zip(self.writers, self.waiting, strict=True):
            assert len(writer) == USABLE_CELLS - writer.room == len(waiting)
            assert writer.damaged == 0
        assert (self.results.stale.sum(), self.results.bad.sum()) == (self.stale, self.bad)
        assert not self.results.damaged.any()

    @override
    def teardown(self) -> None:
        self.results.close()
        self.arena.close()


TestRingsAgainstDeques = RingsAgainstDeques.TestCase
TestRingsAgainstDeques.settings = settings(max_examples=60, stateful_step_count=40)


def test_a_caller_frame_comes_with_its_verdict(make_arena: Callable[[int], Arena]) -> None:
    arena = make_arena(2)
    dsp = RingWriter(arena, arena.layout.caller_pcm, 1, tag=9)
    results = CallerResults(arena)
    results.begin(1, tag=9)
    for n in range(2):
        dsp.push(bytes([n]) * 640)
        results._verdict[CELLS + n, Verdict.PROBABILITY] = 0.75 - n / 2
        results._verdict[CELLS + n, Verdict.LEVEL] = 0.5
    assert results.take_heard() == [(1, bytes(640), 0.75, 0.5), (1, b"\1" * 640, 0.25, 0.5)]
    assert results.take_heard() == []


def test_counters_that_contradict_each_other_empty_the_ring(
    make_arena: Callable[[int], Arena],
) -> None:
    arena = make_arena(2)
    place = arena.layout.assistant_wire
    results = Results(arena, place)
    writers = [RingWriter(arena, place, slot) for slot in range(2)]
    for slot, writer in enumerate(writers):
        results.begin(slot, tag=0)
        writer.push(b"before")
    arena.words[arena.layout.word_index(SlotWord.ASSISTANT_DONE, 0)] = 10**6
    assert results.take() == [(1, b"before")], "the other slot is served"
    assert results.damaged.tolist() == [1, 0]
    writers[0].push(b"after")
    assert results.take() == [(0, b"after")]
