"""What becomes of a call in which nothing happens: ask, say goodbye, hang up. Pure, told the time.

A caller who says nothing while it is their turn is asked whether they are still there, once; the
next silence as long ends the call. Only words and keys show that somebody is there: a noise puts
the question off and does not answer it. A call that has lasted its time ends whatever is going
on, and one whose last words take longer than any is hung up: so every call ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.conversation.barge_in import BARGE_IN_AFTER_MS
from gateway.conversation.turn import Event, State
from gateway.limits import CLOSING_MS_MAX

_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPolicy:
    """How patient a call is, in milliseconds."""

    barge_in_after_ms: int = BARGE_IN_AFTER_MS
    idle_prompt_ms: int = 15_000
    max_call_ms: int = 3_600_000
    filler_after_ms: int = 2_500


class CallCare:
    """One call's clock: told of each state and of signs of life, it says what is due and when."""

    __slots__ = ("_asked", "_ends_ns", "_policy", "_since_ns", "_state")

    def __init__(self, policy: CallPolicy, now_ns: int) -> None:
        self._policy = policy
        self._ends_ns = now_ns + policy.max_call_ms * _NS_PER_MS
        self._state = State.RESPONDING
        self._since_ns = now_ns
        self._asked = False

    def moved(self, state: State, now_ns: int) -> None:
        """The call is in this state now."""
        self._state, self._since_ns = state, now_ns

    def alive(self, now_ns: int) -> None:
        """The caller said something or pressed a key."""
        self._asked = False
        self._since_ns = now_ns

    @property
    def due_ns(self) -> int | None:
        """When to ask ``due`` next, if the state does not change; None = never again."""
        if self._state is State.ENDED:
            return None
        if self._state is State.CLOSING:
            return self._since_ns + CLOSING_MS_MAX * _NS_PER_MS
        if self._state is State.LISTENING:
            idle_ns = self._since_ns + self._policy.idle_prompt_ms * _NS_PER_MS
            return min(idle_ns, self._ends_ns)
        return self._ends_ns

    def due(self, now_ns: int) -> Event | None:
        """What is to happen now, if anything."""
        due_ns = self.due_ns
        if due_ns is None or now_ns < due_ns:
            return None
        if self._state is State.CLOSING:
            return Event.TIME_UP
        if now_ns >= self._ends_ns:
            return Event.GOING_DOWN
        if self._asked:
            return Event.DESERTED
        self._asked = True
        return Event.IDLE
