"""One call: what belongs together and must die together. Wiring and life cycle, no decisions.

A session owns a leased line (its slot in the rings), a player (what the caller hears) and a
conversation (what happens in between). Carrier events come in through ``audio``, ``digit`` and
``mark``; what the DSP process made through ``hear`` and ``play``; the end, whoever wants it,
through ``close``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
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

    __slots__ = (
        "_conversation",
        "_ended",
        "_frame_bytes",
        "_hear_wire",
        "_line",
        "_parts",
        "_push",
        "_reported",
        "_rest",
        "backlog",
        "call_id",
        "created_at_ms",
        "frames_in",
        "hear",
        "language_hint",
        "last_activity_at_ms",
        "play",
        "player",
        "slot",
        "stream_id",
    )

    def __init__(self, started: StreamStarted, parts: SessionParts) -> None:
        self.stream_id = started.stream_id
        self.call_id = started.call_id
        self.language_hint = started.language_hint
        self.created_at_ms = self.last_activity_at_ms = clock.wall_ms()
        self.frames_in = 0
        self._parts = parts
        self._line = parts.line
        self.slot = parts.line.slot
        self._frame_bytes = parts.line.frame_bytes
        # Bound once: these are called for every frame.
        self._push = parts.line.push_caller
        #: A frame of the caller's: 16 kHz PCM16, speech probability, level.
        self.hear = parts.conversation.hear
        #: Wanted by a conversation that passes the carrier's audio on as it is.
        self._hear_wire: Callable[[bytes], None] | None
        self._hear_wire = getattr(parts.conversation, "hear_wire", None)
        #: An encoded frame of the assistant's, to be sent when it is due, and the time (ns).
        self.play = parts.player.play
        self.player = parts.player
        self._conversation = parts.conversation
        self._rest = b""
        #: Frames that came faster than real time and wait for room in the ring.
        self.backlog: deque[tuple[bytes, int]] = deque()
        self._ended = False
        self._reported = (0, 0, 0, parts.line.stale, parts.line.damage)
        self.player.on_heard = parts.conversation.heard_all

    @property
    def conversation_id(self) -> str:
        """Of the conversation that a backend keeps; "" when none does."""
        return self._parts.ledger.conversation_id

    def start(self) -> None:
        """Begin the conversation."""
        self._conversation.start()

    # What the carrier says

    def audio(self, payload: bytes, timestamp_ms: int) -> None:
        """Take encoded caller audio of any length; frames are cut here."""
        if self._hear_wire is not None:
            self._hear_wire(payload)
        size = self._frame_bytes
        if len(payload) == size and not self._rest and not self.backlog:
            self.frames_in += 1
            push = self._push
            if not push(payload, timestamp_ms):
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
        sent_ns = self.player.acknowledged(name)
        if sent_ns:
            waited_ms = (clock.now_ns() - sent_ns) // clock.NS_PER_MS
            self._parts.row.observe("mark_round_trip_ms", waited_ms)

    def report(self) -> None:
        """Add what was counted since the last report to the board, and note whether audio came."""
        line, player = self._line, self.player
        now = (self.frames_in, player.frames_out, player.gaps, line.stale, line.check())
        names = ("frames_in", "frames_out", "playout_gaps", "frames_stale", "rings_damaged")
        if self.frames_in != self._reported[0]:
            self.last_activity_at_ms = clock.wall_ms()
        for name, value, before in zip(names, now, self._reported, strict=True):
            if value != before:
                self._parts.row.count(name, value - before)
        self._reported = now

    # The end

    def say_goodbye(self) -> bool:
        """Have the caller told that the call ends now; False when nothing will be said."""
        return self._conversation.say_goodbye()

    def close(self, reason: str) -> None:
        """End the call: give the slot back at once, let the conversation store what it has."""
        if self._ended:
            return
        self._ended = True
        self.report()
        parts = self._parts
        self.player.close()
        parts.bridge.release(self._line)
        self.backlog.clear()
        parts.ledger.ended(reason, self.frames_in, self.player.frames_out)

    async def finish(self) -> None:
        """Stop the conversation and let it store what it knows; after ``close``."""
        await self._conversation.aclose()

    def _frame(self, frame: bytes, timestamp_ms: int) -> None:
        self.frames_in += 1
        if self.backlog or not self._push(frame, timestamp_ms):
            self._keep(frame, timestamp_ms)

    def _keep(self, frame: bytes, timestamp_ms: int) -> None:
        self._line.check()  # a ring that takes nothing is full, or damaged
        if len(self.backlog) < _BACKLOG_FRAMES_MAX:
            self.backlog.append((frame, timestamp_ms))
        else:
            self._parts.row.count("caller_frames_dropped")

    def flush_backlog(self) -> None:
        """Push frames that came faster than real time, as far as there is room now."""
        while self.backlog and self._push(*self.backlog[0]):
            self.backlog.popleft()
