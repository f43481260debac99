"""Health as pure functions of the board: each child's state, and whether a call can be taken."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from audio.format import NS_PER_MS
from gateway.admission import SENTENCES, Admits
from gateway.settings import Settings
from supervisor.placement import UNPLACEABLE_AFTER_MS, candidates
from supervisor.scoreboard import Field, Phase, Row, Scoreboard

State = Literal["starting", "ready", "draining", "exited", "parked", "spare", "hung"]

#: A child that serves and is silent for this long is hung; one that starts has more time.
HUNG_AFTER_NS = 1_000_000_000
START_TIMEOUT_NS = 30_000_000_000

_STATES: dict[int, State] = {
    Phase.STARTING: "starting",
    Phase.READY: "ready",
    Phase.DRAINING: "draining",
    Phase.EXITED: "exited",
    Phase.PARKED: "parked",
    Phase.SPARE: "spare",
}
_NOT_RUNNING = frozenset({"exited", "parked", "spare"})


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the gateway can take a call now; if not why, and what an operator should know.

    ``degraded``: a child that carries calls is not restarted any more, the others do its work.
    """

    ready: bool
    degraded: bool
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]


def heartbeat_age_ns(row: Row, now_ns: int) -> int:
    """Time since a child's last heartbeat; 0 for one that was never started."""
    beat_ns = row.get(Field.HEARTBEAT_NS)
    return max(0, now_ns - beat_ns) if beat_ns else 0


def child_state(row: Row, now_ns: int) -> State:
    """What a child says about itself, or ``hung`` when it has said nothing for too long."""
    state = _STATES.get(row.get(Field.PHASE), "exited")
    if state in _NOT_RUNNING:
        return state
    limit_ns = START_TIMEOUT_NS if state == "starting" else HUNG_AFTER_NS
    return "hung" if heartbeat_age_ns(row, now_ns) > limit_ns else state


def readiness(
    board: Scoreboard, settings: Settings, now_ns: int, warnings: Iterable[str] = ()
) -> Readiness:
    """Judge the whole gateway; ``warnings`` are added to those found here."""
    reasons = [
        *_worker_reasons(board, now_ns),
        *_absence(board, "dsp", now_ns, "no DSP process is ready"),
    ]
    if settings.needs_speech_server:
        reasons += _absence(board, "speech", now_ns, "the local speech server is not ready")
    return Readiness(
        ready=not reasons,
        degraded=_is_degraded(board),
        reasons=tuple(reasons),
        warnings=(*_warnings(board, settings, now_ns), *warnings),
    )


def who_may_call(settings: Settings) -> Iterator[str]:
    """What wires without credentials do, in a sentence for the operator."""
    if not settings.bare_wires:
        return
    *first, last = settings.bare_wires
    wires = f"{', '.join(first)} and {last}" if first else last
    if settings.insecure_open:
        yield f"INSECURE_OPEN is set: anybody may call without credentials ({wires})"
    else:
        yield f"without credentials only this machine may call ({wires})"


def _worker_reasons(board: Scoreboard, now_ns: int) -> list[str]:
    ready = [row for row in board.rows("worker") if child_state(row, now_ns) == "ready"]
    if not ready:
        return ["no worker is ready"]
    takes = {found.place: found.takes for found in candidates(board, now_ns)}
    if any(takes[row.name.index] for row in ready):
        return []
    why = (f"{_name(row)}: {_why_closed(row, now_ns)}" for row in ready)
    return ["the gateway is full", *why]


def _why_closed(row: Row, now_ns: int) -> str:
    """Why a worker that is ready takes no call."""
    if heartbeat_age_ns(row, now_ns) > UNPLACEABLE_AFTER_MS * NS_PER_MS:
        return "it is silent"
    return SENTENCES.get(row.get(Field.ADMITS), SENTENCES[Admits.NO_SLOT])


def _is_degraded(board: Scoreboard) -> bool:
    carriers = (*board.rows("worker"), *board.rows("dsp"))
    return any(row.get(Field.PHASE) == Phase.PARKED for row in carriers)


def _name(row: Row) -> str:
    return f"{row.name.kind}-{row.name.index}"


def _absence(board: Scoreboard, kind: str, now_ns: int, reason: str) -> list[str]:
    found = any(child_state(row, now_ns) == "ready" for row in board.rows(kind))
    return [] if found else [reason]


def _warnings(board: Scoreboard, settings: Settings, now_ns: int) -> list[str]:
    warnings = list(who_may_call(settings))
    for row in board.rows():
        state = child_state(row, now_ns)
        if state in {"hung", "exited", "parked"}:
            warnings.append(f"{_name(row)} is {state}")
        elif state == "ready" and row.name.kind == "worker" and row.get(Field.ADMITS) in SENTENCES:
            warnings.append(f"{_name(row)} takes no calls: {_why_closed(row, now_ns)}")
    return warnings
