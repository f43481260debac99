"""Whether the caller's voice came to rest: the last sounds of a sentence are its softest. Pure.

Speech-to-text writes a full stop behind half a sentence as readily as behind a whole one, so the
words alone say little about a pause. The voice says more: speakers let the end of what they have
to say fall off, and stop in the midst of it at full strength. Measured on 134 recorded prompts that
are no test material of ours (Asterisk's, English and Russian): at their ends the voice of 82 had
fallen, torn inside a sentence that of 13. Levels were chosen over pitch because pitch told the
Russian speaker's ends no better and costs a transform a frame.

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

#: The last 200 ms of voice are half as loud as the middle of what was said, or softer; and the last
#: 300 nearly so, since a word that is broken off is soft for a moment as well.
_FALLS_DB = {200 // FRAME_MS: 6.0, 300 // FRAME_MS: 5.0}
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
        middle = median(heard)
        return all(fmean(heard[-last:]) <= middle - fall for last, fall in _FALLS_DB.items())
