"""One call: what belongs together and must die together. Wiring and life cycle, no decisions.

A session owns a leased line (its slot in the rings), a player (what the caller hears) and a
conversation (what happens in between). Carrier events come in through ``audio``, ``digit`` and
``mark``; what the DSP process made through ``heard`` and ``pump``; the end, whoever wants it,
through ``close``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from audio.format import FRAME_MS
from gateway import clock
from gateway.bridge import Bridge, Line
from gateway.ledger import Ledger
from gateway.limits import CALLER_BACKLOG_MS_MAX
from gateway.player import Player
from gateway.responders.base import Conversation
from gateway.wire.events import StreamStarted
from supervisor.scoreboard import Row

_BACKLOG_FRAMES_MAX = CALLER_BACKLOG_MS_MAX // FRAME_MS


@dataclass(frozen=True, slots=True)
class SessionParts:
    """What a session is put together from."""

    bridge: Bridge
    line: Line
    player: Player
    conversation: Conversation
    ledger: Ledger
    row: Row


class Session:
    """One call's life."""

    def __init__(self, started: StreamStarted, parts: SessionParts) -> None:
        self.stream_id = started.stream_id
        self.call_id = started.call_id
        self.language_hint = started.language_hint
        self.conversation_id = ""
        self.created_at_ms = self.last_activity_at_ms = clock.wall_ms()
        self.frames_in = 0
        self._parts = parts
        self._line = parts.line
        self.slot = parts.line.slot
        self._frame_bytes = parts.line.frame_bytes
        # Bound once: these are called for every frame.
        self._push = parts.line.push_caller
        self._hear = parts.conversation.hear
        #: Assistant frames were encoded, or time has passed: send what is due at this time (ns).
        self.pump = parts.player.pump
        self._player = parts.player
        self._conversation = parts.conversation
        self._rest = b""
        self._backlog: deque[tuple[bytes, int]] = deque()
        self._ended = False
        self._reported = (0, 0, 0, parts.line.stale, parts.line.damage)
        self._player.on_heard = parts.conversation.heard_all

    def start(self) -> None:
        """Begin the conversation."""
        self._conversation.start()

    # What the carrier says

    def audio(self, payload: bytes, timestamp_ms: int) -> None:
        """Take encoded caller audio of any length; frames are cut here."""
        size = self._frame_bytes
        if len(payload) == size and not self._rest and not self._backlog:
            self.frames_in += 1
            if not self._push(payload, timestamp_ms):
                self._keep(payload, timestamp_ms)
            return
        data = self._rest + payload
        whole = len(data) - len(data) % size
        for n, at in enumerate(range(0, whole, size)):
            self._frame(data[at : at + size], timestamp_ms + n * FRAME_MS)
        self._rest = data[whole:]

    def digit(self, digit: str) -> None:
        """The caller pressed a key."""
        self.last_activity_at_ms = clock.wall_ms()
        self._conversation.digit(digit)

    def mark(self, name: str) -> None:
        """The carrier played up to a mark."""
        self._player.acknowledged(name)

    # What the DSP process made of it

    def heard(self) -> None:
        """The DSP process has turned caller frames into results."""
        pop = self._line.pop_heard
        while (frame := pop()) is not None:
            self._hear(*frame)
        if self._backlog:
            self._flush_backlog()

    @property
    def waits_for_time(self) -> bool:
        """Whether only the passing of time lets the player go on."""
        return self._player.waits_for_time

    def report(self) -> None:
        """Add what was counted since the last report to the board, and note whether audio came."""
        line, player = self._line, self._player
        now = (self.frames_in, player.frames_out, player.gaps, line.stale, line.check())
        names = ("frames_in", "frames_out", "playout_gaps", "frames_stale", "rings_damaged")
        if self.frames_in != self._reported[0]:
            self.last_activity_at_ms = clock.wall_ms()
        for name, value, before in zip(names, now, self._reported, strict=True):
            if value != before:
                self._parts.row.count(name, value - before)
        self._reported = now

    # The end

    def close(self, reason: str) -> None:
        """End the call: give the slot back at once, let the conversation store what it has."""
        if self._ended:
            return
        self._ended = True
        self.report()
        parts = self._parts
        self._player.close()
        parts.bridge.release(self._line)
        self._backlog.clear()
        parts.ledger.ended(reason, self.frames_in, self._player.frames_out)

    async def finish(self) -> None:
        """Stop the conversation and let it store what it knows; after ``close``."""
        await self._conversation.aclose()

    def _frame(self, frame: bytes, timestamp_ms: int) -> None:
        self.frames_in += 1
        if self._backlog or not self._push(frame, timestamp_ms):
            self._keep(frame, timestamp_ms)

    def _keep(self, frame: bytes, timestamp_ms: int) -> None:
        if len(self._backlog) < _BACKLOG_FRAMES_MAX:
            self._backlog.append((frame, timestamp_ms))
        else:
            self._parts.row.count("caller_frames_dropped")

    def _flush_backlog(self) -> None:
        while self._backlog and self._push(*self._backlog[0]):
            self._backlog.popleft()
