"""The rings in ``python -m audio.bench``: a worker's push and pop, gather, scatter and commit.

Each measurement works on n slots that hold a frame each. Counters are set back between runs by
the writer's and reader's own ends, which costs far less than what is measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np

from audio import g711
from audio.arena import Arena
from audio.bank import Bank, Ready
from audio.format import PCM_FRAME_BYTES, WIRE_FORMATS, Encoding
from audio.layout import Layout, SlotWord
from audio.results import CallerResults
from audio.ring import RingWriter

Work = Callable[[], object]

_FRAME = b"\x55" * WIRE_FORMATS[Encoding.MULAW].frame_bytes


@dataclass(frozen=True, slots=True)
class Heap:
    """As much of an arena as rings need."""

    layout: Layout
    buffer: memoryview
    words: memoryview[int]


@dataclass
class Rig:
    """n slots with both ends of the caller's rings."""

    writers: list[RingWriter]
    results: CallerResults
    bank: Bank
    words: memoryview[int]
    layout: Layout

    @classmethod
    def of(cls, slots: int) -> Rig:
        """n slots in ordinary memory: sharing it costs nothing, giving it back is simple."""
        layout = Layout(slots)
        view = memoryview(bytearray(layout.nbytes))
        arena = cast("Arena", Heap(layout, view, view.cast("q")))
        writers = [RingWriter(arena, layout.caller_wire, n) for n in range(slots)]
        results = CallerResults(arena)
        for slot in range(slots):
            results.begin(slot, tag=0)
        return cls(writers, results, Bank(arena), arena.words, layout)

    def ready(self) -> Ready:
        """All slots hold one frame."""
        for writer in self.writers:
            writer.push(_FRAME)
        ready, _ = self.bank.caller_ready()
        return ready


def push(slots: int) -> Work:
    """A worker writes one caller frame of every call."""
    rig = Rig.of(slots)
    words, done_at = rig.words, rig.layout.word_index(SlotWord.CALLER_DONE, 0)

    def work() -> None:
        for slot, writer in enumerate(rig.writers):
            writer.push(_FRAME)
            words[done_at + slot] += 1  # stands in for the DSP process

    return work


def gather_decode(slots: int) -> Work:
    """The DSP process finds what is ready, gathers it with its history and decodes to float32."""
    rig, table = Rig.of(slots), g711.decode_table(Encoding.MULAW)
    rig.ready()
    wire = rig.bank.caller_wire

    def work() -> None:
        ready, _ = rig.bank.caller_ready()
        nbytes = len(_FRAME)
        table.take(wire.frames(ready, nbytes))
        table.take(wire.tails(ready, nbytes, nbytes // 5))

    return work


def scatter(slots: int) -> Work:
    """The DSP process writes 16 kHz PCM and its meta words into every call's ring."""
    rig = Rig.of(slots)
    ready = rig.ready()
    pcm = np.zeros((slots, PCM_FRAME_BYTES), np.uint8)
    return lambda: rig.bank.caller_pcm.put(ready, pcm, rig.bank.caller_wire)


def commit(slots: int) -> Work:
    """The one store that publishes and consumes."""
    rig = Rig.of(slots)
    ready = rig.ready()
    return lambda: rig.bank.commit_caller(ready)


def pop(slots: int) -> Work:
    """A worker takes one result of every call."""
    rig = Rig.of(slots)
    ready = rig.ready()
    rig.bank.caller_pcm.put(
        ready, np.zeros((slots, PCM_FRAME_BYTES), np.uint8), rig.bank.caller_wire
    )
    rig.bank.commit_caller(ready)

    tail_at = rig.layout.word_index(SlotWord.CALLER_TAIL, 0)
    before = bytes(8 * slots)

    def work() -> None:
        assert len(rig.results.take()) == slots
        rig.words[tail_at : tail_at + slots] = memoryview(before).cast("q")  # once more

    return work
