"""When the assistant speaks, as the caller hears it: the live ear of scenarios that take turns.

Audio is judged in blocks of 20 ms at the time it will be played. Speech is a block above
``VOICE_DBFS``; an onset is speech after at least ``ONSET_QUIET_NS`` without. Pure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loadtest.schedule import FRAME_NS, NS_PER_MS

VOICE_DBFS = -45.0
ONSET_QUIET_NS = 200 * NS_PER_MS
ONSETS_MAX = 10_000

_VOICE_RMS = 32768.0 * 10 ** (VOICE_DBFS / 20)


class Ear:
    """Follows one call's assistant; ``block`` is the number of samples in 20 ms."""

    __slots__ = ("_block", "_ends", "onsets_ns")

    def __init__(self, block: int) -> None:
        self._block = block
        #: Onsets in playout time, and where the speech of each ends as far as is known.
        self.onsets_ns: list[int] = []
        self._ends: list[int] = []

    @property
    def speech_end_ns(self) -> int | None:
        """When the last speech heard (or queued) ends; None before the first."""
        return self._ends[-1] if self._ends else None

    def hear(self, start_ns: int, samples: NDArray[np.int16]) -> None:
        """Audio that is played from ``start_ns`` on."""
        for i in range(0, len(samples), self._block):
            block = samples[i : i + self._block].astype(np.float32)
            at = start_ns + i * FRAME_NS // self._block
            if float(np.sqrt(np.mean(block * block))) >= _VOICE_RMS:
                self._speech(at, at + len(block) * FRAME_NS // self._block)

    def speaks_until(self, time_ns: int) -> int:
        """When the speech ends that goes on at that time; that time itself in silence."""
        spoken = zip(self.onsets_ns, self._ends, strict=True)
        return next((end for onset, end in spoken if onset <= time_ns < end), time_ns)

    def cut(self, now_ns: int) -> None:
        """What has not been played by now will not be."""
        while self.onsets_ns and self.onsets_ns[-1] >= now_ns:
            self.onsets_ns.pop()
            self._ends.pop()
        if self._ends:
            self._ends[-1] = min(self._ends[-1], now_ns)

    def first_onset_after(self, time_ns: int) -> int | None:
        """The first onset at or after that time; None if there is none yet."""
        return next((onset for onset in self.onsets_ns if onset >= time_ns), None)

    def _speech(self, start_ns: int, end_ns: int) -> None:
        if self._ends and start_ns - self._ends[-1] < ONSET_QUIET_NS:
            self._ends[-1] = end_ns
        elif len(self.onsets_ns) < ONSETS_MAX:
            self.onsets_ns.append(start_ns)
            self._ends.append(end_ns)
