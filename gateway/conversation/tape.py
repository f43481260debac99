"""A reply as it is being spoken: its clauses, their audio, and how far the caller has heard. Pure.

Text-to-speech writes at the end, the player reads at a place that can be set back to the beginning
of a clause: that is how a reply goes on after a caller's "mhm". Audio that was heard is dropped
clause by clause; the texts stay, because what was heard of them is asked for at the end.

Positions are frames of 20 ms since the reply's beginning. A clause is a whole number of them. What
is silent before the reply's first sound is left out: the caller waits for it.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

import numpy as np

from audio.format import FRAME_MS, TTS_FRAME_BYTES, WIRE_RATE
from gateway.conversation.echo_guard import SILENCE_DBFS
from gateway.conversation.history import heard_part
from gateway.conversation.onset import silence_before
from gateway.limits import SILENT_START_MS_MAX

#: One reading: small, so that a place in the reply is known to 100 ms.
PIECE_FRAMES = 5
#: How long a character is taken to be spoken, while a clause is not complete.
_MS_PER_CHAR = 60
_SILENCE_BYTES_MAX = SILENT_START_MS_MAX // FRAME_MS * TTS_FRAME_BYTES
_SAMPLE_MAX = 32768.0


@dataclass(slots=True)
class Clause:
    """One clause. ``say`` numbers the text it is part of; -1 = a filler, no part of the reply."""

    text: str
    say: int
    pcm: bytearray = field(default_factory=bytearray)
    levels: array[float] = field(default_factory=lambda: array("f"))  # dBFS, one a frame
    complete: bool = False
    start: int = 0
    silence_max: int = 0  # bytes of silence that may still be left out before the first sound
    rate: int = WIRE_RATE  # of the carrier's encoding

    @property
    def frames(self) -> int:
        """Whole frames written."""
        return len(self.levels)

    def write(self, pcm: bytes) -> None:
        """Append 24 kHz PCM16, whole samples."""
        self.pcm += pcm
        if self.silence_max:
            self._leave_out()
        if not self.silence_max:
            self._measure()

    def end(self) -> None:
        """Nothing more follows: fill up the last frame with silence."""
        self.silence_max = 0
        if not self.complete:
            self.pcm += bytes(-len(self.pcm) % TTS_FRAME_BYTES)
            self._measure()
            self.complete = True

    def _leave_out(self) -> None:
        silent = 1
        while silent and self.silence_max:
            silent, begins = silence_before(self.pcm, self.rate)
            silent = min(silent, self.silence_max)
            del self.pcm[:silent]
            self.silence_max = 0 if begins else self.silence_max - silent

    def _measure(self) -> None:
        begin = self.frames * TTS_FRAME_BYTES
        end = len(self.pcm) - len(self.pcm) % TTS_FRAME_BYTES
        if end > begin:
            samples = np.frombuffer(bytes(self.pcm[begin:end]), "<i2").astype(np.float32)
            power = (samples.reshape(-1, TTS_FRAME_BYTES // 2) ** 2).mean(axis=1)
            level = np.maximum(np.sqrt(power) / _SAMPLE_MAX, 10 ** (SILENCE_DBFS / 20))
            self.levels.extend((20 * np.log10(level)).tolist())


@dataclass(frozen=True, slots=True)
class Piece:
    """What is to be played next; ``ends``: the clause is complete with it."""

    pcm: bytes
    frames: int
    ends: bool
    say: int


class Tape:
    """One reply."""

    __slots__ = ("_clauses", "_done", "_rate", "_says", "reading")

    def __init__(self, rate: int = WIRE_RATE) -> None:
        """``rate``: of the carrier's encoding."""
        self._rate = rate
        self._clauses: list[Clause] = []
        self._says: list[str] = []
        self._done = 0  # frames read of the clause that is being read
        #: Index of the clause that is being read.
        self.reading = 0

    def say(self, text: str) -> int:
        """A text of the reply, whose clauses follow; returns its number."""
        self._says.append(text)
        return len(self._says) - 1

    def begin(self, text: str, say: int) -> Clause:
        """A clause begins, behind all others."""
        silence_max = 0 if self._clauses else _SILENCE_BYTES_MAX
        clause = Clause(text, say, silence_max=silence_max, rate=self._rate)
        if self._clauses and self.reading == len(self._clauses):  # all before it was read
            clause.start = self._clauses[-1].start + self._clauses[-1].frames
        self._clauses.append(clause)
        return clause

    @property
    def written(self) -> int:
        """How many clauses have begun."""
        return len(self._clauses)

    @property
    def all_read(self) -> bool:
        """Whether every clause that has begun was read to its end."""
        return self.reading == len(self._clauses)

    @property
    def readable(self) -> bool:
        """Whether there is a next piece."""
        clause = self._current()
        return clause is not None and (clause.complete or clause.frames > self._done)

    def text(self, say: int) -> str:
        """The whole text of that number."""
        return self._says[say]

    def unread_ms(self, clause: Clause) -> int:
        """Audio of a clause that waits to be read."""
        read = self._done if clause is self._current() else 0
        return (clause.frames - read) * FRAME_MS

    def read(self) -> Piece | None:
        """The next piece; None when nothing is there (yet)."""
        clause = self._current()
        if clause is None or not self.readable:
            return None
        frames = min(PIECE_FRAMES, clause.frames - self._done)
        ends = clause.complete and self._done + frames == clause.frames
        begin = self._done * TTS_FRAME_BYTES
        pcm = bytes(clause.pcm[begin : begin + frames * TTS_FRAME_BYTES])
        self._done += frames
        if ends:
            self._next(clause)
        return Piece(pcm, frames, ends, clause.say)

    def rewind(self, heard: int) -> int:
        """Read on from the beginning of the clause in which ``heard`` is; returns where that is."""
        at = self._at(heard)
        self.reading, self._done = at, 0
        return self._clauses[at].start if self._clauses else 0

    def drop(self, heard: int) -> None:
        """Forget the audio of clauses that were heard; their texts and lengths stay."""
        for clause in self._clauses[: self._at(heard)]:
            clause.pcm = bytearray()

    def starts(self, say: int) -> int | None:
        """The position at which a text begins; None while that is not known."""
        for index, clause in enumerate(self._clauses[: self.reading + 1]):
            if clause.say == say:
                return self._clauses[index].start
        return None

    def is_last(self, heard: int) -> bool:
        """Whether ``heard`` is in the last clause that was begun."""
        return self._at(heard) == len(self._clauses) - 1

    def level(self, position: int) -> float:
        """How loud the frame at ``position`` is, in dBFS."""
        if not self._clauses:
            return SILENCE_DBFS
        clause = self._clauses[self._at(position)]
        frame = position - clause.start
        return clause.levels[frame] if 0 <= frame < clause.frames else SILENCE_DBFS

    def heard(self, position: int, say: int | None = None) -> str:
        """The whole words that were heard, of all texts or of one."""
        parts: list[str] = []
        for index, clause in enumerate(self._clauses[: self.reading + 1]):
            unspoken = clause.say < 0 or (clause.complete and not clause.frames)
            if unspoken or (say is not None and clause.say != say):
                continue
            part = self._heard_of(index, clause, position)
            if part:
                parts.append(part)
            if part != clause.text:
                break
        return " ".join(parts)

    def _heard_of(self, index: int, clause: Clause, position: int) -> str:
        read_to_end = clause.complete and index <= self.reading
        total_ms = clause.frames * FRAME_MS
        if not read_to_end:
            total_ms = max(total_ms, len(clause.text) * _MS_PER_CHAR)
        return heard_part(clause.text, (position - clause.start) * FRAME_MS, total_ms)

    def _current(self) -> Clause | None:
        return self._clauses[self.reading] if self.reading < len(self._clauses) else None

    def _next(self, clause: Clause) -> None:
        self.reading, self._done = self.reading + 1, 0
        following = self._current()
        if following is not None:
            following.start = clause.start + clause.frames

    def _at(self, position: int) -> int:
        """Index of the clause that ``position`` is in, of those that were read."""
        last = min(self.reading, len(self._clauses) - 1)
        for index in range(last, 0, -1):
            if self._clauses[index].start <= position and self._clauses[index].frames:
                return index
        return 0
