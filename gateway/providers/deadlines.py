"""How long a provider may take, and what is done when it fails. Pure, told the time.

A caller waits. So a stage of a turn (speech-to-text, chat, text-to-speech) has one budget until
the first thing comes of it: the text, the first words, the first audio. Everything that is tried
(an attempt, a second one, the next server) takes place within it; a :class:`Plan` says what is
next. After the first thing only a stall ends a stream.

* A server that fails is followed by the next one. One attempt may then not use up the budget.
* Once more at the same server only for what is over in an instant and likely not to repeat: a
  connection that broke (a kept one that the server had closed), a 5xx, a 429 that names a wait.
  A timeout is not repeated: the caller has waited already.
* ``Retry-After`` is kept when what it leaves of the budget is worth it and nobody else can be
  asked; else it only means no.
* Retries are a fifth of the requests at most (:class:`RetryAllowance`): when everything fails they
  must not double the load of a server that is on its knees.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.errors import ProviderFault

NS_PER_MS = 1_000_000

CONNECT_TIMEOUT_MS = 2_000
#: Less than this is no attempt: no server answers in it over a real network.
ATTEMPT_MS_MIN = 500
#: The pause before the second attempt where the server named none.
RETRY_PAUSE_MS = 100
#: A retry "in an instant": worth it even if another server could be asked.
INSTANT_MS = 250
_ONCE_MORE: frozenset[ProviderFault] = frozenset({"connection", "server"})


@dataclass(frozen=True, slots=True)
class Patience:
    """One stage: until its first result, an attempt of several, between two later results."""

    budget_ms: int
    attempt_ms: int
    stall_ms: int

    def __post_init__(self) -> None:
        assert ATTEMPT_MS_MIN <= self.attempt_ms <= self.budget_ms
        assert self.stall_ms >= 1


# The budgets of a turn. Nobody fills the silence while speech-to-text is waited for, but our own
# Whisper on a busy machine is the slowest that is known.
STT_PATIENCE = Patience(budget_ms=6_000, attempt_ms=3_000, stall_ms=2_000)
CHAT_PATIENCE = Patience(budget_ms=5_000, attempt_ms=3_000, stall_ms=3_000)
TTS_PATIENCE = Patience(budget_ms=5_000, attempt_ms=2_500, stall_ms=2_000)


@dataclass(frozen=True, slots=True)
class Step:
    """Ask this server (an index), after a pause, for at most so long."""

    server: int
    wait_ms: int
    within_ms: int


class Plan:
    """One request's way through the servers of its stage."""

    __slots__ = ("_ends_ns", "_patience", "_repeated", "_server", "_servers")

    def __init__(self, patience: Patience, servers: int, now_ns: int) -> None:
        assert servers >= 1
        self._patience = patience
        self._servers = servers
        self._ends_ns = now_ns + patience.budget_ms * NS_PER_MS
        self._server = 0
        self._repeated = False

    def left_ms(self, now_ns: int) -> int:
        """What is left of the budget."""
        return max(0, (self._ends_ns - now_ns) // NS_PER_MS)

    def first(self, now_ns: int) -> Step:
        """Where to begin."""
        return self._step(0, now_ns)

    def after(
        self,
        fault: ProviderFault,
        retry_after_ms: int | None,
        now_ns: int,
        *,
        may_retry: bool,
    ) -> Step | None:
        """What to do after a failure; None: give up."""
        pause_ms = self._pause_ms(fault, retry_after_ms)
        if may_retry and pause_ms is not None and self._is_worth(pause_ms, now_ns):
            self._repeated = True
            return self._step(pause_ms, now_ns)
        return self._next_server(now_ns)

    @property
    def _is_last(self) -> bool:
        return self._server == self._servers - 1

    def _pause_ms(self, fault: ProviderFault, retry_after_ms: int | None) -> int | None:
        """How long to pause before the same server is asked again; None: it is not."""
        if self._repeated:
            return None
        if fault == "limited":
            return retry_after_ms
        if fault in _ONCE_MORE:
            return RETRY_PAUSE_MS if retry_after_ms is None else retry_after_ms
        return None

    def _is_worth(self, pause_ms: int, now_ns: int) -> bool:
        if not self._is_last and pause_ms > INSTANT_MS:
            return False
        return pause_ms + ATTEMPT_MS_MIN <= self.left_ms(now_ns)

    def _next_server(self, now_ns: int) -> Step | None:
        if self._is_last or self.left_ms(now_ns) < ATTEMPT_MS_MIN:
            return None
        self._server += 1
        self._repeated = False
        return self._step(0, now_ns)

    def _step(self, wait_ms: int, now_ns: int) -> Step:
        left_ms = self.left_ms(now_ns) - wait_ms
        within_ms = left_ms if self._is_last else min(left_ms, self._patience.attempt_ms)
        return Step(self._server, wait_ms, within_ms)


class RetryAllowance:
    """Lets a fifth of the requests be retries: each request earns a share of one."""

    __slots__ = ("_saved",)

    PER_REQUEST = 20
    A_RETRY = 100
    SAVED_MAX = 1_000

    def __init__(self) -> None:
        self._saved = self.A_RETRY

    def requested(self) -> None:
        """A request is made that is no retry."""
        self._saved = min(self.SAVED_MAX, self._saved + self.PER_REQUEST)

    @property
    def allows(self) -> bool:
        """Whether one more retry is within the allowance."""
        return self._saved >= self.A_RETRY

    def retried(self) -> None:
        """A retry is made."""
        self._saved -= self.A_RETRY
