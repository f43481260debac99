"""Whether the caller's voice came to rest: the last sounds of a sentence are its softest. Pure.

Speech-to-text writes a full stop behind half a sentence as readily as behind a whole one, so the
words alone say little about a pause. The voice says more: speakers let the end of what they have
to say fall off, and stop in the midst of it at full strength. Measured on 90 recorded prompts that
are no test material of ours (Asterisk's, English and Russian), torn inside a sentence: of those
that read as whole 15 of 64 had fallen, of their real ends 63 of 86. Levels were chosen over pitch
because pitch told the Russian speaker's ends no better and costs a transform a frame.

Fed one frame (20 ms) at a time. What counts is voice within ``VOICE_RANGE_DB`` of the loudest
frame: below that is what a voice detector hears on for a few frames after the last sound. In a room
louder than that the fall cannot be heard, and nothing speaks against the words.
"""

from __future__ import annotations

from collections import deque
from statistics import fmean, median

from audio.format import FRAME_MS
from gateway.conversation.speech import VOICE_RANGE_DB
from gateway.limits import UTTERANCE_MS_MAX

#: The last 200 ms of voice ...
_END_FRAMES = 200 // FRAME_MS
#: ... are half as loud as the middle of what was said, or softer.
_FALL_DB = 6.0
_ROOM_FRAMES = 10


class Cadence:
    """The levels of one utterance."""

    __slots__ = ("_room", "_voice")

    def __init__(self) -> None:
        self._voice: deque[float] = deque(maxlen=UTTERANCE_MS_MAX // FRAME_MS)
        self._room: deque[float] = deque(maxlen=_ROOM_FRAMES)

    def feed(self, level_dbfs: float, *, voiced: bool) -> None:
        """Take one frame of an utterance or of the pause after it."""
        (self._voice if voiced else self._room).append(level_dbfs)

    def forget(self) -> None:
        """The next utterance begins; the room stays the same."""
        self._voice.clear()

    @property
    def falls(self) -> bool:
        """Whether the voice has come to rest, as far as that can be heard."""
        if not self._voice:
            return True
        faintest = max(self._voice) - VOICE_RANGE_DB
        if self._room and median(self._room) > faintest:
            return True
        heard = [level for level in self._voice if level > faintest]
        return fmean(heard[-_END_FRAMES:]) <= median(heard) - _FALL_DB
