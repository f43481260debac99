"""One call's outgoing audio: PCM goes in, paced messages and marks go out to the carrier.

The shell around the pure pacer and marks. Whoever speaks feeds PCM of any length; it is cut into
frames and pushed into the assistant ring, waiting while the ring is full. ``pump`` is called when
the DSP process has encoded something and on each tick of the worker: it sends what is due.

Counted in frames of the present epoch: ``fed`` (given to the DSP process) and ``sent`` (given to
the carrier). A mark goes out when the frame it stands behind has been sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from audio.format import FRAME_MS, TTS_FRAME_BYTES
from gateway.bridge import Line
from gateway.playout.marks import Marks
from gateway.playout.pacer import Pacer
from gateway.wire.base import Wire


class Player:
    """Feeds, paces and marks the assistant's audio of one call."""

    def __init__(
        self, line: Line, wire: Wire, stream_id: str, send: Callable[[bytes], None]
    ) -> None:
        self._line = line
        self._wire = wire
        self._stream_id = stream_id
        self._send = send
        self._pacer = Pacer()
        self._marks = Marks()
        self._room = asyncio.Event()
        self._full = False
        self._waiting = line.assistant_waiting
        self._rest = b""
        self._fed = 0
        self._sent = 0
        self._clause_ends: deque[int] = deque()
        self._ending = False
        self._closed = False
        self.frames_out = 0
        #: Called once for each utterance, when the caller has heard all of it.
        self.on_heard: Callable[[], None] = _nothing

    # The speaker's side

    async def feed(self, pcm: bytes) -> None:
        """Take 24 kHz PCM16 of any length; waits while the ring is full."""
        data = self._rest + pcm if self._rest else pcm
        whole = len(data) - len(data) % TTS_FRAME_BYTES
        view = memoryview(data)
        for at in range(0, whole, TTS_FRAME_BYTES):
            while not self.offer(view[at : at + TTS_FRAME_BYTES]):
                self._full = True
                self._room.clear()
                await self._room.wait()
        self._rest = data[whole:]

    def offer(self, frame: bytes | memoryview) -> bool:
        """Push one frame of PCM16 (16 or 24 kHz) at once; False when the ring is full."""
        if self._closed:
            return True  # nobody will hear it, and the slot may be another call's by now
        if not self._line.push_assistant(frame):
            return False
        self._fed += 1
        return True

    async def end_clause(self) -> None:
        """Everything fed so far is one clause: complete its last frame and mark its end."""
        if self._rest:
            await self.feed(bytes(TTS_FRAME_BYTES - len(self._rest)))
        if self._fed and (not self._clause_ends or self._clause_ends[-1] != self._fed):
            self._clause_ends.append(self._fed)

    def end_utterance(self) -> None:
        """Nothing more follows: ``on_heard`` is called when all of it was heard."""
        self._ending = True

    # The carrier's side

    def pump(self, now_ns: int) -> None:
        """Send what is due now; cheap when nothing is."""
        waiting = self._waiting()
        if waiting:
            self._send_due(waiting, now_ns)
        if self._ending:
            self._finish(now_ns)
        if self._full and self._line.assistant_room:
            self._full = False
            self._room.set()

    def acknowledged(self, name: str) -> None:
        """The carrier played everything before a mark."""
        self._marks.acknowledged(name)

    def cut(self, now_ns: int) -> int:
        """Stop at once; returns how many milliseconds of this utterance were heard."""
        if self._closed:
            return 0  # the line may be another call's by now
        heard_ms = self._marks.clear(now_ns)
        if self._sent:
            self._send(self._wire.clear(self._stream_id))
        self._line.clear()
        self._pacer.clear(now_ns)
        self._rest = b""
        self._begin()
        return heard_ms

    @property
    def waits_for_time(self) -> bool:
        """Whether frames are held back by the lead, or the end of an utterance is awaited."""
        return self._ending or self._pacer.next_due_ns is not None

    def close(self) -> None:
        """The call is over: whoever still feeds is let go."""
        self._closed = True
        self._room.set()

    @property
    def fed_ms(self) -> int:
        """Audio fed in this utterance, in milliseconds."""
        return self._fed * FRAME_MS

    @property
    def gaps(self) -> int:
        """How often the carrier ran dry within an utterance."""
        return self._pacer.gaps

    def _begin(self) -> None:
        self._fed = self._sent = 0
        self._clause_ends.clear()
        self._ending = False
        self._room.set()

    def _send_due(self, waiting: int, now_ns: int) -> None:
        pacer, marks, pop = self._pacer, self._marks, self._line.pop_assistant
        while waiting > 0 and (count := pacer.frames_due(waiting, now_ns)):
            payload = pop()
            if payload is None:
                return  # only frames of an older epoch were waiting
            if count > 1:
                frames = [payload, *filter(None, (pop() for _ in range(count - 1)))]
                count, payload = len(frames), b"".join(frames)
            self._send(self._wire.media(self._stream_id, payload))
            pacer.sent(count, now_ns)
            marks.sent(count * FRAME_MS, now_ns, pacer.end_ns)
            self._sent += count
            self.frames_out += count
            waiting -= count
            if self._clause_ends or marks.due():
                self._place_mark()

    def _place_mark(self) -> None:
        clause_ended = False
        while self._clause_ends and self._clause_ends[0] <= self._sent:
            self._clause_ends.popleft()
            clause_ended = True
        if clause_ended or self._marks.due():
            self._send(self._wire.mark(self._stream_id, self._marks.place()))

    def _finish(self, now_ns: int) -> None:
        if self._sent < self._fed:
            return
        self._pacer.end_of_utterance()
        if self._marks.heard_ms(now_ns) >= self._fed * FRAME_MS:
            self._marks.clear(now_ns)
            self._begin()
            self.on_heard()


def _nothing() -> None:
    pass
