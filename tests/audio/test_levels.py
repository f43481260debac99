"""Levels read off the rings while a DSP loop serves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from audio.arena import Arena
from audio.layout import CELLS, VERDICT_VALUES, SlotWord, Verdict
from audio.levels import FLOOR_DBFS, FRAMES, SLOTS_MAX, Levels, Meter

SILENT = Levels(FLOOR_DBFS, FLOOR_DBFS, caller_speaks=False, assistant_speaks=False)


class Rings:
    """An arena written to as worker and DSP process do, as far as a meter looks."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.meter = Meter(arena)

    def caller(self, slot: int, level: float, probability: float, frames: int = 1) -> None:
        verdict = self._array(np.float32, VERDICT_VALUES, self.arena.layout.verdict_at)
        for _ in range(frames):
            cell = self._next(SlotWord.CALLER_HEAD, SlotWord.CALLER_DONE, slot)
            verdict[slot, cell, Verdict.LEVEL] = level
            verdict[slot, cell, Verdict.PROBABILITY] = probability

    def assistant(self, slot: int, amplitude: int) -> None:
        place = self.arena.layout.assistant_pcm
        pcm = self._array(np.int16, place.cell_bytes // 2, place.payload_at)
        pcm[slot, self._next(SlotWord.ASSISTANT_HEAD, SlotWord.ASSISTANT_DONE, slot)] = amplitude

    def _array(self, kind: type, width: int, at: int) -> np.ndarray:
        slots = self.arena.layout.slots
        return np.ndarray((slots, CELLS, width), kind, self.arena.buffer, at)

    def _next(self, head: SlotWord, done: SlotWord, slot: int) -> int:
        index = self.arena.layout.word_index(done, slot)
        cell = self.arena.words[index] % CELLS
        self.arena.words[self.arena.layout.word_index(head, slot)] += 1
        self.arena.words[index] += 1
        return cell


@pytest.fixture
def rings(make_arena: Callable[[int], Arena]) -> Iterator[Rings]:
    rings = Rings(make_arena(3))
    yield rings
    rings.meter.close()


def test_levels_are_those_since_the_last_look(rings: Rings) -> None:
    assert rings.meter.read([0, 1, 2]) == [SILENT] * 3
    rings.caller(1, level=0.1, probability=0.9)
    rings.assistant(2, amplitude=-16_384)
    assert rings.meter.read([2, 1]) == [
        Levels(FLOOR_DBFS, -6, caller_speaks=False, assistant_speaks=True),
        Levels(-20, FLOOR_DBFS, caller_speaks=True, assistant_speaks=False),
    ]
    assert rings.meter.read([0, 1, 2]) == [SILENT] * 3


def test_the_loudest_of_the_newest_frames_counts(rings: Rings) -> None:
    rings.caller(0, level=1.0, probability=0.1)
    rings.caller(0, level=0.01, probability=0.1, frames=FRAMES - 1)
    assert rings.meter.read([0])[0].caller_dbfs == 0
    rings.caller(0, level=1.0, probability=0.1)
    rings.caller(0, level=0.01, probability=0.1, frames=2 * CELLS)
    assert rings.meter.read([0]) == [SILENT._replace(caller_dbfs=-40)]


def test_more_slots_than_are_looked_at_together(make_arena: Callable[[int], Arena]) -> None:
    slots = 2 * SLOTS_MAX + 3
    rings = Rings(make_arena(slots))
    rings.caller(slots - 1, level=0.1, probability=0.1)
    found = rings.meter.read(range(slots))
    assert found == [SILENT] * (slots - 1) + [SILENT._replace(caller_dbfs=-20)]
    rings.meter.close()


def test_nobody_to_look_at(rings: Rings) -> None:
    assert rings.meter.read([]) == []
