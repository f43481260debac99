"""When the caller takes the turn from a speaking assistant, and when it was only a "mhm". Pure.

Detected ahead of the utterance: counting voiced frames needs no onset of its own, so the
interruption comes ``after_ms`` after the first voiced frame and not an onset time later. Short
gaps are bridged, because voiced speech is full of them (every "t" and "k" is one).
"""

from __future__ import annotations

from audio.format import FRAME_MS
from gateway.conversation.lexicon import lexicon
from gateway.conversation.words import norms

BARGE_IN_AFTER_MS = 200
_GAP_FRAMES_MAX = 4


class BargeIn:
    """Counts caller speech over the assistant, a frame (20 ms) at a time."""

    __slots__ = ("_after_frames", "_frames", "_gap_frames", "_voiced_frames")

    def __init__(self, after_ms: int = BARGE_IN_AFTER_MS) -> None:
        if after_ms < FRAME_MS:
            raise ValueError(f"after_ms must be at least {FRAME_MS}")
        self._after_frames = -(-after_ms // FRAME_MS)
        self.reset()

    def reset(self) -> None:
        """Forget what was counted."""
        self._voiced_frames = self._gap_frames = self._frames = 0

    @property
    def frames(self) -> int:
        """Frames since the first voiced one of what is counted, gaps included."""
        return self._frames

    def feed(self, *, voiced: bool, assistant_audible: bool) -> bool:
        """Take one frame; True while the caller's speech is long enough to interrupt."""
        if not assistant_audible:
            self.reset()
        elif voiced:
            self._voiced_frames += 1
            self._gap_frames = 0
        else:
            self._gap_frames += 1
            if self._gap_frames > _GAP_FRAMES_MAX:
                self.reset()
        self._frames += self._voiced_frames > 0
        return self._voiced_frames >= self._after_frames


def is_acknowledgement(text: str, language: str) -> bool:
    """Whether the caller only showed that they listen ("mhm", "okay"); False for empty text."""
    return lexicon(language).words.acknowledgements.cover(norms(text))
