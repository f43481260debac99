"""How much of what the assistant said the caller has heard. Pure; one object a call.

After each clause and each ``MARK_EVERY_MS`` of audio a named mark follows the audio to the carrier,
which returns it when it has played what came before. Positions are ms of assistant audio since the
last ``clear``; each ``clear`` begins a new epoch at position 0. What was heard is, by one rule::

    heard = min(played(now), max(acknowledged, played(now - HEARD_MARGIN_MS)))

``played(t)`` is how far a carrier that plays without delay would be at time ``t``, from the pacer's
clock. It limits from above, so that a peer that returns marks unplayed is not believed. The
furthest acknowledged mark limits from below. What should have been played ``HEARD_MARGIN_MS`` ago
counts as heard, acknowledged or not: marks travel in far less, so by then they are clearly not
coming. Hence nothing ever waits for one certain mark (there are carriers that never return the
first, or any), and ``heard`` always reaches what was sent.

A carrier returns the marks that it clears exactly as those that it played. So names carry their
epoch (``e1.m7``), and what returns from an earlier one is counted as cancelled and proves nothing.
An acknowledgement of one mark stands for all before it, since audio is played in order.
"""

from __future__ import annotations

import re

from audio.format import NS_PER_MS
from gateway import limits

_MARGIN_NS = limits.HEARD_MARGIN_MS * NS_PER_MS
_NAME = re.compile(r"e(\d{1,9})\.m\d{1,9}", re.ASCII)


class Marks:
    """One call's marks. All times are of the monotonic clock that the pacer is told."""

    __slots__ = (
        "_acknowledged_ms",
        "_end_ns",
        "_heard_ms",
        "_outstanding",
        "_placed",
        "acknowledged_total",
        "cancelled",
        "epoch",
        "forgotten",
        "position_ms",
        "unknown",
    )

    def __init__(self) -> None:
        #: Raised by each ``clear``.
        self.epoch = 0
        #: Audio (ms) sent in this epoch.
        self.position_ms = 0
        self.acknowledged_total = 0
        #: Marks of an earlier epoch that came back.
        self.cancelled = 0
        #: Names that came back though no such mark was outstanding (repeated, passed, invented).
        self.unknown = 0
        #: Marks given up because too many were outstanding.
        self.forgotten = 0
        self._outstanding: dict[str, int] = {}  # name -> position, in the order of placing
        self._placed = 0
        self._acknowledged_ms = 0
        self._heard_ms = 0
        self._end_ns = 0

    def sent(self, duration_ms: int, now_ns: int, end_ns: int) -> None:
        """Report audio that was sent without a pause; all of it will be played at ``end_ns``.

        One report may stand for several messages, made at any time ``now_ns`` before the next use.
        """
        assert duration_ms > 0, duration_ms
        if now_ns > self._end_ns:
            self._settle(now_ns)
        self.position_ms += duration_ms
        self._end_ns = end_ns

    def _settle(self, now_ns: int) -> None:
        """The carrier had run dry: what was heard before this audio must not be forgotten."""
        unsure_ns = self._end_ns + _MARGIN_NS - now_ns
        heard_ms = self.position_ms
        if unsure_ns > 0:
            heard_ms -= -(-unsure_ns // NS_PER_MS)
            if heard_ms < self._acknowledged_ms:
                heard_ms = self._acknowledged_ms
        if heard_ms > self._heard_ms:
            self._heard_ms = heard_ms

    def place(self) -> str:
        """Name a mark at the present position, to be sent now; also after each clause."""
        if len(self._outstanding) >= limits.MARKS_OUTSTANDING_MAX:
            del self._outstanding[next(iter(self._outstanding))]
            self.forgotten += 1
        self._placed += 1
        name = f"e{self.epoch}.m{self._placed}"
        self._outstanding[name] = self.position_ms
        return name

    def acknowledged(self, name: str) -> None:
        """Take a mark that came back; any text is tolerated and counted."""
        if name not in self._outstanding:
            match = _NAME.fullmatch(name)
            if match and int(match[1]) < self.epoch:
                self.cancelled += 1
            else:
                self.unknown += 1
            return
        self.acknowledged_total += 1
        self._acknowledged_ms = self._outstanding[name]
        passed = ""
        while passed != name:
            passed = next(iter(self._outstanding))
            del self._outstanding[passed]

    def heard_ms(self, now_ns: int) -> int:
        """Position (ms of this epoch) up to which the caller has heard; never goes back."""
        confirmed_ms = max(self._acknowledged_ms, self._played_ms(now_ns - _MARGIN_NS))
        heard_ms = min(self._played_ms(now_ns), confirmed_ms)
        self._heard_ms = max(self._heard_ms, heard_ms)
        return self._heard_ms

    def clear(self, now_ns: int) -> int:
        """Begin a new epoch, as a ``clear`` is sent; return what was heard of the old one (ms)."""
        heard_ms = self.heard_ms(now_ns)
        self.epoch += 1
        self.position_ms = 0
        self._outstanding.clear()
        self._acknowledged_ms = 0
        self._heard_ms = 0
        return heard_ms

    def _played_ms(self, at_ns: int) -> int:
        """Position that a carrier without delay has reached, or had, at ``at_ns``."""
        unplayed_ms = -(min(0, at_ns - self._end_ns) // NS_PER_MS)
        return max(0, self.position_ms - unplayed_ms)
