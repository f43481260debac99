"""What /api/workers tells, with real processes' memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import pytest

from gateway import clock
from gateway.console import children as module
from gateway.console.children import Crew, Processes
from gateway.ops.metrics import Usage
from supervisor.scoreboard import Field, RowName, Scoreboard

NOBODY = 2**22 + 1  # above the largest process id


@pytest.fixture
def board() -> Scoreboard:
    board = Scoreboard([RowName("worker", 0), RowName("dsp", 1)], 1)
    board.row("worker", 0).take(os.getpid(), clock.now_ns())
    board.row("dsp", 1).take(NOBODY, clock.now_ns())
    return board


def test_a_line_a_child(board: Scoreboard) -> None:
    worker = board.row("worker", 0)
    worker.ready()
    worker.beat(clock.now_ns(), lag_ns=1_260_000)
    worker.set(Field.CALLS, 3)
    worker.set(Field.CAPACITY, 512)
    worker.count("restarts", 2)
    first, second = asyncio.run(Crew(board).children())
    assert (first.kind, first.slot, first.pid, first.state) == ("worker", 0, os.getpid(), "ready")
    assert (first.calls, first.capacity, first.restarts) == (3, 512, 2)
    assert (first.loop_lag_ms, first.tick_ms) == (1.3, None)
    assert first.heartbeat_age_ms >= 0
    assert first.rss_mb is not None
    assert first.rss_mb > 1
    assert (second.kind, second.slot, second.state, second.rss_mb) == ("dsp", 1, "starting", None)
    assert second.tick_ms == 0


def test_load_and_batches_are_those_since_the_last_look(
    board: Scoreboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIGHT_FRESH_NS", -1)
    dsp = board.row("dsp", 1)
    dsp.count("dsp_passes", 100)

    async def look() -> None:
        crew = Crew(board)
        worker, dsp_child = await crew.children()
        assert (worker.cpu_percent, dsp_child.batch_frames) == (None, None)
        dsp.count("dsp_passes", 2)
        dsp.count("dsp_frames", 9)
        worker, dsp_child = await crew.children()
        assert worker.cpu_percent is not None
        assert worker.cpu_percent >= 0
        assert dsp_child.batch_frames == 4.5
        assert (await crew.children())[1].batch_frames is None

    asyncio.run(look())


def test_usage_is_that_of_the_process(board: Scoreboard) -> None:
    usage = asyncio.run(Crew(board).usage())
    assert list(usage) == [os.getpid()]
    mine = usage[os.getpid()]
    assert 0 < mine.pss_bytes <= mine.rss_bytes
    assert mine.descriptors > 2


def test_it_is_read_once_for_many_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Sequence[int]] = []

    def read(pids: Sequence[int]) -> dict[int, Usage]:
        reads.append(pids)
        return {7: Usage(1, 1, 1)}

    monkeypatch.setattr(module, "_read_heavy", read)

    async def ask() -> None:
        processes = Processes()
        found = await asyncio.gather(*(processes.usage([7]) for _ in range(20)))
        assert found == [{7: Usage(1, 1, 1)}] * 20
        assert reads == [[7]]
        monkeypatch.setattr(module, "HEAVY_FRESH_NS", -1)
        await processes.usage([7])
        assert len(reads) == 2

    asyncio.run(ask())
