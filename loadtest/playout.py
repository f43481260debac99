"""A carrier's playout buffer: when each piece of assistant audio is heard, and when marks return.

Twilio appends every ``media`` payload to a buffer and plays it in real time. A ``mark`` is
acknowledged when everything sent before it has been played, at once if nothing is queued. A
``clear`` empties the buffer and returns every outstanding mark. (Twilio, Media Streams, WebSocket
messages to Twilio.)

A timeline is enough to simulate that: audio that arrives at ``t`` starts at
``max(t, end of what is queued)``. Where it starts later than the queue's end the caller heard
nothing: a gap when more of the same utterance follows within ``PAUSE_NS``, a pause otherwise.
The buffer plays at once, without a reserve of its own, so that a server's lead is what protects
the caller. The whole timeline is kept: it tells afterwards what the caller heard.

Pure: told the time, in nanoseconds.
"""

from __future__ import annotations

from array import array
from collections import deque

NS_PER_MS = 1_000_000

#: A hole longer than this separates two utterances.
PAUSE_NS = 1000 * NS_PER_MS
#: A shorter hole is not heard; a stream without lead has one whenever jitter reaches a new high.
GAP_NS_MIN = 5 * NS_PER_MS
#: Marks that wait: a carrier would not hold more for one call either.
MARKS_MAX = 1024


class Playout:
    """One call's buffer. ``ns_per_byte`` is the length of a payload byte when played."""

    __slots__ = (
        "_cut",
        "_end_ns",
        "_marks",
        "cuts",
        "gap_ends",
        "gaps_ns",
        "marks_dropped",
        "ns_per_byte",
        "played",
        "starts",
    )

    def __init__(self, ns_per_byte: int) -> None:
        assert ns_per_byte > 0
        self.ns_per_byte = ns_per_byte
        #: For each payload, in order: when it starts, and how many bytes of it are heard.
        self.starts = array("q")
        self.played = array("q")
        #: Each gap: when it ended and how long it was.
        self.gap_ends = array("q")
        self.gaps_ns = array("q")
        self.cuts = 0
        self.marks_dropped = 0
        self._marks: deque[tuple[int, str]] = deque()
        self._end_ns = 0
        self._cut = True  # nothing has been heard yet: what follows is no gap

    @property
    def end_ns(self) -> int:
        """When everything that has arrived will have been played; 0 before the first payload."""
        return self._end_ns

    def media(self, now_ns: int, nbytes: int) -> int:
        """Queue a payload; returns when it starts."""
        end = self._end_ns
        start = max(now_ns, end)
        if not self._cut and GAP_NS_MIN <= start - end <= PAUSE_NS:
            self.gap_ends.append(start)
            self.gaps_ns.append(start - end)
        self._cut = False
        self.starts.append(start)
        self.played.append(nbytes)
        self._end_ns = start + nbytes * self.ns_per_byte
        return start

    def mark(self, now_ns: int, name: str) -> None:
        """Queue a mark behind everything that has arrived."""
        if len(self._marks) >= MARKS_MAX:
            self.marks_dropped += 1
            return
        self._marks.append((max(now_ns, self._end_ns), name))

    def next_mark_ns(self) -> int | None:
        """When the next mark is reached; None when there is none."""
        return self._marks[0][0] if self._marks else None

    def take_reached(self, now_ns: int) -> list[str]:
        """The marks that playback has reached by now, in order."""
        reached = []
        while self._marks and self._marks[0][0] <= now_ns:
            reached.append(self._marks.popleft()[1])
        return reached

    def clear(self, now_ns: int) -> list[str]:
        """Empty the buffer; returns every outstanding mark."""
        if self._end_ns > now_ns:
            self._cut_at(now_ns)
        self._cut = True  # whatever comes next is another utterance
        names = [name for _, name in self._marks]
        self._marks.clear()
        return names

    def _cut_at(self, now_ns: int) -> None:
        i = len(self.starts) - 1
        while i >= 0 and self.starts[i] + self.played[i] * self.ns_per_byte > now_ns:
            self.played[i] = max(0, now_ns - self.starts[i]) // self.ns_per_byte
            i -= 1
        self.cuts += 1
        self._end_ns = now_ns
