"""What /api/workers tells, with real processes' memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

import pytest

from gateway import clock
from gateway.console import children as module
from gateway.console.children import Memory, children
from supervisor.scoreboard import Field, RowName, Scoreboard

NOBODY = 2**22 + 1  # above the largest process id


def test_a_line_a_child() -> None:
    board = Scoreboard([RowName("worker", 0), RowName("dsp", 1)], 1)
    worker = board.row("worker", 0)
    worker.take(os.getpid(), clock.now_ns())
    worker.ready()
    worker.beat(clock.now_ns(), lag_ns=1_260_000)
    worker.set(Field.CALLS, 3)
    worker.set(Field.CAPACITY, 512)
    worker.count("restarts", 2)
    board.row("dsp", 1).take(NOBODY, clock.now_ns())
    first, second = asyncio.run(children(board, Memory()))
    assert (first.kind, first.slot, first.pid, first.state) == ("worker", 0, os.getpid(), "ready")
    assert (first.calls, first.capacity, first.restarts) == (3, 512, 2)
    assert first.loop_lag_ms == 1.3
    assert first.heartbeat_age_ms >= 0
    assert first.rss_mb is not None
    assert first.rss_mb > 1
    assert (second.kind, second.slot, second.state, second.rss_mb) == ("dsp", 1, "starting", None)


def test_memory_is_read_once_for_many_who_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Sequence[int]] = []

    def read(pids: Sequence[int]) -> dict[int, float]:
        reads.append(pids)
        return {7: 1.0}

    monkeypatch.setattr(module, "_rss_mb", read)

    async def ask() -> None:
        memory = Memory()
        found = await asyncio.gather(*(memory.rss_mb([7]) for _ in range(20)))
        assert found == [{7: 1.0}] * 20
        assert reads == [[7]]
        monkeypatch.setattr(module, "RSS_FRESH_NS", -1)
        await memory.rss_mb([7])
        assert len(reads) == 2

    asyncio.run(ask())
