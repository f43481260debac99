"""Whether to ask a server at all: after failures in a row, not for a while. Pure, told the time.

A dead server that every call asks, and waits for, costs every caller the whole timeout. So after
``failures_max`` failures in a row the breaker opens: nobody asks for ``open_ms``. Then one may
try (the probe). Its success closes the breaker; its failure, or its silence (a caller who hung up
cancels the request, and nothing is learnt), keeps everybody else away for another ``open_ms``.

One breaker a server and worker. Only what tells of the server's health is reported to it: a
refused connection, a timeout, a 5xx; not a 400, which is our mistake, nor a cancelled request.
"""

from __future__ import annotations

_NS_PER_MS = 1_000_000

FAILURES_MAX = 5
OPEN_MS = 5_000


class Breaker:
    """Closed: everybody may ask. Open: nobody but one probe each ``open_ms``."""

    __slots__ = ("_failures", "_failures_max", "_open_ns", "_probe_at_ns")

    def __init__(self, *, failures_max: int = FAILURES_MAX, open_ms: int = OPEN_MS) -> None:
        assert failures_max >= 1
        assert open_ms >= 1
        self._failures_max = failures_max
        self._open_ns = open_ms * _NS_PER_MS
        self._failures = 0
        self._probe_at_ns = 0

    @property
    def is_open(self) -> bool:
        """Whether the last ``failures_max`` reports were failures."""
        return self._failures >= self._failures_max

    def allows(self, now_ns: int) -> bool:
        """Whether to ask now; yes while open makes the asker the probe."""
        if not self.is_open:
            return True
        if now_ns < self._probe_at_ns:
            return False
        self._probe_at_ns = now_ns + self._open_ns
        return True

    def succeeded(self) -> None:
        """The server answered."""
        self._failures = 0

    def failed(self, now_ns: int) -> None:
        """The server could not be reached, did not answer in time, or failed."""
        self._failures += 1
        if self.is_open:
            self._probe_at_ns = now_ns + self._open_ns
