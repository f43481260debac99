"""Whether a worker takes one more call: a pure judgement over what its beats have shown.

Overload is noticed by deadlines, not by a CPU figure: the worker's own loop is late, or the DSP
process that serves its arena is, and not for a moment: a caller who is turned away loses more than
one who hears a hiccup. A worker that has closed for such a reason stays closed until
nothing was wrong for REOPEN_AFTER_MS, else it would take a call with every gap between two bad
moments. Calls in progress are not touched: refusing new ones is what keeps them whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from audio.format import NS_PER_MS
from gateway.limits import (
    DESCRIPTORS_PERCENT_MAX,
    DSP_LAG_BEATS,
    DSP_LAG_BEATS_LATE_MAX,
    DSP_LAG_MS_MAX,
    LAG_BEATS,
    LAG_BEATS_LATE_MAX,
    LAG_MS_MAX,
    REOPEN_AFTER_MS,
)

_LAG_NS_MAX = LAG_MS_MAX * NS_PER_MS
_DSP_LAG_NS_MAX = DSP_LAG_MS_MAX * NS_PER_MS
_REOPEN_AFTER_NS = REOPEN_AFTER_MS * NS_PER_MS


class Admits(IntEnum):
    """What a worker writes into ``Field.ADMITS``: 1 takes more, anything else says why not."""

    NO = 0
    YES = 1
    LOOP_LATE = -1
    DSP_LATE = -2
    FEW_DESCRIPTORS = -3
    NO_SLOT = -4


#: For an operator, after the worker's name.
SENTENCES: Mapping[int, str] = MappingProxyType(
    {
        Admits.LOOP_LATE: "its event loop is late",
        Admits.DSP_LATE: "its DSP process is late",
        Admits.FEW_DESCRIPTORS: "it is running out of file descriptors",
        Admits.NO_SLOT: "every slot is taken",
    }
)


#: For a counter of refused calls, when nobody takes one.
REASONS: Mapping[int, str] = MappingProxyType(
    {
        Admits.NO: "draining",
        Admits.YES: "full",
        Admits.LOOP_LATE: "late",
        Admits.DSP_LATE: "dsp_late",
        Admits.FEW_DESCRIPTORS: "descriptors",
        Admits.NO_SLOT: "full",
    }
)


@dataclass(frozen=True, slots=True)
class Pulse:
    """What one beat shows: how late our loop and our DSP's passes are, and what is left."""

    lag_ns: int
    dsp_lag_ns: int
    descriptors: int
    descriptors_max: int
    slots_free: int


class Admission:
    """Judges beat by beat; told the time."""

    def __init__(self) -> None:
        self._late: deque[bool] = deque(maxlen=LAG_BEATS)
        self._dsp_late: deque[bool] = deque(maxlen=DSP_LAG_BEATS)
        self._fault = Admits.YES
        self._open_at_ns = 0
        #: Times the door was closed for a fault since the worker started.
        self.closings = 0

    def beat(self, pulse: Pulse, now_ns: int) -> Admits:
        """Whether one more call is taken from now on, or why not."""
        self._late.append(pulse.lag_ns > _LAG_NS_MAX)
        self._dsp_late.append(pulse.dsp_lag_ns > _DSP_LAG_NS_MAX)
        fault = self._look(pulse)
        if fault is not Admits.YES:
            self.closings += self._fault is Admits.YES
            self._fault = fault
            self._open_at_ns = now_ns + _REOPEN_AFTER_NS
        elif now_ns >= self._open_at_ns:
            self._fault = Admits.YES
        if self._fault is Admits.YES and pulse.slots_free == 0:
            return Admits.NO_SLOT  # a count needs no waiting: it opens with the first free slot
        return self._fault

    def _look(self, pulse: Pulse) -> Admits:
        if sum(self._late) > LAG_BEATS_LATE_MAX:
            return Admits.LOOP_LATE
        if sum(self._dsp_late) > DSP_LAG_BEATS_LATE_MAX:
            return Admits.DSP_LATE
        if 100 * pulse.descriptors >= DESCRIPTORS_PERCENT_MAX * pulse.descriptors_max:
            return Admits.FEW_DESCRIPTORS
        return Admits.YES
