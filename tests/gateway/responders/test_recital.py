"""The recital speaks half of the time, in a rhythm that no delay moves."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from audio.arena import Arena
from audio.format import FRAME_MS, FRAME_NS, NS_PER_MS, TTS_FRAME_BYTES
from gateway import clock
from gateway.limits import MESSAGE_MS_MAX
from gateway.player import Player
from gateway.reception import Reception
from gateway.responders.recital import PASSAGE_MS, PERIOD_MS, Recital, passage, phase_ms
from gateway.responders.registry import Staff
from gateway.settings import load_settings
from supervisor.scoreboard import RowName, Scoreboard
from tests.gateway.test_player import Stage, play

CALL = "CA0123"


def fail(error: BaseException) -> None:
    pytest.fail(f"crashed: {error!r}")


def test_the_passage_is_audible_throughout_and_never_clips() -> None:
    samples = np.frombuffer(b"".join(passage()), "<i2").astype(np.float64)
    assert len(samples) == PASSAGE_MS * 24
    levels = np.sqrt((samples.reshape(-1, TTS_FRAME_BYTES // 2) ** 2).mean(axis=1)) / 32768
    assert levels.min() > 10 ** (-35 / 20)
    assert np.abs(samples).max() < 32767 / 2
    assert len(set(passage())) == 1, "five syllables a clause, one of each vowel"
    assert passage() is passage(), "made once"


@given(st.text())
def test_a_phase_is_within_a_period(call_id: str) -> None:
    assert 0 <= phase_ms(call_id) < PERIOD_MS
    assert phase_ms(call_id) == phase_ms(call_id)


def test_phases_are_spread() -> None:
    phases = np.array([phase_ms(f"CA{n}") for n in range(2000)])
    speaking = [((phases + at) % PERIOD_MS < PASSAGE_MS).mean() for at in range(0, PERIOD_MS, 100)]
    assert min(speaking) > 0.45
    assert max(speaking) < 0.55


@pytest.fixture
def stage_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[Stage], None]:
    """Lets the gateway's clock tell the time of a stage."""

    def follow(stage: Stage) -> None:
        async def sleep_ms(duration_ms: float) -> None:
            until_ns = stage.now_ns + duration_ms * NS_PER_MS
            while stage.now_ns < until_ns:  # noqa: ASYNC110 - the stage's time is no event
                await asyncio.sleep(0)

        monkeypatch.setattr(clock, "now_ns", lambda: stage.now_ns)
        monkeypatch.setattr(clock, "sleep_ms", sleep_ms)

    return follow


def onsets_ms(stage: Stage, begin_ns: int) -> list[int]:
    """When each utterance begins: audio after more than a second without."""
    onsets, last_ns = [], 0
    for at_ns, message in stage.messages:
        if message["type"] == "audio_out":
            if at_ns - last_ns > 1000 * NS_PER_MS:
                onsets.append((at_ns - begin_ns) // NS_PER_MS)
            last_ns = at_ns
    return onsets


def test_utterances_begin_a_period_apart_whenever_the_last_was_heard(
    make_arena: Callable[[int], Arena], stage_time: Callable[[Stage], None]
) -> None:
    async def scene(stage: Stage) -> None:
        stage_time(stage)
        recital = Recital(stage.player, CALL, fail)
        stage.player.on_heard = recital.heard_all
        begin_ns = stage.now_ns
        recital.start()
        await stage.pass_time((phase_ms(CALL) + 2 * PERIOD_MS) // FRAME_MS + 5)
        first, second, third = onsets_ms(stage, begin_ns)
        assert first - phase_ms(CALL) <= 2 * FRAME_MS
        assert abs(second - first - PERIOD_MS) <= FRAME_MS
        assert abs(third - second - PERIOD_MS) <= FRAME_MS
        await recital.aclose()
        sent_ms = len(stage.audio()) // 32
        await stage.pass_time(100)
        # Of the third only what had been fed is heard.
        assert 2 * PASSAGE_MS <= len(stage.audio()) // 32 <= sent_ms + 1000
        assert len(stage.marks()) >= 2 * PASSAGE_MS // 500

    play(make_arena(1), scene)


def test_what_is_fed_at_once_leaves_in_messages_of_100_ms(
    make_arena: Callable[[int], Arena], stage_time: Callable[[Stage], None]
) -> None:
    async def scene(stage: Stage) -> None:
        stage_time(stage)
        recital = Recital(stage.player, CALL, fail)
        recital.start()
        await stage.pass_time((phase_ms(CALL) + PASSAGE_MS) // FRAME_MS + 5)
        lengths = [
            len(base64.b64decode(message["payload"])) // 32
            for _, message in stage.messages
            if message["type"] == "audio_out"
        ]
        assert lengths[0] == FRAME_MS
        assert sum(lengths) == PASSAGE_MS
        assert max(lengths) == MESSAGE_MS_MAX
        assert lengths.count(MESSAGE_MS_MAX) * MESSAGE_MS_MAX > 0.7 * PASSAGE_MS
        assert stage.player.gaps == 0
        await recital.aclose()

    play(make_arena(1), scene)


def test_a_bug_in_the_player_ends_the_call_loudly(
    make_arena: Callable[[int], Arena], stage_time: Callable[[Stage], None]
) -> None:
    class Broken(Player):
        @override
        async def feed(self, pcm: bytes) -> None:
            raise ZeroDivisionError

    async def scene(stage: Stage) -> None:
        stage_time(stage)
        crashes: list[BaseException] = []
        recital = Recital(Broken.__new__(Broken), CALL, crashes.append)
        recital.start()
        await stage.pass_time(phase_ms(CALL) * NS_PER_MS // FRAME_NS + 5)
        assert [type(crash) for crash in crashes] == [ZeroDivisionError]
        await recital.aclose()

    play(make_arena(1), scene)


def test_the_silent_call_ends_too(make_arena: Callable[[int], Arena]) -> None:
    async def scene(stage: Stage) -> None:
        recital = Recital(stage.player, CALL, fail)
        await recital.aclose()
        recital.hear(b"", 1.0, 1.0)
        recital.digit("1")
        assert not recital.say_goodbye()
        await stage.pass_time(5)
        assert stage.audio() == b""

    play(make_arena(1), scene)


def test_it_needs_no_speech_service() -> None:
    settings = load_settings(None, responder="recital", caller_responders="echo")
    assert not settings.uses_providers
    other = load_settings(None, responder="recital", caller_responders="message_taker")
    assert other.uses_providers
    row = Scoreboard([RowName("worker", 0)], 1).row("worker", 0)
    passage.cache_clear()
    Reception(settings, row, {}, None, Staff({}))
    assert passage.cache_info().currsize == 1, "it is made before the first call"
