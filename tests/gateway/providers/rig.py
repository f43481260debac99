"""What the tests of providers share: a board's row, a patience for tests, one fake in one loop."""

from __future__ import annotations

import asyncio
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import soxr  # has no py.typed

from gateway.providers.deadlines import Patience
from supervisor.scoreboard import COUNTERS, Row, RowName, Scoreboard
from tests.fakes.openai_http import FakeOpenAI, Script, serving

#: As short as a budget can be, so that what waits for its end does not wait long.
HASTE = Patience(budget_ms=1_200, attempt_ms=600, stall_ms=300)


CLIP = Path(__file__).parents[2] / "fixtures" / "clips" / "en" / "goforward.wav"


def go_forward() -> bytes:
    """Somebody says "go forward ten meters", as 16 kHz PCM16."""
    with wave.open(str(CLIP)) as clip:
        pcm = clip.readframes(clip.getnframes())
        samples = soxr.resample(np.frombuffer(pcm, "<i2"), clip.getframerate(), 16_000)
    found: bytes = samples.astype("<i2").tobytes()
    return found


def make_row() -> Row:
    return Scoreboard([RowName("worker", 0)], 1).row("worker", 0)


def counted(row: Row) -> dict[str, int]:
    """Every counter that is not zero."""
    return {name: row.counter(name) for name in COUNTERS if row.counter(name)}


def with_fake(check: Callable[[FakeOpenAI], Awaitable[None]], script: Script | None = None) -> None:
    async def go() -> None:
        async with serving(script) as fake:
            await asyncio.wait_for(check(fake), 30)

    asyncio.run(go())


async def collected(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in stream])
