"""An event loop whose time leaps to the next timer: a call of a minute takes milliseconds.

``run`` also puts ``gateway.clock`` on the loop's time, so that everything that reads the one clock
of the gateway lives in it. A loop in which nothing can ever happen again says so.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import TypeVar

import pytest
from typing_extensions import override

from gateway import clock

T = TypeVar("T")
_BEGIN_NS = 1_000_000_000


class _Leaper(selectors.SelectSelector):
    now_ns = _BEGIN_NS
    turns = 0

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everybody waits, and for nothing that could happen")
        self.turns += 1
        self.now_ns += round(max(0.0, timeout) * 1e9) + (timeout > 0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time stands still while anything is to be done."""

    def __init__(self) -> None:
        self._leaper = _Leaper()
        super().__init__(self._leaper)

    @override
    def time(self) -> float:
        return self._leaper.now_ns / 1e9

    def now_ns(self) -> int:
        return self._leaper.now_ns

    @property
    def turns(self) -> int:
        """How often it went around."""
        return self._leaper.turns


def run(play: Coroutine[None, None, T]) -> T:
    """Run to the end in virtual time; a task that is left behind is an error."""
    with (
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
        pytest.MonkeyPatch.context() as patch,
    ):
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        patch.setattr(clock, "now_ns", loop.now_ns)
        return runner.run(_alone(play))


async def _alone(play: Coroutine[None, None, T]) -> T:
    result = await play
    for _ in range(3):
        await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, left
    return result
