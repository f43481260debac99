"""What simulated callers do. One class a scenario; the table at the end is the command's choice.

A scenario is made once in each client process (it loads and encodes the material) and makes a
``Behaviour`` for each call. A behaviour is pure: asked for the payload of each frame that is due,
told what is heard and when. It never sees the socket or the clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from loadtest.clips import load_clips
from loadtest.ear import Ear
from loadtest.identify import Reference
from loadtest.material import Frames, conversation_loop, encode_frames, room_tone
from loadtest.schedule import FRAME_NS, FRAMES_PER_SECOND, NS_PER_MS, NS_PER_SECOND, CallPlan
from loadtest.wires import Wire


class Behaviour(ABC):
    """One caller's part: what to say in each frame."""

    #: Whether ``hear`` and ``cut`` want to be called.
    listens: ClassVar[bool] = False

    @abstractmethod
    def payload(self, frame: int, due_ns: int) -> bytes | None:
        """Base64 payload of frame number ``frame``, due now; None when the caller hangs up."""

    def hear(self, start_ns: int, samples: NDArray[np.int16]) -> None:
        """The caller hears ``samples`` from ``start_ns`` on."""
        assert not self.listens, "whoever listens says what to do with it"

    def cut(self, now_ns: int) -> None:
        """The server cleared what was queued."""
        assert not self.listens, "whoever listens says what to do with it"

    def responses_ns(self) -> list[int]:
        """Delays from the end of the caller's speech to the assistant's first audio after it."""
        return []

    def unanswered(self) -> bool:
        """Whether the caller spoke (or waited to) in vain."""
        return False


class Scenario(ABC):
    """Material and cast of a run; made from the wire, the audio and the seed."""

    #: How long calls last when the command does not say; an upper limit where callers hang up.
    seconds: ClassVar[float]
    #: Whether the server is to return all the caller's audio.
    echoes: ClassVar[bool] = False
    #: Whether the assistant speaks in a rhythm of its own, whatever the caller says.
    recites: ClassVar[bool] = False
    #: What the frames that return are told by.
    reference: Reference | None = None

    @abstractmethod
    def __init__(self, wire: Wire, audio: Path, seed: int) -> None:
        """Load and encode the material; raises UsageError."""

    @abstractmethod
    def behaviour(self, plan: CallPlan) -> Behaviour:
        """The caller of one call."""

    def offset(self, plan: CallPlan) -> int:
        """Where in the reference the call begins."""
        return plan.material % self.reference.frames if self.reference else 0


class EchoScenario(Scenario):
    """The server returns the caller's audio; every frame is told when it comes back."""

    seconds = 10.0
    echoes = True

    def __init__(self, wire: Wire, audio: Path, seed: int) -> None:
        """The loop of all clips and pauses."""
        self._loop = conversation_loop(load_clips(audio, wire.rate), wire, seed)
        self.reference = Reference(self._loop.samples)

    @override
    def behaviour(self, plan: CallPlan) -> Behaviour:
        """A caller who reads the loop from the call's own place."""
        return _Reader(self._loop, self.offset(plan))


class PhoneScenario(Scenario):
    """A telephone call's load: both parties speak half of the time, neither listens.

    The caller sends the same as in an echo. What comes back is the server's own (its responder is
    to recite), so it is judged by the carrier's playout buffer alone.
    """

    seconds = 30.0
    recites = True

    def __init__(self, wire: Wire, audio: Path, seed: int) -> None:
        """The loop of all clips and pauses."""
        self._loop = conversation_loop(load_clips(audio, wire.rate), wire, seed)

    @override
    def behaviour(self, plan: CallPlan) -> Behaviour:
        """A caller who reads the loop from the call's own place."""
        return _Reader(self._loop, plan.material % len(self._loop))


class _Reader(Behaviour):
    def __init__(self, loop: Frames, offset: int) -> None:
        self._payloads = loop.payloads
        self._offset = offset

    @override
    def payload(self, frame: int, due_ns: int) -> bytes | None:
        return self._payloads[(self._offset + frame) % len(self._payloads)]


class TalkScenario(Scenario):
    """The caller hears the greeting, says one clip, hears the reply out and hangs up.

    Call ``i`` plays clip ``i`` modulo their number, in the order of their file names.
    """

    seconds = 60.0

    def __init__(self, wire: Wire, audio: Path, seed: int) -> None:
        """The clips and the tone of the caller's room."""
        self._frame_samples = wire.frame_samples
        self._clips = [
            (encode_frames(clip.samples, wire), clip.speech_end * NS_PER_SECOND // wire.rate)
            for clip in load_clips(audio, wire.rate)
        ]
        self._room = room_tone(wire, seed)

    @override
    def behaviour(self, plan: CallPlan) -> Behaviour:
        """The caller who says the call's clip."""
        clip, speech_ns = self._clips[plan.index % len(self._clips)]
        return Talker(clip, speech_ns, self._room, Ear(self._frame_samples))


class TurnsScenario(Scenario):
    """Every caller says a clip each five seconds, from a phase of their own on, and never listens.

    A steady load of turns for whatever answers them: how long it takes is told by the server's own
    log, since a caller who does not wait may also speak over an answer.
    """

    seconds = 40.0

    PERIOD_FRAMES = 5 * FRAMES_PER_SECOND

    def __init__(self, wire: Wire, audio: Path, seed: int) -> None:
        """The clips that are short enough, and the tone of the callers' rooms."""
        clips = load_clips(audio, wire.rate)
        short = [clip for clip in clips if clip.samples.size * 2 <= 5 * wire.rate] or clips[:1]
        self._clips = [encode_frames(clip.samples, wire) for clip in short]
        self._room = room_tone(wire, seed)

    @override
    def behaviour(self, plan: CallPlan) -> Behaviour:
        """A caller with the call's clip and phase."""
        clip = self._clips[plan.index % len(self._clips)]
        return _Regular(clip, self._room, plan.material % self.PERIOD_FRAMES)


class _Regular(Behaviour):
    def __init__(self, clip: Frames, room: Frames, phase: int) -> None:
        self._clip = clip.payloads
        self._room = room.payloads
        self._phase = phase

    @override
    def payload(self, frame: int, due_ns: int) -> bytes | None:
        turn, at = divmod(frame - self._phase, TurnsScenario.PERIOD_FRAMES)
        if turn >= 1 and at < len(self._clip):  # the first period is the greeting's
            return self._clip[at]
        return self._room[frame % len(self._room)]


class Turn(Enum):
    """What the caller in a conversation is doing."""

    GREETED = 0
    SPEAKING = 1
    ANSWERED = 2


class Talker(Behaviour):
    """One question, one answer.

    GREETED: until the assistant has been silent for 700 ms after its first speech, or for 15 s.
    SPEAKING: the clip. ANSWERED: until the assistant has spoken and been silent for 1.5 s, or has
    said nothing for 20 s. Between its words the caller sends the tone of the room.
    """

    listens = True

    GREETING_QUIET_NS = 700 * NS_PER_MS
    GREETING_WAIT_NS = 15 * NS_PER_SECOND
    REPLY_QUIET_NS = 1500 * NS_PER_MS
    REPLY_WAIT_NS = 20 * NS_PER_SECOND

    def __init__(self, clip: Frames, speech_ns: int, room: Frames, ear: Ear) -> None:
        """``speech_ns``: from the beginning of the clip to the end of its speech."""
        assert len(clip) > 0
        self._clip = clip
        self._speech_ns = speech_ns
        self._room = room
        self._ear = ear
        self._turn = Turn.GREETED
        self._began_ns: int | None = None
        self._said = 0
        self.speech_end_ns: int | None = None

    @override
    def payload(self, frame: int, due_ns: int) -> bytes | None:
        """The next frame of the clip, of the room's tone, or None at the end."""
        if self._began_ns is None:
            self._began_ns = due_ns
        if self._turn is Turn.GREETED and self._greeting_over(due_ns):
            self._turn = Turn.SPEAKING
            # A frame carries the 20 ms that end when it is due.
            self.speech_end_ns = due_ns - FRAME_NS + self._speech_ns
        if self._turn is Turn.SPEAKING:
            return self._speak()
        if self._turn is Turn.ANSWERED and self._reply_over(due_ns):
            return None
        return self._room.payloads[frame % len(self._room)]

    @override
    def hear(self, start_ns: int, samples: NDArray[np.int16]) -> None:
        """Listen."""
        self._ear.hear(start_ns, samples)

    @override
    def cut(self, now_ns: int) -> None:
        """The assistant was silenced."""
        self._ear.cut(now_ns)

    @override
    def responses_ns(self) -> list[int]:
        """One delay, if the assistant answered."""
        answer = self._answer_ns()
        return [] if answer is None or self.speech_end_ns is None else [answer - self.speech_end_ns]

    @override
    def unanswered(self) -> bool:
        """Whether no speech came after the caller's."""
        return self._answer_ns() is None

    def _speak(self) -> bytes:
        payload = self._clip.payloads[self._said]
        self._said += 1
        if self._said == len(self._clip):
            self._turn = Turn.ANSWERED
        return payload

    def _answer_ns(self) -> int | None:
        if self.speech_end_ns is None:
            return None
        return self._ear.first_onset_after(self.speech_end_ns)

    def _greeting_over(self, now_ns: int) -> bool:
        assert self._began_ns is not None
        if now_ns - self._began_ns >= self.GREETING_WAIT_NS:
            return True
        end = self._ear.speech_end_ns
        return end is not None and now_ns - end >= self.GREETING_QUIET_NS

    def _reply_over(self, now_ns: int) -> bool:
        assert self.speech_end_ns is not None
        if self._answer_ns() is None:
            return now_ns - self.speech_end_ns >= self.REPLY_WAIT_NS
        end = self._ear.speech_end_ns
        return end is not None and now_ns - end >= self.REPLY_QUIET_NS


SCENARIOS: dict[str, type[Scenario]] = {
    "echo": EchoScenario,
    "phone": PhoneScenario,
    "talk": TalkScenario,
    "turns": TurnsScenario,
}
