"""Whole calls from a seed, with everything in them that can go wrong; what must hold in each.

``make simulate SEEDS=10000`` runs more of them. A failure names its seed; the same seed is the
same call: ``make simulate SEED=123``.
"""

from __future__ import annotations

import os
import random

import pytest

from gateway import clock
from gateway.conversation.care import CallPolicy
from gateway.conversation.turn import State
from gateway.providers.base import Speech
from gateway.responders.chain import Chain, Stage
from tests.gateway.responders.reports import Reports
from tests.simulation.chaos import (
    VOICES,
    ChaosResponder,
    ChaosSpeechToText,
    ChaosTextToSpeech,
    converse,
)
from tests.simulation.stage import Call, ShortCut
from tests.simulation.virtual import run

FIRST = int(os.environ.get("SEED", "0"))
SEEDS = 1 if "SEED" in os.environ else int(os.environ.get("SEEDS", "100"))
BATCH = 10
POLICY = CallPolicy(idle_prompt_ms=6_000, max_call_ms=20_000, filler_after_ms=1_000)
LAST_MS_MAX = 32_000


class Judge:
    """Looks at every frame that the carrier is sent, and at every report."""

    def __init__(self, call: Call, tts: ChaosTextToSpeech) -> None:
        self._call, self._tts = call, tts
        self._cut_at = -1  # the last clause of a reply that was cut
        self._last = -1  # the clause that was sent last since the last clear
        call.carrier.on_frame = self.frame
        call.carrier.on_clear = self.clear
        interrupted = call.witness.interrupted

        def cut(heard_text: str) -> None:
            self._cut_at = tts.begun - 1
            words = iter(call.heard("assistant")[-1].split())
            assert all(word in words for word in heard_text.split()), "it was not said so"
            interrupted(heard_text)

        call.witness.interrupted = cut  # type: ignore[method-assign]

    def frame(self, level: float) -> None:
        assert not self._call.over, "audio after the end"
        clause = self._clause(level)
        if clause is not None:
            assert clause > self._cut_at, "a reply that was cut is heard"
            assert clause >= self._last, "two voices"
            self._last = clause

    def clear(self) -> None:
        self._last = -1

    def look(self) -> None:
        player = self._call.player
        heard_ms, sent_ms = player.heard_ms(clock.now_ns()), player._sent * 20
        assert heard_ms <= sent_ms, "heard more than was sent"
        assert not self._call.heard("crashed")

    def _clause(self, level: float) -> int | None:
        """The latest clause that is spoken in the voice of this level; None for silence."""
        if level < VOICES[0] / 1.2:
            return None
        voice = min(range(len(VOICES)), key=lambda n: abs(VOICES[n] / level - 1))
        return (self._tts.begun - 1 - voice) // len(VOICES) * len(VOICES) + voice


async def one_call(seed: int) -> str:
    draw = random.Random(seed)
    stt, tts = ChaosSpeechToText(draw), ChaosTextToSpeech(draw)
    stages = [Stage(str(n), ChaosResponder(draw)) for n in range(draw.randint(1, 2))]
    responder = Chain(stages, Reports())
    call = Call(ShortCut(), Speech(stt, tts), responder, language="auto", policy=POLICY)
    judge = Judge(call, tts)
    delays = draw.choice([(20.0,), (20.0, 400.0), (20.0, None), (None,)])
    call.carrier.mark_delay_ms = lambda: draw.choice(delays)
    call.each_tick = judge.look
    try:
        await converse(call, draw)
        if draw.random() < 0.5:  # the caller stays, and says nothing more
            await call.until(State.ENDED, POLICY.max_call_ms + LAST_MS_MAX)
    finally:
        await call.end()
    sent = len(call.carrier.sent)
    await call.wait(2_000)
    assert len(call.carrier.sent) == sent
    assert call.heard("transfer") == [] or not call.witness.hung_up, "ended twice"
    return " ".join(kind for kind, _ in call.told)


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, BATCH))
def test_calls(first: int) -> None:
    for seed in range(first, min(first + BATCH, FIRST + SEEDS)):
        try:
            run(one_call(seed))
        except BaseException as error:
            error.add_note(f"make simulate SEED={seed}")
            raise


def test_a_seed_is_a_call() -> None:
    first, again, other = (run(one_call(seed)) for seed in (7, 7, 8))
    assert first == again != other
