"""How loud both parties of a call are just now, read off the rings of many slots at once.

For people who watch, about once a second: a look at the newest frames that came since the last
look, never a copy of the stream. Nothing is written and nothing is waited for; a cell that changes
under our hands costs a wrong bar on a meter for a second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audio.arena import Arena
from audio.layout import CELLS, VERDICT_VALUES, SlotWord, Verdict

#: Frames looked at, the newest ones; and how many samples of each of the assistant's: two cache
#: lines, for reading whole frames of hundreds of calls would keep the calls waiting.
FRAMES = 4
SAMPLES = 64
#: Slots looked at together: arrays that the allocator keeps, instead of new pages each time.
SLOTS_MAX = 64
FLOOR_DBFS = -90
SPEECH_PROBABILITY = 0.5

Ints = NDArray[np.int64]
_BACK = np.arange(FRAMES)
_MASK = CELLS - 1
_FULL_SCALE = 32_768.0


class Levels(NamedTuple):
    """One call's: dBFS (FLOOR_DBFS when nothing came), and who is speaking."""

    caller_dbfs: int
    assistant_dbfs: int
    caller_speaks: bool
    assistant_speaks: bool


class Meter:
    """Reads the levels of one arena's slots."""

    def __init__(self, arena: Arena) -> None:
        layout, buffer = arena.layout, arena.buffer
        slots = layout.slots

        def words(word: SlotWord) -> Ints:
            return np.ndarray((slots,), np.int64, buffer, layout.word_at(word))

        pcm = layout.assistant_pcm
        self._caller, self._assistant = words(SlotWord.CALLER_DONE), words(SlotWord.ASSISTANT_DONE)
        self._verdict: NDArray[np.float32] = np.ndarray(
            (slots, CELLS, VERDICT_VALUES), np.float32, buffer, layout.verdict_at
        )
        self._pcm: NDArray[np.int16] = np.ndarray(
            (slots, CELLS, pcm.cell_bytes // 2), np.int16, buffer, pcm.payload_at
        )
        self._seen = np.zeros((2, slots), np.int64)

    def read(self, slots: Sequence[int]) -> list[Levels]:
        """The levels of these slots, in their order."""
        parts = (slots[n : n + SLOTS_MAX] for n in range(0, len(slots), SLOTS_MAX))
        return [levels for part in parts for levels in self._read(np.array(part, np.int64))]

    def _read(self, at: Ints) -> Iterator[Levels]:
        cells, fresh = self._newest(0, self._caller, at)
        verdict = self._verdict[at[:, None], cells]
        loud = np.where(fresh, verdict[:, :, Verdict.LEVEL], 0).max(axis=1, initial=0)
        voiced = fresh & (verdict[:, :, Verdict.PROBABILITY] > SPEECH_PROBABILITY)
        cells, fresh = self._newest(1, self._assistant, at)
        samples = self._pcm[:, :, :SAMPLES][at[:, None], cells] / np.float32(_FULL_SCALE)
        power = np.where(fresh, np.square(samples).mean(axis=2), 0).max(axis=1, initial=0)
        columns: list[NDArray[Any]] = [_dbfs(loud), _dbfs(np.sqrt(power))]
        columns += [np.any(voiced, axis=1), np.any(fresh, axis=1)]
        return map(Levels._make, zip(*map(_list, columns), strict=True))

    def close(self) -> None:
        """Let go of the arena."""
        del self._caller, self._assistant, self._verdict, self._pcm

    def _newest(self, row: int, done: Ints, at: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Cells of the newest frames of each slot, and which of them are new since last time."""
        counts = done[at]
        frames = counts[:, None] - 1 - _BACK
        fresh: NDArray[np.bool_] = frames >= self._seen[row, at][:, None]
        self._seen[row, at] = counts
        return frames & _MASK, fresh


def _list(column: NDArray[Any]) -> list[Any]:
    found: list[Any] = column.tolist()
    return found


def _dbfs(level: NDArray[np.floating]) -> Ints:
    floor = 10 ** (FLOOR_DBFS / 20)
    found: Ints = np.rint(20 * np.log10(np.clip(level, floor, 1.0))).astype(np.int64)
    return found
