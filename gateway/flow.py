"""Whether one peer sends more than it may, judged once a second from what is counted anyway. Pure.

Nothing is asked for every message: a call in order sends fifty of them a second, and that is the
road everybody takes. Media is counted in frames (20 ms of audio, however they were packed), the
rest by the bytes that the kernel received. Who is over a limit is not read from for a second, which
fills the peer's own buffers and loses nothing: a network that stood still for a while delivers all
at once, and that is no crime. Who goes on is sent away.

A fragmented message has to become complete as well; its number tells one from the next.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from gateway.bucket import Bucket, Rate
from gateway.limits import (
    CONTROL_FRAMES_BURST,
    CONTROL_FRAMES_PER_SECOND_MAX,
    FLOOD_FORGIVEN_AFTER_LOOKS,
    FLOOD_LOOKS_MAX,
    MEDIA_FRAMES_BURST,
    MEDIA_FRAMES_PER_SECOND_MAX,
    MESSAGE_LOOKS_MAX,
    RECEIVED_BYTES_BURST,
    RECEIVED_BYTES_PER_SECOND_MAX,
    SMALL_FRAMES_BURST,
    SMALL_FRAMES_PER_SECOND_MAX,
)

_FRAMES = Rate(MEDIA_FRAMES_PER_SECOND_MAX, MEDIA_FRAMES_BURST)
_BYTES = Rate(RECEIVED_BYTES_PER_SECOND_MAX, RECEIVED_BYTES_BURST)


class Seen(NamedTuple):
    """Frames of a peer's calls so far, bytes since the last look, calls, its unfinished message."""

    frames: int
    nbytes: int
    calls: int
    unfinished: int


class Order(Enum):
    """What is to be done with a peer until the next look."""

    READ = auto()
    WAIT = auto()
    FLOOD = auto()
    STUCK = auto()


class Flow:
    """One peer's."""

    __slots__ = (
        "_bytes",
        "_excess",
        "_frames",
        "_in_order",
        "_seen_frames",
        "_unfinished",
        "_unfinished_looks",
        "looks",
    )

    def __init__(self, now_ns: int) -> None:
        self._frames = Bucket(_FRAMES, now_ns)
        self._bytes = Bucket(_BYTES, now_ns)
        self._excess = self._in_order = self._seen_frames = 0
        #: How often it was looked at.
        self.looks = 0
        self._unfinished = self._unfinished_looks = 0

    def look(self, seen: Seen, now_ns: int) -> Order:
        """Judge a second. A call that has ended takes its frames along: fewer than before is 0."""
        self.looks += 1
        new, self._seen_frames = max(0, seen.frames - self._seen_frames), seen.frames
        if self._is_stuck(seen.unfinished):
            return Order.STUCK
        calls = max(1, seen.calls)
        frames = self._frames.spend(new, _times(_FRAMES, calls), now_ns)
        nbytes = self._bytes.spend(seen.nbytes, _times(_BYTES, calls), now_ns)
        if frames and nbytes:
            self._in_order += 1
            if self._in_order >= FLOOD_FORGIVEN_AFTER_LOOKS:
                self._excess = 0
            return Order.READ
        self._in_order = 0
        self._excess += 1
        return Order.FLOOD if self._excess >= FLOOD_LOOKS_MAX else Order.WAIT

    def _is_stuck(self, unfinished: int) -> bool:
        same = unfinished == self._unfinished != 0
        self._unfinished_looks = self._unfinished_looks + 1 if same else 0
        self._unfinished = unfinished
        return self._unfinished_looks >= MESSAGE_LOOKS_MAX


class Patience:
    """How many control and small frames one connection may still send.

    Those are counted one by one, since a single read may bring tens of thousands of them.
    """

    __slots__ = ("_control", "_small")

    def __init__(self) -> None:
        self._control = CONTROL_FRAMES_BURST
        self._small = SMALL_FRAMES_BURST

    def has(self, first_byte: int) -> bool:
        """Take a frame, by its first byte (RFC 6455 5.2); False when it is one too many."""
        if first_byte & 0x08:
            self._control -= 1
        else:
            self._small -= 1
        return self._control >= 0 and self._small >= 0

    def grow(self) -> None:
        """A second has passed."""
        control = self._control + CONTROL_FRAMES_PER_SECOND_MAX
        self._control = min(control, CONTROL_FRAMES_BURST)
        self._small = min(self._small + SMALL_FRAMES_PER_SECOND_MAX, SMALL_FRAMES_BURST)


def _times(rate: Rate, calls: int) -> Rate:
    return Rate(rate.per_second * calls, rate.burst * calls)
