"""What ends a turn, in whole calls: the words, the voice, and a turn model in doubt."""

from __future__ import annotations

import pytest

from gateway import clock
from gateway.conversation.turn import State
from tests.gateway.test_pipeline import Arenas, greeted, parrot, perform
from tests.simulation.stage import QUIET, Call

FAINT = (1.0, 0.2 * 10 ** (-40 / 20))  # 40 dB below that voice


def test_a_sentence_whose_voice_does_not_fall_may_go_on_a_little_later(
    make_arena: Arenas,
) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        await call.say(600, pause_ms=820)
        await call.say(600, pause_ms=820, falls=True)

    call = perform(make_arena, ["One.", "One and two."], scene)
    assert call.heard("assistant")[1:] == ["You said One and two.."]


@pytest.mark.parametrize("tail_ms", [0, 60, 180])
def test_a_pause_begins_with_the_last_sound_whatever_the_voice_detector_says(
    make_arena: Arenas, tail_ms: int
) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        await call.say(600, falls=True)
        call.speaking = FAINT
        await call.wait(tail_ms)
        call.speaking = QUIET
        await call.wait(700 - tail_ms)
        assert call.pipeline.state is State.CALLER
        await call.wait(80)
        assert call.pipeline.state is not State.CALLER

    perform(make_arena, ["One."], scene)


def test_whoever_goes_on_at_the_last_moment_is_waited_for(make_arena: Arenas) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        await call.say(600, pause_ms=720, falls=True)
        await call.say(600, falls=True)
        await greeted(call)
        assert parrot(call).told_heard == [], "their turn was never taken to be over"

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
