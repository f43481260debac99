"""The one place that reads the clock or sleeps; everything pure is told the time."""

from __future__ import annotations

import asyncio
import time

NS_PER_MS = 1_000_000


def now_ns() -> int:
    """Monotonic time in nanoseconds; only differences mean anything."""
    return time.monotonic_ns()


def wall_ms() -> int:
    """Wall time in milliseconds since 1970, for records; never for timers."""
    return time.time_ns() // NS_PER_MS


async def sleep_ms(duration_ms: float) -> None:
    """Sleep on the running loop."""
    await asyncio.sleep(duration_ms / 1000)
