"""Listeners: one that follows sees what the table holds, one that does not costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import orjson
import pytest

from gateway.console import feed as module
from gateway.console.feed import LISTENERS_MAX, QUEUE_MAX, Feed
from gateway.console.live import LiveCalls
from gateway.ops.records import CallEnded, CallStarted


async def facts() -> dict[str, object]:
    return {"fact": 1}


async def event(stream: AsyncGenerator[bytes, None]) -> tuple[str, Any]:
    name, data = (await anext(stream)).decode().rstrip("\n").split("\n")
    return name.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))


def test_changes_follow_the_whole() -> None:
    async def run() -> None:
        live = LiveCalls()
        feed = Feed(live, facts)
        live.happened(0, CallStarted("CA1", 1, "MZ1"), 0)
        async with aclosing(feed.listen()) as stream:
            assert await anext(stream) == b": hello\n\n"
            name, told = await event(stream)
            assert (name, told["fact"]) == ("whole", 1)
            assert [call["call_id"] for call in told["calls"]] == ["CA1"]
            live.happened(0, CallStarted("CA2", 1, "MZ2"), 0)
            live.happened(0, CallEnded("CA1", 1, "stopped", 1), 0)
            await feed.tell()
            name, told = await event(stream)
            assert (name, told["gone"]) == ("part", ["CA1"])
            assert [call["call_id"] for call in told["calls"]] == ["CA2"]
            assert [level[0] for level in told["levels"]] == ["CA2"]

    asyncio.run(run())


def test_who_cannot_follow_is_told_everything_again() -> None:
    async def run() -> None:
        live = LiveCalls()
        feed = Feed(live, facts)
        async with aclosing(feed.listen()) as slow:
            await anext(slow)
            await event(slow)
            for n in range(3 * QUEUE_MAX):
                live.happened(0, CallStarted(f"CA{n}", 1, "MZ"), 0)
                await feed.tell()
            names, calls = [], set[str]()
            while len(calls) < 3 * QUEUE_MAX:
                name, told = await event(slow)
                names.append(name)
                calls |= {call["call_id"] for call in told["calls"]}
            assert len(names) <= QUEUE_MAX
            assert names[0] == "whole"

    asyncio.run(run())


def test_the_number_of_listeners_is_bounded_and_leaving_makes_room() -> None:
    async def run() -> None:
        feed = Feed(LiveCalls(), facts)
        streams = [feed.listen() for _ in range(LISTENERS_MAX)]
        for stream in streams:
            await anext(stream)
        assert feed.is_full
        await streams.pop().aclose()
        assert not feed.is_full
        feed.close()
        assert feed.is_full
        for stream in streams:
            assert len([event async for event in stream]) <= QUEUE_MAX

    asyncio.run(run())


def test_it_looks_by_itself_and_forgets_who_is_not_told_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "EVERY_MS", 1)

    async def run() -> None:
        live = LiveCalls()
        live.happened(0, CallStarted("CA1", 1, "MZ1"), 0)  # at the dawn of time
        feed = Feed(live, facts)
        running = asyncio.create_task(feed.run())
        async with aclosing(feed.listen()) as stream:
            await anext(stream)
            names = [(await event(stream))[0] for _ in range(3)]
            assert names == ["whole", "part", "part"]
        assert len(live) == 0
        running.cancel()

    asyncio.run(run())
