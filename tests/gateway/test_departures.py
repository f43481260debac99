"""Calls that end from our side: the carrier first, the stream always, each once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.departures import Departures, Leg
from gateway.errors import ProviderError
from gateway.ops.log import Log, get_logger
from supervisor.scoreboard import RowName, Scoreboard

LEG = Leg("twilio", "CA1", "MZ1", get_logger(__name__))
PLAIN = Leg("plain", "c1", "c1", get_logger(__name__))


class Scene:
    """A carrier, the streams, and what was done in which order."""

    def __init__(self, fault: str = "") -> None:
        self.done: list[str] = []
        self.fault = fault
        self.row = Scoreboard([RowName("worker", 0)], 1).row("worker", 0)
        self.departures = Departures({"twilio": self}, self.row, self._end)

    async def hang_up(self, call_id: str, log: Log) -> None:
        del log
        await self._act(f"hang up {call_id}")

    async def transfer(self, call_id: str, number: str, log: Log) -> None:
        del log
        await self._act(f"transfer {call_id} to {number}")

    async def aclose(self) -> None: ...

    def told(self, result: str) -> None:
        self.done.append(f"told {result}")

    def _end(self, stream_id: str, reason: str) -> None:
        self.done.append(f"end {stream_id}: {reason}")

    async def _act(self, deed: str) -> None:
        await asyncio.sleep(0)
        self.done.append(deed)
        if self.fault:
            raise ProviderError(self.fault)

    def play(self, *deeds: Callable[[], None]) -> list[str]:
        async def scene() -> None:
            for deed in deeds:
                deed()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*others)

        asyncio.run(scene())
        return self.done


def test_the_carrier_is_told_first() -> None:
    scene = Scene()
    done = scene.play(lambda: scene.departures.hang_up(LEG))
    assert done == ["hang up CA1", "end MZ1: hang-up"]


def test_a_call_is_handed_over_and_told_of() -> None:
    scene = Scene()
    done = scene.play(lambda: scene.departures.transfer(LEG, "+1555", scene.told))
    assert done == ["transfer CA1 to +1555", "told done", "end MZ1: transfer"]


@pytest.mark.parametrize("fault", ["it is down"])
def test_the_stream_ends_though_the_carrier_fails(fault: str) -> None:
    scene = Scene(fault)
    scene.play(lambda: scene.departures.hang_up(LEG))
    done = scene.play(lambda: scene.departures.transfer(LEG, "+1555", scene.told))
    assert done[1] == "end MZ1: hang-up"
    assert done[3:] == [f"told {fault}", "end MZ1: transfer"]
    assert scene.row.counter("call_control_errors") == 2


def test_where_no_carrier_can_be_told_the_stream_is_the_call() -> None:
    scene = Scene()
    done = scene.play(lambda: scene.departures.hang_up(PLAIN))
    assert done == ["end c1: hang-up"]
    assert not scene.departures.can_transfer("plain")
    scene.play(lambda: scene.departures.transfer(PLAIN, "+1555", scene.told))
    assert done[1:] == ["told this wire cannot", "end c1: transfer"]


def test_a_call_ends_once() -> None:
    scene = Scene()
    done = scene.play(*[lambda: scene.departures.hang_up(LEG)] * 3)
    assert done == ["hang up CA1", "end MZ1: hang-up"]
