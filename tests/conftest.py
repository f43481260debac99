"""For all tests: hypothesis profiles, and arenas that are unmapped whatever a test has left."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator

# Read when numpy is imported: two BLAS threads on two busy cores are slower than one.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import pytest
from hypothesis import HealthCheck, settings

from audio.arena import Arena

# Shared machines stall: no deadlines. `make verify` looks twenty times as long.
settings.register_profile(
    "test",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    max_examples=50,
)
settings.register_profile("verify", settings.get_profile("test"), max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))

# A shell starts what runs in the background without these, and so would be all that we start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """What was imported stays: a full collection, which many a test asks for, passes over it."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def make_arena() -> Iterator[Callable[[int], Arena]]:
    arenas: list[Arena] = []

    def make(slots: int) -> Arena:
        arena = Arena.create(slots)
        arenas.append(arena)
        return arena

    yield make
    gc.collect()
    for arena in arenas:
        arena.close()
