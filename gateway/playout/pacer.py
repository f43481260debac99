"""When assistant audio goes to the carrier, and how much of it at once. Pure; one object a call.

A carrier plays what it has been sent in real time and reports almost nothing. So the pacer keeps
a clock of its own for it: ``end_ns``, the time at which everything sent so far will have been
played. All of its rules follow from that one absolute number:

* Sent audio is never more than the lead (``PLAYOUT_LEAD_MS``) ahead of the caller's ear. More would
  go on talking after a barge-in; none at all would let every late tick of ours be heard.
* When the carrier has nothing left to play, one frame leaves at once, alone.
* Otherwise whatever there is goes out as one message of at most ``MESSAGE_MS_MAX`` as soon as the
  whole of it fits under the lead; but if enough for a full message is on its way, it waits for
  that while the carrier has more than ``PLAYOUT_CUSHION_MS`` left to play. A source in real time
  (one frame each 20 ms) therefore passes straight through, while a burst from a synthesizer goes
  out as a few single frames and then 100 ms a message, at a fifth of the messages.
* ``end_ns`` advances by the audio that was sent and by nothing else. A tick that comes late finds
  more room and catches up; no delay is ever added to the schedule, and no frame is skipped.
* If the carrier ran dry in the middle of an utterance, the caller heard a gap: it is counted, and
  the clock starts again from now, for what was not played in time cannot be played earlier.

Sleeping for each frame was rejected because every late wake-up delays all that follows; a queue at
the carrier (Twilio would take ten minutes of audio) because then nobody knows what was heard.
"""

from __future__ import annotations

from audio.format import FRAME_MS, FRAME_NS, NS_PER_MS
from gateway import limits

_LEAD_NS = limits.PLAYOUT_LEAD_MS * NS_PER_MS
_CUSHION_NS = limits.PLAYOUT_CUSHION_MS * NS_PER_MS
MESSAGE_FRAMES_MAX = limits.MESSAGE_MS_MAX // FRAME_MS
#: Less is the drift between two clocks, not a silence that anyone hears.
_GAP_NS_MIN = NS_PER_MS


class Pacer:
    """Paces one call's frames. All times are of one monotonic clock, which the caller reads.

    Use: while ``take`` gives a number, send that many frames as one message; when it gives 0, wait
    for new frames or until ``next_due_ns``, if that is not None.
    """

    __slots__ = (
        "_gap_ns_total",
        "_in_utterance",
        "_late_ns_max",
        "end_ns",
        "frames_sent",
        "gaps",
        "next_due_ns",
    )

    def __init__(self) -> None:
        #: When the carrier will have played all that was sent. In the past: it is silent.
        self.end_ns = 0
        #: When the frames that ``take`` held back may go; None if it held none back.
        self.next_due_ns: int | None = None
        self.frames_sent = 0
        self.gaps = 0
        self._gap_ns_total = 0
        self._late_ns_max = 0
        self._in_utterance = False

    @property
    def gap_ms_total(self) -> int:
        """Silence (ms) heard inside utterances because frames came too late."""
        return self._gap_ns_total // NS_PER_MS

    @property
    def late_ms_max(self) -> int:
        """How long (ms) after ``next_due_ns`` the latest message went; the lead absorbs it."""
        return self._late_ns_max // NS_PER_MS

    def take(self, available: int, now_ns: int, coming: int = 0) -> int:
        """Decide how many of ``available`` frames go now, as one message; 0 = none yet.

        They count as sent. ``coming`` frames more are on their way.
        """
        if available <= 0:
            self.next_due_ns = None
            return 0
        ahead_ns = self.end_ns - now_ns
        if ahead_ns <= 0:
            frames = 1
            if ahead_ns <= -_GAP_NS_MIN and self._in_utterance:
                self.gaps += 1
                self._gap_ns_total -= ahead_ns
            self.end_ns = now_ns
        else:
            frames = available if available < MESSAGE_FRAMES_MAX else MESSAGE_FRAMES_MAX
            wait_ns = ahead_ns + frames * FRAME_NS - _LEAD_NS
            if available < MESSAGE_FRAMES_MAX <= available + coming:
                wait_ns = ahead_ns - _CUSHION_NS
            if wait_ns > 0:
                self.next_due_ns = now_ns + wait_ns
                return 0
        if self.next_due_ns is not None:
            self._late_ns_max = max(self._late_ns_max, now_ns - self.next_due_ns)
            self.next_due_ns = None
        self.end_ns += frames * FRAME_NS
        self.frames_sent += frames
        self._in_utterance = True
        return frames

    def end_of_utterance(self) -> None:
        """Report that the last frame of an utterance was sent: the silence after it is no gap."""
        self._in_utterance = False

    def clear(self, now_ns: int) -> None:
        """Report that the carrier was told to drop what it has not played."""
        self.end_ns = min(self.end_ns, now_ns)
        self.next_due_ns = None
        self._in_utterance = False
