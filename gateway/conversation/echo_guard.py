"""Tells the caller's voice from the assistant's own, come back over a loudspeaker. Pure.

Nobody removes echo on a carrier's stream, so it must be recognised. The guard is fed, frame by
frame (20 ms), the level that the carrier plays at this moment and the level that the caller's
frame has. An echo comes 0 to 600 ms later than what was played and a good deal softer. So:

* a frame that is louder than anything played in that time less ``loss_db_min`` is the caller
  (the rule by which telephone exchanges tell double talk);
* a softer one is an echo, unless it goes on and its loudness moves otherwise than what was
  played, at every delay: then it is a caller who speaks softly. That takes ``_WINDOW_FRAMES``.

Most lines do not echo, and on those a soft "yes" right after the question must not be taken for
one. So the loss is learned: it begins at the least that a loudspeaker has, and where nothing comes
back while much is played it grows. After each interruption it begins anew, because it may have
been an echo that was not there before.
"""

from __future__ import annotations

from collections import deque

import numpy as np

#: What is played when nothing is: softer than any telephone line.
SILENCE_DBFS = -90.0
#: The longest way from us through the carrier and the loudspeaker back to us, in frames.
_DELAY_FRAMES_MAX = 30
_WINDOW_FRAMES = 30
_ALIKE = 0.5
_LOOK_EVERY_FRAMES = 5
#: Softer frames say nothing about who speaks.
_FLOOR_DBFS = -60.0
#: A line that moves less than this in the window is steady: there is nothing to compare.
_MOVES_DB_MIN = 3.0
#: The softer sounds between a caller's loud ones are theirs, too.
_HOLD_FRAMES = 6
#: What comes back may be this much louder than the loudest of the last seconds, ...
_COUPLING_MARGIN_DB = 8.0
#: ... which are forgotten at this rate, a frame, while speech is played without a pause: ...
_COUPLING_FALLS_DB = 0.1
#: ... its mean level is this much below its loudest then, at most.
_BUSY_DB = 16.0


class EchoGuard:
    """One call's guard."""

    __slots__ = (
        "_caller",
        "_coupling_db",
        "_foreign",
        "_frames",
        "_held",
        "_loss_db_min",
        "_played",
    )

    def __init__(self, loss_db_min: float = 11.0) -> None:
        self._loss_db_min = loss_db_min
        self._played: deque[float] = deque(maxlen=_DELAY_FRAMES_MAX + _WINDOW_FRAMES)
        self._caller: deque[float] = deque(maxlen=_WINDOW_FRAMES)
        self._frames = 0
        self._foreign = False
        self._held = 0
        #: How loud what comes back is in relation to what was played; falls slowly.
        self._coupling_db = 0.0

    @property
    def expects(self) -> bool:
        """Whether something that was played may still come back."""
        return bool(self._played)

    def is_echo(self, played_dbfs: float, caller_dbfs: float) -> bool:
        """Take one frame of both directions; whether the caller's is our own voice."""
        played, caller = self._played, self._caller
        played.append(played_dbfs)
        caller.append(caller_dbfs)
        self._frames += 1
        recent = list(played)[-_DELAY_FRAMES_MAX:]
        loudest = max(recent)
        if loudest <= SILENCE_DBFS:
            self._rest()
            return False
        returned_db = caller_dbfs - loudest
        if returned_db > min(-self._loss_db_min, self._coupling_db + _COUPLING_MARGIN_DB):
            self._held = _HOLD_FRAMES
            return False
        if self._held:
            self._held -= 1
            return False
        busy = sum(recent) / len(recent) > loudest - _BUSY_DB  # in a pause nothing comes back
        fallen_db = self._coupling_db - _COUPLING_FALLS_DB * busy
        self._coupling_db = max(returned_db, fallen_db)
        if self._frames % _LOOK_EVERY_FRAMES == 0 and len(played) == played.maxlen:
            self._foreign = self._moves_otherwise()
        return not self._foreign

    def doubt(self) -> None:
        """The caller interrupted, or so it seems: this line may have an echo after all."""
        self._coupling_db = 0.0

    def _rest(self) -> None:
        """Nothing was played for as long as an echo takes: begin anew when something is."""
        self._played.clear()
        self._caller.clear()
        self._frames = 0
        self._foreign = False

    def _moves_otherwise(self) -> bool:
        """Whether the caller's loudness follows what was played at no delay."""
        caller = np.maximum(np.fromiter(self._caller, np.float64), _FLOOR_DBFS)
        played = np.maximum(np.fromiter(self._played, np.float64), _FLOOR_DBFS)
        if caller.max() - caller.min() < _MOVES_DB_MIN or caller.max() <= _FLOOR_DBFS:
            return False
        windows = np.lib.stride_tricks.sliding_window_view(played, _WINDOW_FRAMES)
        windows = windows - windows.mean(axis=1, keepdims=True)
        caller = caller - caller.mean()
        sizes = np.sqrt((windows**2).sum(axis=1) * (caller**2).sum())
        likeness = (windows @ caller) / np.maximum(sizes, 1e-9)
        return bool(likeness.max() < _ALIKE)
