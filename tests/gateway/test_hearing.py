"""What ends a turn, in whole calls: the words, the voice, and a turn model in doubt."""

from __future__ import annotations

import pytest

from gateway import clock
from tests.gateway.test_pipeline import Arenas, greeted, perform
from tests.simulation.stage import Call


def test_a_sentence_whose_voice_does_not_fall_may_go_on_a_little_later(
    make_arena: Arenas,
) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        await call.say(600, pause_ms=820)
        await call.say(600, pause_ms=820, falls=True)

    call = perform(make_arena, ["One.", "One and two."], scene)
    assert call.heard("assistant")[1:] == ["You said One and two.."]


class Doubter:
    """A turn model that answers in time, or too late."""

    def __init__(self, latency_ms: float, *, goes_on: bool) -> None:
        self._latency_ms, self._goes_on = latency_ms, goes_on
        self.asked_ms: list[int] = []

    async def goes_on(self, pcm: bytes) -> bool:
        self.asked_ms.append(len(pcm) // 32)
        await clock.sleep_ms(self._latency_ms)
        return self._goes_on

    async def aclose(self) -> None:
        pass


@pytest.mark.parametrize(
    ("latency_ms", "goes_on", "falls", "answers"),
    [
        (50, True, False, ["You said One and two.."]),  # waited for
        (50, False, False, ["You said One..", "You said One and two.."]),
        (2_000, True, False, ["You said One..", "You said One and two.."]),  # too late
        (50, True, True, ["You said One..", "You said One and two.."]),  # no doubt, not asked
    ],
)
def test_a_turn_model_is_asked_in_doubt(
    make_arena: Arenas, latency_ms: float, *, goes_on: bool, falls: bool, answers: list[str]
) -> None:
    doubter = Doubter(latency_ms, goes_on=goes_on)

    async def scene(call: Call) -> None:
        await greeted(call)
        await call.say(600, pause_ms=1_100, falls=falls)
        if len(answers) == 2:
            await greeted(call)
        await call.say(600, pause_ms=1_100, falls=True)
        await greeted(call)

    call = perform(make_arena, ["One.", "One and two."], scene, turn_model=doubter)
    assert call.heard("assistant")[1:] == answers
    assert len(doubter.asked_ms) == (not falls)
    # The pre-roll, what was said, and 200 ms of the pause, however late the text was there.
    assert all(asked in range(1_000, 1_130) for asked in doubter.asked_ms)
