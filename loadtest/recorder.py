"""What happened on one call, as it happened: cheap to write during the run, read only after it.

Arrivals are kept in flat arrays (8 bytes a message and the payload itself), because the generator
must stay cheap at hundreds of calls; everything that takes thought waits until the run is over.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

TRANSCRIPTS_MAX = 1000
COMPLAINTS_MAX = 20


@dataclass(frozen=True, slots=True)
class Transcript:
    """What the server says was said; ``at_ns`` is when that message came."""

    at_ns: int
    role: str
    text: str


class Recorder:
    """One call's log. Times are absolute, from the monotonic clock, in nanoseconds."""

    __slots__ = (
        "arrivals",
        "audio",
        "clears",
        "closed_ns",
        "complaints",
        "connect_ns",
        "dropped",
        "failure",
        "lateness_ns",
        "left",
        "lengths",
        "local_port",
        "malformed",
        "opened_ns",
        "sent",
        "transcripts",
        "withheld",
    )

    def __init__(self) -> None:
        #: For each media message: when it came and how many payload bytes it brought.
        self.arrivals = array("q")
        self.lengths = array("q")
        self.audio = bytearray()
        self.clears = array("q")
        #: For each frame sent: how long after it was due.
        self.lateness_ns = array("q")
        #: Frames 0 to ``sent`` were due and sent, but for the withheld (the server did not read),
        #: and the dropped (the simulated network lost them).
        self.sent = 0
        self.withheld = array("q")
        self.dropped = array("q")
        self.malformed = 0
        #: The first malformed messages and errors the server reported, in words.
        self.complaints: list[str] = []
        self.transcripts: list[Transcript] = []
        self.connect_ns = 0
        self.opened_ns = 0
        self.closed_ns = 0
        self.local_port = 0
        #: Why the call could not be set up or ended before its time; empty if it went well.
        self.failure = ""
        #: Whether the server ended it, politely, when the caller had nothing more to measure.
        self.left = False

    @property
    def unsent(self) -> list[int]:
        """Frames that were due and never reached the server."""
        return [*self.withheld, *self.dropped]

    def media(self, now_ns: int, payload: bytes) -> None:
        """A media message came."""
        self.arrivals.append(now_ns)
        self.lengths.append(len(payload))
        self.audio += payload

    def complain(self, text: str) -> None:
        """Keep what was wrong with a message, the first few times."""
        if len(self.complaints) < COMPLAINTS_MAX:
            self.complaints.append(text)

    def transcript(self, now_ns: int, role: str, text: str) -> None:
        """Keep a transcript, up to a limit."""
        if len(self.transcripts) < TRANSCRIPTS_MAX:
            self.transcripts.append(Transcript(now_ns, role, text))


def recording_bytes(calls: int, seconds: float, frame_bytes: int) -> int:
    """Memory that recording a run takes when the assistant speaks all the time.

    Payload, three words a message (arrival, length, start of playout) and two a frame sent.
    """
    return round(calls * seconds * 50 * (frame_bytes + 6 * 8))
