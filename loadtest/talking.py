"""Callers who take turns: one who answers, one who interrupts, one who types.

They know nothing of the server's text, only what they hear and when. Between their words they send
the tone of the room.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from loadtest.behaviour import Behaviour
from loadtest.clips import SPEECH_END_DB, Clip, noise
from loadtest.ear import Ear
from loadtest.material import ROOM_TONE_DBFS, Frames, encode_frames
from loadtest.schedule import FRAME_NS, NS_PER_MS, NS_PER_SECOND
from loadtest.wires import Wire

#: Pauses that people make inside a sentence.
PAUSES_MS = (400, 600, 800, 1000)
#: Where a clip is torn: at the softest moment of its middle.
_MIDDLE = (0.3, 0.7)
_SOFT_MS = 20
#: Speech begins with the first block that is no softer than this beside the loudest.
ONSET_DB = -25.0
#: A longer silence is the end of a sentence.
_WORDS_APART_MS_MAX = 160

GREETING_QUIET_NS = 700 * NS_PER_MS
GREETING_WAIT_NS = 15 * NS_PER_SECOND
REPLY_QUIET_NS = 1500 * NS_PER_MS
REPLY_WAIT_NS = 20 * NS_PER_SECOND
CLEAR_WAIT_NS = 3 * NS_PER_SECOND
#: Whoever has less than this left to say when the caller begins need not notice it.
INTERRUPTIBLE_NS = 400 * NS_PER_MS
KEY_FRAMES = 10


@dataclass(frozen=True, slots=True)
class Saying:
    """What is said in one turn: from where to where in it there is speech, and a pause inside."""

    frames: Frames
    begin_ns: int
    end_ns: int
    pause_ms: int = 0
    pause_at_ns: int = 0


def whole(clip: Clip, wire: Wire) -> Saying:
    """A clip as it is."""
    end_ns = _ns(clip.speech_end, clip)
    return Saying(encode_frames(clip.samples, wire), _ns(_onset(clip), clip), end_ns)


def _onset(clip: Clip) -> int:
    """Where speech begins: what the microphone hears before it in a room is 30 dB softer."""
    size = _SOFT_MS * clip.rate // 1000
    blocks = np.resize(clip.samples, (max(1, len(clip.samples) // size), size))
    power = (blocks**2).mean(axis=1)
    return int(np.argmax(power >= power.max() * 10 ** (ONSET_DB / 10))) * size


def torn(clip: Clip, pause_ms: int, wire: Wire, seed: int) -> Saying:
    """A clip with a pause of the room's tone inside."""
    at = _softest(clip)
    pause = noise(pause_ms * clip.rate // 1000, clip.rate, ROOM_TONE_DBFS, seed)
    samples = np.concatenate([clip.samples[:at], pause, clip.samples[at:]])
    spoken = whole(Clip(clip.name, clip.rate, samples), wire)
    return Saying(spoken.frames, spoken.begin_ns, spoken.end_ns, pause_ms, _ns(at, clip))


def _softest(clip: Clip) -> int:
    """A soft moment in the middle that is no pause: between two words of a sentence."""
    size = _SOFT_MS * clip.rate // 1000
    count = clip.speech_end // size
    power = (clip.samples[: count * size].reshape(-1, size) ** 2).mean(axis=1)
    silent = np.concatenate([[False], power < _loud(clip) ** 2, [False]])
    edges = np.flatnonzero(np.diff(silent.astype(np.int8)))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if end - begin > _WORDS_APART_MS_MAX // _SOFT_MS:
            power[begin:end] = np.inf
    first, last = (int(share * count) for share in _MIDDLE)
    return (first + int(np.argmin(power[first : max(last, first + 1)]))) * size + size // 2


def _loud(clip: Clip) -> float:
    return float(np.abs(clip.samples).max()) * 10 ** (SPEECH_END_DB / 20)


def _ns(samples: int, clip: Clip) -> int:
    return samples * NS_PER_SECOND // clip.rate


class Turn(Enum):
    """What the caller is doing."""

    GREETED = 0
    SPEAKING = 1
    ANSWERED = 2


class Talker(Behaviour):
    """A question, its answer, the next question.

    GREETED: until the assistant has been silent for 700 ms after its first speech, or for 15 s.
    SPEAKING: the clip. ANSWERED: until the assistant has spoken and been silent for 1.5 s, or has
    said nothing for 20 s.
    """

    listens = True

    def __init__(self, sayings: Sequence[Saying], room: Frames, ear: Ear) -> None:
        """``sayings``: what is said, turn by turn."""
        assert sayings
        self._sayings = sayings
        self._room = room
        self._ear = ear
        self._turn = Turn.GREETED
        self._began_ns: int | None = None
        self._at = 0
        self._said = 0
        self._speech_end_ns = 0
        self._pause_ns = 0
        self._cut_in = False
        self._responses: list[int] = []
        self._cut_offs: list[tuple[int, bool]] = []
        self._unanswered = False

    @override
    def payload(self, frame: int, due_ns: int) -> bytes | None:
        """The next frame of the clip, of the room's tone, or None at the end."""
        if self._began_ns is None:
            self._began_ns = due_ns
        if self._turn is Turn.GREETED and self._greeting_over(due_ns):
            self._begin(due_ns)
        if self._turn is Turn.ANSWERED and self._reply_over(due_ns):
            self._note()
            self._at += 1
            if self._at == len(self._sayings) or self._unanswered:
                return None
            self._begin(due_ns)
        if self._turn is Turn.SPEAKING:
            return self._speak()
        return self._room.payloads[frame % len(self._room)]

    @override
    def hear(self, start_ns: int, samples: NDArray[np.int16]) -> None:
        """Listen; who hears the assistant before they have finished was cut off."""
        onsets = len(self._ear.onsets_ns)
        self._ear.hear(start_ns, samples)
        if self._turn is Turn.SPEAKING and len(self._ear.onsets_ns) > onsets:
            onset = self._ear.onsets_ns[-1]
            self._cut_in |= self._pause_ns <= onset < self._speech_end_ns

    @override
    def cut(self, now_ns: int) -> None:
        """The assistant was silenced."""
        self._ear.cut(now_ns)

    @override
    def responses_ns(self) -> list[int]:
        """One delay for each turn that was answered when it was over."""
        return self._responses

    @override
    def cut_offs(self) -> list[tuple[int, bool]]:
        """The turns with a pause inside."""
        return self._cut_offs

    @override
    def unanswered(self) -> bool:
        """Whether no speech came after the caller's."""
        return self._unanswered or not (self._responses or self._cut_offs)

    def _begin(self, due_ns: int) -> None:
        saying = self._sayings[self._at]
        self._turn, self._said, self._cut_in = Turn.SPEAKING, 0, False
        # A frame carries the 20 ms that end when it is due.
        self._speech_end_ns = due_ns - FRAME_NS + saying.end_ns
        self._pause_ns = due_ns - FRAME_NS + saying.pause_at_ns

    def _speak(self) -> bytes:
        frames = self._sayings[self._at].frames
        payload = frames.payloads[self._said]
        self._said += 1
        if self._said == len(frames):
            self._turn = Turn.ANSWERED
        return payload

    def _note(self) -> None:
        saying, answer_ns = self._sayings[self._at], self._answer_ns()
        if saying.pause_ms:
            self._cut_offs.append((saying.pause_ms, self._cut_in))
        elif answer_ns is not None:
            self._responses.append(answer_ns - self._speech_end_ns)
        self._unanswered |= answer_ns is None and not self._cut_in

    def _answer_ns(self) -> int | None:
        return self._ear.first_onset_after(self._speech_end_ns)

    def _greeting_over(self, now_ns: int) -> bool:
        assert self._began_ns is not None
        return _silent(self._ear, now_ns, GREETING_QUIET_NS) or (
            now_ns - self._began_ns >= GREETING_WAIT_NS
        )

    def _reply_over(self, now_ns: int) -> bool:
        if self._answer_ns() is None:
            wait_ns = REPLY_QUIET_NS * 2 if self._cut_in else REPLY_WAIT_NS
            return now_ns - self._speech_end_ns >= wait_ns
        return _silent(self._ear, now_ns, REPLY_QUIET_NS)


def _silent(ear: Ear, now_ns: int, for_ns: int) -> bool:
    """Whether the assistant has spoken and been silent since for so long."""
    end = ear.speech_end_ns
    return end is not None and now_ns - end >= for_ns


class _Impatient(Behaviour):
    """Somebody who does not wait until the assistant has finished."""

    listens = True

    def __init__(self, room: Frames, ear: Ear, wait_ns: int, times: int) -> None:
        self._room = room
        self._ear = ear
        self._wait_ns = wait_ns
        self._left = times
        self._onset_ns: int | None = None  # of the interruption that was not noticed yet
        #: When we were heard last, or began to listen.
        self._idle_ns = 0
        self._barge_ins: list[int] = []
        self._missed = 0
        self._too_late = 0

    @override
    def hear(self, start_ns: int, samples: NDArray[np.int16]) -> None:
        """Listen."""
        self._ear.hear(start_ns, samples)

    @override
    def cut(self, now_ns: int) -> None:
        """The assistant was silenced: by us, if we have begun."""
        self._ear.cut(now_ns)
        if self._onset_ns is not None and now_ns >= self._onset_ns:
            self._barge_ins.append(now_ns - self._onset_ns)
            self._onset_ns = None

    @override
    def barge_ins_ns(self) -> list[int]:
        """One delay for each interruption that was noticed."""
        return self._barge_ins

    @override
    def too_late(self) -> int:
        """Interruptions that began just before the assistant had finished."""
        return self._too_late

    @override
    def content(self) -> bool:
        """Whether at least one interruption was noticed and measured."""
        return bool(self._barge_ins)

    @override
    def unanswered(self) -> bool:
        """Whether an interruption changed nothing, or there was nothing to interrupt."""
        return self._missed > 0 or not self._barge_ins

    def _may_interrupt(self, now_ns: int) -> bool:
        """Whether the assistant has been speaking for long enough since we did, and still is."""
        onset, end = self._ear.first_onset_after(self._idle_ns), self._ear.speech_end_ns
        if onset is None or end is None:
            return False
        return now_ns - onset >= self._wait_ns and end > now_ns

    def _given_up(self, now_ns: int) -> bool:
        """Whether nothing has happened for too long."""
        if self._onset_ns is not None and now_ns - self._onset_ns > CLEAR_WAIT_NS:
            left_ns = self._ear.speaks_until(self._onset_ns) - self._onset_ns
            self._too_late += left_ns < INTERRUPTIBLE_NS
            self._missed += left_ns >= INTERRUPTIBLE_NS
            self._onset_ns = None
        end = self._ear.speech_end_ns
        since = max(self._idle_ns, end or 0)
        return now_ns - since > REPLY_WAIT_NS


class Interrupter(_Impatient):
    """Begins to speak when the assistant has spoken for a while, again and again."""

    def __init__(self, sayings: Sequence[Saying], room: Frames, ear: Ear, wait_ns: int) -> None:
        """``wait_ns``: how long the assistant may speak."""
        super().__init__(room, ear, wait_ns, len(sayings))
        self._sayings = sayings
        self._said = 0

    @override
    def payload(self, frame: int, due_ns: int) -> bytes | None:
        """The next frame of the clip, of the room's tone, or None at the end."""
        self._idle_ns = self._idle_ns or due_ns
        if self._given_up(due_ns):
            return None
        if not self._said:
            pending = self._onset_ns is not None  # its outcome is waited for
            if not self._left and not pending:
                return None
            if pending or not self._may_interrupt(due_ns):
                return self._room.payloads[frame % len(self._room)]
            self._onset_ns = due_ns - FRAME_NS + self._sayings[-self._left].begin_ns
        payloads = self._sayings[-self._left].frames.payloads
        payload = payloads[self._said]
        self._said += 1
        if self._said == len(payloads):
            self._said, self._left = 0, self._left - 1
            self._idle_ns = due_ns
        return payload


class Typist(_Impatient):
    """Types when the assistant has spoken for a second, and waits for the answer; three times."""

    def __init__(self, keys: str, room: Frames, ear: Ear) -> None:
        """``keys``: one entry."""
        super().__init__(room, ear, NS_PER_SECOND, 3)
        self._entry = keys
        self._typed = 0
        self._pressed = ""
        self._pause = 0
        self._ended_ns: int | None = None
        self._responses: list[int] = []

    @override
    def payload(self, frame: int, due_ns: int) -> bytes | None:
        """The room's tone, or None at the end; keys as a side effect."""
        self._idle_ns = self._idle_ns or due_ns
        self._answer()
        over = not self._left and self._ended_ns is None
        if over or self._given_up(due_ns):
            return None
        self._pause = max(0, self._pause - 1)
        begins = not self._typed and self._left and self._ended_ns is None
        if self._pause == 0 and (self._typed or (begins and self._may_interrupt(due_ns))):
            self._press(due_ns)
        return self._room.payloads[frame % len(self._room)]

    @override
    def pressed(self) -> str:
        """The key that is pressed now."""
        pressed, self._pressed = self._pressed, ""
        return pressed

    @override
    def responses_ns(self) -> list[int]:
        """From the last key of an entry to the answer."""
        return self._responses

    def _press(self, due_ns: int) -> None:
        if not self._typed:
            self._onset_ns = due_ns
        self._pressed = self._entry[self._typed]
        self._typed += 1
        self._pause = KEY_FRAMES
        if self._typed == len(self._entry):
            self._typed, self._left = 0, self._left - 1
            self._ended_ns = self._idle_ns = due_ns

    def _answer(self) -> None:
        if self._ended_ns is not None:
            answer = self._ear.first_onset_after(self._ended_ns)
            if answer is not None:
                self._responses.append(answer - self._ended_ns)
                self._ended_ns = None
