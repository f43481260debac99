"""Whether a POST may be sent once more. Pure: what became of it, and what the server promises.

A POST does something. Sent twice, it may do it twice, unless nothing of it had arrived, or the
server refused it before it did anything, or the server is *idempotent*: it knows the request by
its key, and answers the second with what it did at the first.

======================================== ============ ==============
what became of it                        by default   idempotent
======================================== ============ ==============
no connection: nothing was sent          twice more   twice more
sent, then no (whole) answer             never        once more
429 or 503 with a Retry-After            once more    once more
500, 502, 503, 504                       never        once more
409: the first is still being worked on  never        asked again
any other answer                         never        never
======================================== ============ ==============

Everything, pauses included, takes place within the deadline of whoever asks.
"""

from __future__ import annotations

from collections import Counter
from enum import Enum, auto

#: The pause before another attempt, drawn evenly (full jitter): all calls failed together, they
#: must not come back together.
PAUSE_MS = (100, 400)
#: Between two questions whether the first is done.
POLL_MS = (200, 500)
POLLS_MAX = 20
#: An attempt that may be repeated leaves this share (per cent) of the time to its repetition.
RESERVED_PERCENT = 40
RETRY_AFTER_MS_MAX = 60_000

_BUSY = (429, 503)
_FAILED = (500, 502, 503, 504)
_RUNNING = 409


class Outcome(Enum):
    """What became of a request that did not get the answer it wanted."""

    NOT_SENT = auto()
    NO_ANSWER = auto()
    BUSY = auto()
    FAILED = auto()
    RUNNING = auto()
    FINAL = auto()  # an answer that will not change


_BY_DEFAULT = {Outcome.NOT_SENT: 2, Outcome.BUSY: 1}
_IDEMPOTENT = {
    Outcome.NOT_SENT: 2,
    Outcome.NO_ANSWER: 1,
    Outcome.BUSY: 1,
    Outcome.FAILED: 1,
    Outcome.RUNNING: POLLS_MAX,
}


def outcome(status: int, retry_after_ms: int | None) -> Outcome:
    """What an answer means for another attempt."""
    if status in _BUSY and retry_after_ms is not None:
        return Outcome.BUSY
    if status in _FAILED:
        return Outcome.FAILED
    return Outcome.RUNNING if status == _RUNNING else Outcome.FINAL


def retry_after_ms(header: str | None) -> int | None:
    """The wait that a server asks for; None for none, for a date (our clocks may differ)."""
    if header is None or not (header.isascii() and header.isdecimal()) or len(header) > 6:
        return None
    return min(int(header) * 1000, RETRY_AFTER_MS_MAX)


class Attempts:
    """The attempts of one request."""

    __slots__ = ("_allowed", "_happened")

    def __init__(self, *, idempotent: bool) -> None:
        self._allowed = _IDEMPOTENT if idempotent else _BY_DEFAULT
        self._happened: Counter[Outcome] = Counter()

    def within_ms(self, left_ms: int) -> int:
        """How long the next attempt may take of what is left."""
        if self._remaining(Outcome.NO_ANSWER) > 0:
            return left_ms * (100 - RESERVED_PERCENT) // 100
        return left_ms

    def pause_ms(self, happened: Outcome, after_ms: int | None, luck: float) -> int | None:
        """The pause before the next attempt, None for no more; ``luck`` is 0 to 1."""
        if self._remaining(happened) <= 0:
            return None
        self._happened[happened] += 1
        if happened is Outcome.BUSY:
            assert after_ms is not None
            return after_ms
        shortest, longest = POLL_MS if happened is Outcome.RUNNING else PAUSE_MS
        return shortest + round((longest - shortest) * luck)

    def _remaining(self, happened: Outcome) -> int:
        return self._allowed.get(happened, 0) - self._happened[happened]
