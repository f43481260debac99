"""When the caller begins to speak, pauses and goes on: hysteresis over per-frame values. Pure.

Fed with one frame (20 ms) at a time: the probability of speech and the level. Time is a count of
frames, so it cannot drift from the audio.

Three states. QUIET: nobody speaks; ``onset_frames`` loud frames in a row with at least the onset
probability start an utterance. SPEAKING: a frame below the (lower) release probability is
silence, and so is one much fainter than the utterance's loudest: the model hears on after the last
sound, for 60 to 220 ms in recorded prompts torn inside a sentence, which the level ends to within
20 ms. ``hangover_frames`` of silence in a row are a pause. PAUSED: the utterance is not over, that
is for the endpointing to say (it calls ``end``); an onset, as before and however faint, resumes it.
Where the room is not as much fainter than the voice, the model alone tells.

The probability is computed over windows of 32 ms, so one window's value shows in one or two
frames. A click that fools a single window can therefore fill two frames but never the four of the
default onset, which always span two windows or more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from audio.format import FRAME_MS

#: How far below its loudest frame an utterance is still heard.
VOICE_RANGE_DB = 30.0
SILENCE_DBFS = -120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechPolicy:
    """Thresholds (probability 0..1, level in dBFS) and counts (frames of 20 ms)."""

    onset_probability: float = 0.5
    release_probability: float = 0.35
    onset_frames: int = 4
    hangover_frames: int = 10
    level_dbfs_min: float = -60.0
    range_db: float = VOICE_RANGE_DB

    def __post_init__(self) -> None:
        if not 0 < self.release_probability <= self.onset_probability <= 1:
            raise ValueError("0 < release_probability <= onset_probability <= 1 must hold")
        if min(self.onset_frames, self.hangover_frames) < 1:
            raise ValueError("onset_frames and hangover_frames must be at least 1")


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """An utterance began ``frames_ago`` frames ago, the present frame included."""

    frames_ago: int


@dataclass(frozen=True, slots=True)
class SpeechPaused:
    """The utterance's last voiced frame was ``frames_ago`` frames ago."""

    frames_ago: int


@dataclass(frozen=True, slots=True)
class SpeechResumed:
    """The utterance went on ``frames_ago`` frames ago, the present frame included."""

    frames_ago: int


SpeechEvent = SpeechStarted | SpeechPaused | SpeechResumed


class _State(Enum):
    QUIET = auto()
    SPEAKING = auto()
    PAUSED = auto()


class SpeechDetector:
    """One caller's speech. ``voiced`` tells whether the last frame counted as voice."""

    __slots__ = (
        *("_loudest_dbfs", "_onset", "_policy", "_state"),
        *("silence_frames", "speech_frames", "voiced"),
    )

    def __init__(self, policy: SpeechPolicy | None = None) -> None:
        self._policy = policy or SpeechPolicy()
        self._state = _State.QUIET
        self._onset = 0
        self._loudest_dbfs = SILENCE_DBFS
        self.voiced = False
        self.speech_frames = 0
        self.silence_frames = 0

    @property
    def in_utterance(self) -> bool:
        """Whether an utterance has begun and ``end`` was not called yet."""
        return self._state is not _State.QUIET

    @property
    def speech_ms(self) -> int:
        """Voice in this utterance, pauses not counted, in milliseconds."""
        return self.speech_frames * FRAME_MS

    @property
    def pause_ms(self) -> int:
        """Silence since the utterance's last voiced frame, in milliseconds."""
        return self.silence_frames * FRAME_MS

    def feed(self, probability: float, level_dbfs: float) -> SpeechEvent | None:
        """Take one frame; returns what it changed, if anything."""
        self.voiced = self._is_voice(probability, level_dbfs)
        if self.voiced:
            self._loudest_dbfs = max(self._loudest_dbfs, level_dbfs)
        if self._state is _State.SPEAKING:
            return self._speaking()
        self._onset = self._onset + 1 if self.voiced else 0
        if self._state is _State.PAUSED:
            self.silence_frames += 1
        elif not self.voiced:
            self._loudest_dbfs = SILENCE_DBFS
        return self._begin() if self._onset == self._policy.onset_frames else None

    def end(self) -> None:
        """The utterance is over: count the next one from zero."""
        self._state = _State.QUIET
        self._onset = self.speech_frames = self.silence_frames = 0
        self._loudest_dbfs = SILENCE_DBFS

    def _is_voice(self, probability: float, level_dbfs: float) -> bool:
        policy = self._policy
        if self._state is not _State.SPEAKING:
            return probability >= policy.onset_probability and level_dbfs >= policy.level_dbfs_min
        faintest = max(policy.level_dbfs_min, self._loudest_dbfs - policy.range_db)
        return probability >= policy.release_probability and level_dbfs >= faintest

    def _speaking(self) -> SpeechPaused | None:
        if self.voiced:
            # A gap shorter than the hangover is part of the speech around it.
            self.speech_frames += self.silence_frames + 1
            self.silence_frames = 0
            return None
        self.silence_frames += 1
        if self.silence_frames < self._policy.hangover_frames:
            return None
        self._state = _State.PAUSED
        self._onset = 0
        return SpeechPaused(self.silence_frames)

    def _begin(self) -> SpeechStarted | SpeechResumed:
        resumed = self._state is _State.PAUSED
        frames = self._onset
        self._state = _State.SPEAKING
        self._onset = self.silence_frames = 0
        self.speech_frames += frames
        return SpeechResumed(frames) if resumed else SpeechStarted(frames)
