"""What simulated callers do. One class a scenario; the table at the end is the command's choice.

A scenario is made once in each client process (it loads and encodes the material) and makes a
``Behaviour`` for each call. A behaviour is pure: asked for the payload of each frame that is due,
told what is heard and when. It never sees the socket or the clock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from typing_extensions import override

from loadtest.behaviour import Behaviour as Behaviour
from loadtest.clips import load_clips
from loadtest.ear import Ear
from loadtest.identify import Reference
from loadtest.material import Frames, conversation_loop, encode_frames, room_tone
from loadtest.schedule import FRAMES_PER_SECOND, NS_PER_MS, CallPlan
from loadtest.talking import PAUSES_MS, Interrupter, Saying, Talker, Typist, torn, whole
from loadtest.wires import Wire


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
    """The caller hears the greeting, says clips and hears the answers, then hangs up.

    Call ``i`` begins with clip ``i``, in the order of their file names. Each other clip has a pause
    inside: nobody should be taken to have finished there. Two calls have a pause of each length.
    """

    seconds = 120.0
    TURNS = 5

    def __init__(self, wire: Wire, audio: Path, seed: int) -> None:
        """The clips, whole and with pauses, and the tone of the caller's room."""
        self._frame_samples = wire.frame_samples
        clips = load_clips(audio, wire.rate)
        self._whole = [whole(clip, wire) for clip in clips]
        self._torn = {
            pause_ms: [torn(clip, pause_ms, wire, seed) for clip in clips] for pause_ms in PAUSES_MS
        }
        self._room = room_tone(wire, seed)

    @override
    def behaviour(self, plan: CallPlan) -> Behaviour:
        """The caller who begins with the call's clip."""
        sayings = [self._saying(plan, turn) for turn in range(self.TURNS)]
        return Talker(sayings, self._room, Ear(self._frame_samples))

    def _saying(self, plan: CallPlan, turn: int) -> Saying:
        at = plan.index
        if turn % 2 == 0:
            return self._whole[(at + turn) % len(self._whole)]
        pause_ms = PAUSES_MS[(at * (self.TURNS // 2) + turn // 2) % len(PAUSES_MS)]
        clips = self._torn[pause_ms]
        return clips[(self.TURNS * at + turn + plan.material) % len(clips)]


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


class BargeInScenario(Scenario):
    """The caller interrupts the assistant, in the midst of what it says, some times."""

    seconds = 90.0

    def __init__(self, wire: Wire, audio: Path, seed: int) -> None:
        """The clips, and the tone of the caller's room."""
        self._frame_samples = wire.frame_samples
        self._sayings = [whole(clip, wire) for clip in load_clips(audio, wire.rate)]
        self._room = room_tone(wire, seed)

    @override
    def behaviour(self, plan: CallPlan) -> Behaviour:
        """A caller who interrupts with one clip after the other, beginning with the call's."""
        at = plan.index
        sayings = [self._sayings[(at + n) % len(self._sayings)] for n in range(4)]
        wait_ns = (800 + plan.material % 1_200) * NS_PER_MS
        return Interrupter(sayings, self._room, Ear(self._frame_samples), wait_ns)


class KeypadScenario(Scenario):
    """The caller types a number over the assistant's question, some times."""

    seconds = 60.0

    def __init__(self, wire: Wire, audio: Path, seed: int) -> None:
        """The tone of the caller's room; a caller who types says nothing."""
        del audio
        self._frame_samples = wire.frame_samples
        self._room = room_tone(wire, seed)

    @override
    def behaviour(self, plan: CallPlan) -> Behaviour:
        """A caller who types."""
        return Typist("5551234567#", self._room, Ear(self._frame_samples))


SCENARIOS: dict[str, type[Scenario]] = {
    "echo": EchoScenario,
    "phone": PhoneScenario,
    "talk": TalkScenario,
    "turns": TurnsScenario,
    "bargein": BargeInScenario,
    "dtmf": KeypadScenario,
}
