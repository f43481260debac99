"""One call's outgoing audio: PCM goes in, paced messages and marks go out to the carrier.

The shell around the pure pacer and marks. Whoever speaks feeds PCM of any length; it is cut into
frames and pushed into the assistant ring, waiting while the ring is full. ``pump`` is called when
the DSP process has encoded something and on each tick of the worker: it sends what is due.

Counted in frames of the present epoch: ``fed`` (given to the DSP process) and ``sent`` (given to
the carrier). A mark goes out when the frame it stands behind has been sent. Every frame comes by
here, so the marks are told of what was sent only when they are next used.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from audio.format import FRAME_MS, NS_PER_MS, TTS_FRAME_BYTES, WIRE_FORMATS, Encoding
from gateway import clock, limits
from gateway.bridge import Line
from gateway.playout.marks import Marks
from gateway.playout.pacer import Pacer
from gateway.wire.base import Wire

_MARK_FRAMES = limits.MARK_EVERY_MS // FRAME_MS
_WAKE_FRAMES = 8
_PROBE_NS_MAX = limits.MARK_ROUND_TRIP_MS_MAX * NS_PER_MS
_ENCODED_FRAMES_MAX = limits.ENCODED_MS_MAX // FRAME_MS


class Player:
    """Feeds, paces and marks the assistant's audio of one call."""

    __slots__ = (
        "_clause_ends",
        "_closed",
        "_encoded",
        "_ending",
        "_fed",
        "_full",
        "_line",
        "_marks",
        "_media",
        "_next_mark_at",
        "_pacer",
        "_probe",
        "_push",
        "_rest",
        "_room",
        "_send",
        "_sent",
        "_stream_id",
        "_unreported",
        "_wire",
        "frames_out",
        "on_heard",
        "waits",
    )

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
        # Bound once: these are called for every frame.
        self._push = line.push_assistant
        self._media = wire.media
        self._rest = b""
        self._encoded: deque[bytes] = deque()  # frames that wait until they are due
        self._fed = 0
        self._sent = 0
        self._unreported = 0  # of the frames sent, how many the marks have not been told of
        self._clause_ends: deque[int] = deque()
        self._next_mark_at = _MARK_FRAMES
        self._ending = False
        self._closed = False
        #: A mark whose way there and back is being timed, and when it was sent.
        self._probe = ("", 0)
        self.frames_out = 0
        #: Whether only the passing of time lets us go on: frames are held back by the lead, or
        #: the end of an utterance is awaited.
        self.waits = False
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
        if len(self._encoded) >= _ENCODED_FRAMES_MAX:
            return False  # enough is waiting: the bound on what a fast speaker can queue
        push = self._push
        if not push(frame):
            self._line.check()  # a ring that takes nothing is full, or damaged
            return False
        self._fed += 1
        return True

    async def feed_encoded(self, audio: bytes) -> None:
        """Take audio in the carrier's own encoding, whole frames; waits while enough waits."""
        size = WIRE_FORMATS[self._line.encodings[1]].frame_bytes
        for at in range(0, len(audio), size):
            while not self.offer_encoded(audio[at : at + size]):
                self._full = True
                self._room.clear()
                await self._room.wait()

    def offer_encoded(self, payload: bytes) -> bool:
        """Queue one encoded frame without a detour by the DSP; False when enough is waiting."""
        if self._closed:
            return True
        if len(self._encoded) >= _ENCODED_FRAMES_MAX:
            return False
        self._fed += 1
        self.play(payload, clock.now_ns())
        return True

    @property
    def encodings(self) -> tuple[Encoding, Encoding]:
        """What the carrier sends and what it takes."""
        return self._line.encodings

    @property
    def _has_room(self) -> bool:
        """Whether it is worth to wake a speaker who waits; not for each single frame."""
        waiting_max = _ENCODED_FRAMES_MAX - _WAKE_FRAMES
        return len(self._encoded) <= waiting_max and self._line.assistant_room >= _WAKE_FRAMES

    async def end_clause(self) -> None:
        """Everything fed so far is one clause: complete its last frame and mark its end."""
        if self._rest:
            await self.feed(bytes(TTS_FRAME_BYTES - len(self._rest)))
        if self._fed and (not self._clause_ends or self._clause_ends[-1] != self._fed):
            self._clause_ends.append(self._fed)
            self._next_mark_at = min(self._next_mark_at, self._fed)

    def end_utterance(self) -> None:
        """Nothing more follows: ``on_heard`` is called when all of it was heard."""
        self._ending = self.waits = True

    # The carrier's side

    def play(self, payload: bytes, now_ns: int) -> None:
        """Take an encoded frame from the DSP process and send what is due."""
        if self._unreported and self._pacer.end_ns < now_ns:
            self._report_sent(now_ns)  # before the pacer's clock starts again
        if not self._encoded and self._pacer.take(1, now_ns, self._fed - self._sent - 1):
            self._send_audio(payload, 1, now_ns)
        else:
            self._encoded.append(payload)
            self._send_due(now_ns)
        if self._ending or self._full:
            self.pump(now_ns)

    def pump(self, now_ns: int) -> None:
        """Send what is due now; cheap when nothing is."""
        self.waits = self._ending
        self._send_due(now_ns)
        if self._ending:
            self._finish(now_ns)
        if self._full and self._has_room:
            self._full = False
            self._room.set()

    def acknowledged(self, name: str) -> int:
        """The carrier played everything before a mark; when that was sent, if it is being timed."""
        self._marks.acknowledged(name)
        timed, sent_ns = self._probe
        if name != timed:
            return 0
        self._probe = ("", 0)
        return sent_ns

    def cut(self, now_ns: int) -> int:
        """Stop at once; returns how many milliseconds of this utterance were heard."""
        if self._closed:
            return 0  # the line may be another call's by now
        self._report_sent(now_ns)
        heard_ms = self._marks.clear(now_ns)
        self._probe = ("", 0)  # it comes back at once now
        if self._sent:
            self._send(self._wire.clear(self._stream_id))
        self._line.clear()
        self._pacer.clear(now_ns)
        self._encoded.clear()
        self._rest = b""
        self._begin()
        return heard_ms

    def close(self) -> None:
        """The call is over: whoever still feeds is let go."""
        self._closed = True
        self._room.set()
        self.on_heard = _nothing

    @property
    def fed_ms(self) -> int:
        """Audio fed in this utterance, in milliseconds."""
        return self._fed * FRAME_MS

    def heard_ms(self, now_ns: int) -> int:
        """Milliseconds of this utterance that were heard so far."""
        self._report_sent(now_ns)
        return self._marks.heard_ms(now_ns)

    def playing_ms(self, now_ns: int) -> int | None:
        """The place in this utterance that is played now; None when nothing is."""
        left_ns = self._pacer.end_ns - now_ns
        if left_ns <= 0 or not self._sent:
            return None
        return max(0, self._sent * FRAME_MS - left_ns // clock.NS_PER_MS)

    @property
    def began_ns(self) -> int | None:
        """When the first frame of this utterance went, if the carrier never ran dry since."""
        if not self._sent:
            return None
        return self._pacer.end_ns - self._sent * FRAME_MS * clock.NS_PER_MS

    @property
    def gaps(self) -> int:
        """How often the carrier ran dry within an utterance."""
        return self._pacer.gaps

    def _begin(self) -> None:
        self._fed = self._sent = self._unreported = 0
        self._clause_ends.clear()
        self._next_mark_at = _MARK_FRAMES
        self._ending = self.waits = False
        self._room.set()

    def _send_due(self, now_ns: int) -> None:
        encoded, pacer = self._encoded, self._pacer
        while encoded:
            if self._unreported and pacer.end_ns < now_ns:
                self._report_sent(now_ns)  # before the pacer's clock starts again
            available = len(encoded)
            frames = pacer.take(available, now_ns, self._fed - self._sent - available)
            if not frames:
                self.waits = True
                return
            payload = b"".join([encoded.popleft() for _ in range(frames)])
            self._send_audio(payload, frames, now_ns)

    def _send_audio(self, payload: bytes, frames: int, now_ns: int) -> None:
        media, send = self._media, self._send
        send(media(self._stream_id, payload))
        self._sent += frames
        self._unreported += frames
        self.frames_out += frames
        if self._sent >= self._next_mark_at:
            self._place_mark(now_ns)

    def _report_sent(self, now_ns: int) -> None:
        if self._unreported:
            self._marks.sent(self._unreported * FRAME_MS, now_ns, self._pacer.end_ns)
            self._unreported = 0

    def _place_mark(self, now_ns: int) -> None:
        self._report_sent(now_ns)
        while self._clause_ends and self._clause_ends[0] <= self._sent:
            self._clause_ends.popleft()
        self._next_mark_at = self._sent + _MARK_FRAMES
        if self._clause_ends:
            self._next_mark_at = min(self._next_mark_at, self._clause_ends[0])
        name = self._marks.place()
        if now_ns - self._probe[1] > _PROBE_NS_MAX:
            self._probe = (name, now_ns)
        self._send(self._wire.mark(self._stream_id, name))

    def _finish(self, now_ns: int) -> None:
        if self._sent < self._fed and (self._encoded or self._line.assistant_pending):
            return  # more is to come; what was lost in a damaged ring is not
        self._pacer.end_of_utterance()
        self._report_sent(now_ns)
        if self._marks.heard_ms(now_ns) >= self._sent * FRAME_MS:
            self._marks.clear(now_ns)
            self._begin()
            self.on_heard()


def _nothing() -> None:
    pass
