"""An hour of calls before the console was started, as its database has it."""

from __future__ import annotations

import random
from pathlib import Path

from gateway import clock
from gateway.ops.records import CallEnded, CallStarted, Event, Record, TurnAnswered
from gateway.ops.store import RecordsStore

MINUTES = 58
NS_PER_MS = 1_000_000
MS_PER_MINUTE = 60_000


def an_hour(data_dir: Path) -> None:
    """Some answers in each of the last MINUTES minutes but the newest."""
    dice = random.Random(8)
    store = RecordsStore(data_dir / "records.db")
    now_ms = clock.wall_ms()
    for ago in range(MINUTES, 0, -1):
        store.write(_a_call(f"past-{ago}", now_ms - ago * MS_PER_MINUTE, dice))
    store.close()


def _a_call(call_id: str, at_ms: int, dice: random.Random) -> list[Record]:
    answers = [round(dice.lognormvariate(6.75, 0.22)) for _ in range(dice.randint(2, 6))]
    events: list[Event] = [
        CallStarted(call_id, at_ms, call_id, "twilio", "message_taker", "", "", "en"),
        *(TurnAnswered(call_id, at_ms, 720, 700, 730, ms - 20, ms) for ms in answers),
        CallEnded(call_id, at_ms + 30_000, "stopped", 30_000),
    ]
    return [Record(at_ms * NS_PER_MS + n, event) for n, event in enumerate(events)]
