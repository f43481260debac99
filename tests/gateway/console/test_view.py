"""What the page is told beside the database."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway import clock
from gateway.console.database import Database
from gateway.console.latency import MS_PER_MINUTE, Minute
from gateway.console.view import View
from gateway.ops.records import CallStarted, Record, TurnAnswered
from gateway.ops.store import RecordsStore


def test_the_version_rises_when_the_database_has_something_new() -> None:
    view = View()
    view.happened(0, CallStarted("CA1", 1, "MZ1"))
    assert view.facts()["version"] == 0
    view.stored()
    assert view.facts()["version"] == 1
    assert [call.call_id for call in view.live] == ["CA1"]


def test_answers_are_in_the_hour() -> None:
    view = View()
    for response_ms in (400, 600, -1):  # -1: the stage did not happen
        view.happened(0, TurnAnswered("CA1", 1, 1, 1, 1, 1, response_ms))
    whole = view.facts()["hour"]
    assert isinstance(whole, Minute)
    assert (whole.count, whole.p50_ms) == (2, 400)


async def recalled(path: Path) -> View:
    view, database = View(), Database(path)
    await view.recall(database)
    await database.close()
    return view


def test_the_hour_outlives_the_console(tmp_path: Path) -> None:
    now_ms = clock.wall_ms()
    ages_min = {"CA1": 90, "CA2": 59, "CA3": 1}  # the first is not of this hour
    records = []
    for call_id, age in ages_min.items():
        at_ms = now_ms - age * MS_PER_MINUTE
        answered = TurnAnswered(call_id, at_ms, -1, -1, -1, -1, 10 * age)
        nothing = TurnAnswered(call_id, at_ms, 1, -1, -1, -1, -1)
        records += [
            Record(at_ms * 1_000_000, CallStarted(call_id, at_ms, "MZ1")),
            Record(at_ms * 1_000_000 + 1, answered),
            Record(at_ms * 1_000_000 + 2, nothing),
        ]
    store = RecordsStore(tmp_path / "records.db")
    store.write(records)
    store.close()
    minutes = asyncio.run(recalled(tmp_path / "records.db")).latency.minutes(now_ms)
    assert [(minute.count, minute.p50_ms) for minute in minutes] == [(1, 590), (1, 10)]


def test_a_database_that_cannot_be_read_has_no_hour(tmp_path: Path) -> None:
    (tmp_path / "records.db").mkdir()
    view = asyncio.run(recalled(tmp_path / "records.db"))
    assert view.latency.minutes(clock.wall_ms()) == []
