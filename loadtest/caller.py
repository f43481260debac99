"""One simulated call: joins plan, behaviour, wire, peer and carrier buffer, and keeps the record.

The generator's clock calls ``send_due``; the peer calls the ``Sink`` side. Nothing here decides
when a frame is due (the plan does) or what is said (the behaviour does).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from loadtest.errors import WireError
from loadtest.network import Network, Weather
from loadtest.peer import ConnectError, Peer, connect, is_goodbye
from loadtest.playout import Playout
from loadtest.recorder import Recorder
from loadtest.scenario import Behaviour
from loadtest.schedule import FRAME_NS, NS_PER_SECOND, CallPlan
from loadtest.wires import Kind, Received, Stream, Wire

#: After the last frame: how long to wait for audio that is still on its way.
DRAIN_SECONDS = 1.0
#: After the closing handshake was begun, or before the server is ready: how long to wait.
CLOSE_SECONDS = 2.0
READY_SECONDS = 5.0
MARK_SECONDS_MIN = 0.001
#: Twilio discards what comes when more than ten minutes wait to be played (warning 31931).
QUEUE_NS_MAX = 600 * NS_PER_SECOND


@dataclass(frozen=True, slots=True)
class Line:
    """Where and how a call is made; ``echoes``: all audio is expected back."""

    url: str
    wire: Wire
    stream: Stream
    echoes: bool
    network: Network = field(default_factory=lambda: Network(Weather(), ""))


class Caller:
    """One call. ``start_ns`` is the start of the run on the monotonic clock."""

    def __init__(self, plan: CallPlan, start_ns: int, line: Line, behaviour: Behaviour) -> None:
        self.plan = plan
        self.behaviour = behaviour
        self.record = Recorder()
        self.playout = Playout(line.wire.ns_per_byte)
        self.first_ns = start_ns + plan.first_frame_ns
        self._start_ns = start_ns
        self._line = line
        self._decode = line.wire.assistant.decoder()
        self._peer: Peer | None = None
        self._up = False
        self._sending = True
        self._stopping = False
        self._closed = asyncio.Event()
        self._mark_timer: asyncio.TimerHandle | None = None

    @property
    def up(self) -> bool:
        """Whether the call is open for audio."""
        return self._up

    @property
    def reordered(self) -> int:
        """Frames that arrived after later ones."""
        return self._line.network.reordered

    async def run(self) -> None:
        """Connect when it is time; return when the call is over. Raises ConnectError."""
        connect_ns = self._start_ns + self.plan.connect_ns
        self.record.connect_ns = connect_ns
        await asyncio.sleep(max(0, connect_ns - time.monotonic_ns()) / NS_PER_SECOND)
        try:
            peer = await connect(self._line.url, self._line.wire.headers, self)
        except ConnectError as error:
            self.record.failure = f"not connected: {error}"
            self._sending = False
            raise
        if self._line.stream.waits_for_ready:
            asyncio.get_running_loop().call_later(READY_SECONDS, self._give_up, peer)
        await self._closed.wait()

    def send_due(self, now_ns: int) -> bool:
        """Send every frame that is due; False when there will be no more."""
        record, plan = self.record, self.plan
        if not self._up:
            return self._sending
        assert self._peer is not None
        while self._sending and (due := self.first_ns + record.sent * FRAME_NS) <= now_ns:
            payload = None
            if record.sent < plan.frames:
                payload = self.behaviour.payload(record.sent, due)
            if payload is None:
                self._finish()
            elif self._peer.congested:
                record.withheld.append(record.sent)
                record.sent += 1
            else:
                self._send(self._peer, payload, due)
                record.sent += 1
                if self.behaviour.listens:
                    for key in self.behaviour.pressed():
                        self._peer.send(self._line.stream.key(key))
        return self._sending

    def opened(self, peer: Peer) -> None:
        """The handshake is complete: introduce the call."""
        self._peer = peer
        self.record.local_port = peer.local_port
        for text in self._line.stream.opening():
            peer.send(text)
        if not self._line.stream.waits_for_ready:
            self._ready(time.monotonic_ns())

    def message(self, text: bytes | memoryview) -> None:
        """A text message came; after the end of the call nobody hears it."""
        if self._stopping:
            return
        now_ns = time.monotonic_ns()
        try:
            received = self._line.stream.receive(text)
        except WireError as error:
            self.malformed(str(error))
            return
        if received.kind is Kind.MEDIA:
            self._media(now_ns, received.payload)
        else:
            self._event(now_ns, received)

    def malformed(self, what: str) -> None:
        """A message that the wire does not allow came."""
        self.record.malformed += 1
        self.record.complain(what)

    def closed(self, reason: str) -> None:
        """The connection is gone."""
        if not self._stopping and not self.record.failure:
            if is_goodbye(reason) and self.behaviour.content():
                self.record.left = True
            else:
                self.record.failure = reason
        if not self._stopping:
            self.record.closed_ns = time.monotonic_ns()
        self._up = self._sending = False
        if self._mark_timer is not None:
            self._mark_timer.cancel()
        self._closed.set()

    def _ready(self, now_ns: int) -> None:
        self._up = True
        self.record.opened_ns = now_ns
        self.send_due(now_ns)

    def _give_up(self, peer: Peer) -> None:
        if not self.record.opened_ns and not self._closed.is_set():
            self.record.failure = f"not ready within {READY_SECONDS:g} s"
            peer.abort()

    def _media(self, now_ns: int, payload: bytes) -> None:
        if self.playout.end_ns - now_ns > QUEUE_NS_MAX:
            self.malformed("more than ten minutes of audio queued: discarded")
            return
        self.record.media(now_ns, payload)
        start_ns = self.playout.media(now_ns, len(payload))
        if self.behaviour.listens:
            self.behaviour.hear(start_ns, self._decode(payload))
        if not self._sending and self._all_back():
            self._hang_up()

    def _event(self, now_ns: int, received: Received) -> None:
        match received.kind:
            case Kind.MARK:
                self.playout.mark(now_ns, received.text)
                self._acknowledge()
            case Kind.CLEAR:
                self.record.clears.append(now_ns)
                self._return_marks(self.playout.clear(now_ns))
                self.behaviour.cut(now_ns)
            case Kind.READY:
                if not self._up:
                    self._ready(now_ns)
            case Kind.TRANSCRIPT:
                self.record.transcript(now_ns, received.role, received.text)
            case _:
                self.record.complain(f"error from the server: {received.text[:200]}")

    def _acknowledge(self) -> None:
        """Return the marks that playback has reached and set the alarm for the next one."""
        now_ns = time.monotonic_ns()
        self._return_marks(self.playout.take_reached(now_ns))
        if self._mark_timer is not None:
            self._mark_timer.cancel()
            self._mark_timer = None
        next_ns = self.playout.next_mark_ns()
        if next_ns is not None and self._peer is not None:
            delay = max((next_ns - now_ns) / NS_PER_SECOND, MARK_SECONDS_MIN)
            loop = asyncio.get_running_loop()
            self._mark_timer = loop.call_later(delay, self._acknowledge)

    def _return_marks(self, names: list[str]) -> None:
        if self._peer is not None:
            for name in names:
                self._peer.send(self._line.stream.mark(name))

    def _send(self, peer: Peer, payload: bytes, due_ns: int) -> None:
        """Send the next frame, as far as the network lets it pass, and what it has overtaken."""
        record, line = self.record, self._line
        arriving = line.network.carry(line.stream.media(record.sent, payload))
        if arriving is None:
            record.dropped.append(record.sent)
            return
        for text in arriving:
            peer.send(text)
        record.lateness_ns.append(time.monotonic_ns() - due_ns)

    def _finish(self) -> None:
        """The last frame has left: wait for what is on its way, then hang up."""
        self._sending = False
        assert self._peer is not None
        for text in self._line.network.rest():
            self._peer.send(text)
        if not self._line.echoes or self._all_back():
            self._hang_up()
        else:
            asyncio.get_running_loop().call_later(DRAIN_SECONDS, self._hang_up)

    def _all_back(self) -> bool:
        sent = self.record.sent - len(self.record.unsent)
        return self._line.echoes and len(self.record.audio) >= sent * self._line.wire.frame_bytes

    def _hang_up(self) -> None:
        if self._stopping or self._peer is None:
            return
        self._stopping = True
        self._up = False
        self.record.closed_ns = time.monotonic_ns()
        self._peer.send(self._line.stream.stop())
        self._peer.close()
        asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._peer.abort)
