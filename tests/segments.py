"""Shared memory that has a name: ours never has one for longer than it takes to make it."""

from __future__ import annotations

import os
import time

WAIT_S = 5.0


def names() -> set[str]:
    """Named segments as Python makes them, whoever's they are."""
    return {name for name in os.listdir("/dev/shm") if name.startswith("psm_")}


def left_since(before: set[str]) -> set[str]:
    """Names that have come and stay; other tests make segments at the same time."""
    deadline = time.monotonic() + WAIT_S
    new = names() - before
    while new and time.monotonic() < deadline:
        time.sleep(0.01)
        new &= names()
    return new
