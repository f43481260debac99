"""A worker shows the console which of its calls are live and how loud they are, once a second."""

from __future__ import annotations

from collections.abc import Sequence

from audio.levels import Meter
from gateway.ops import live
from gateway.ops.records import RecordsSender
from gateway.session import Session


def report(sessions: Sequence[Session], meter: Meter, records: RecordsSender) -> None:
    """Bring every call's counts up to date, and show them all."""
    for session in sessions:
        session.report()
    if not sessions:
        return
    slots = [session.slot for session in sessions]
    levels = zip(sessions, meter.read(slots), strict=True)
    calls = [live.CallSeen(session.call_id, *level) for session, level in levels]
    for packet in live.seen(calls):
        records.report(packet)
