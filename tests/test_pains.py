"""What users of voice gateways suffer from, one test a pain; each is told by its number.

They are direct and short: the parts concerned are tested at length elsewhere.
"""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import weakref
from array import array
from collections.abc import AsyncGenerator, Awaitable, Callable

import numpy as np
import psutil
import pytest
from typing_extensions import override

from audio.arena import Arena
from audio.format import TTS_RATE, Encoding
from audio.g711 import decode
from gateway import clock
from gateway.conversation.care import CallPolicy
from gateway.conversation.turn import State
from gateway.providers.base import Speech
from gateway.providers.scripted import ScriptedSpeechToText, ScriptedTextToSpeech
from tests.gateway.test_pipeline import Parrot
from tests.simulation.stage import VOICE, Call, Rings, ShortCut
from tests.simulation.virtual import VirtualLoop, run

GREETING_MS = 1_320  # "Hello. How can I help?"
Arenas = Callable[[int], Arena]


class Tone(ScriptedTextToSpeech):
    """One second of 440 Hz, in pieces that are no whole frames."""

    @override
    async def speak(self, text: str, language: str, voice: str = "") -> AsyncGenerator[bytes, None]:
        wave = (9_000 * math.sin(2 * math.pi * 440 * n / TTS_RATE) for n in range(TTS_RATE))
        pcm = array("h", map(round, wave)).tobytes()
        for at in range(0, len(pcm), 1_234):
            yield pcm[at : at + 1_234]


def make_call(script: list[str], *, stt_ms: float = 100, policy: CallPolicy | None = None) -> Call:
    stt = ScriptedSpeechToText(list(script), latency_ms=stt_ms)
    tts = ScriptedTextToSpeech(ms_per_char=60, latency_ms=50)
    return Call(ShortCut(), Speech(stt, tts), Parrot(), policy=policy)


def perform(scene: Callable[[Call], Awaitable[None]], *script: str, stt_ms: float = 100) -> Call:
    async def play() -> Call:
        call = make_call(list(script), stt_ms=stt_ms)
        try:
            await scene(call)
        finally:
            await call.end()
        return call

    return run(play())


async def hear_out(call: Call) -> None:
    await call.until(State.ASSISTANT)
    await call.until(State.LISTENING)


def test_01_calls_that_share_a_process_do_not_make_each_other_stutter() -> None:
    async def play() -> None:
        calls = [make_call([]) for _ in range(20)]
        await asyncio.gather(*map(hear_out, calls))
        assert [call.player.gaps for call in calls] == [0] * 20
        for call in calls:
            await call.end()

    run(play())


@pytest.mark.parametrize("seed", range(5))
def test_01_a_core_shared_with_busy_processes_is_not_heard(seed: int) -> None:
    """The worker is kept from its core again and again, for longer than it has it in between.

    With real processes: integration/test_contention.py.
    """
    turns_ms = np.random.default_rng(seed).integers((20, 10), (100, 30), (2_000, 2))

    async def contend(calls: list[Call]) -> None:
        for away_ms, there_ms in turns_ms.tolist():
            for stalled, ms in ((True, away_ms), (False, there_ms)):
                for call in calls:
                    call.stalled = stalled
                await clock.sleep_ms(ms)

    async def play() -> None:
        calls = [make_call([]) for _ in range(20)]
        contending = asyncio.create_task(contend(calls))
        await asyncio.gather(*map(hear_out, calls))
        contending.cancel()
        await asyncio.gather(contending, return_exceptions=True)
        assert [call.player.gaps for call in calls] == [0] * 20
        for call in calls:
            await call.end()

    run(play())


def test_02_a_late_loop_is_not_heard() -> None:
    async def scene(call: Call) -> None:
        await call.until(State.ASSISTANT)
        for _ in range(3):
            await call.wait(250)
            call.stalled = True
            await call.wait(80)
            call.stalled = False
        await call.until(State.LISTENING)
        assert call.player.gaps == 0
        begin, end = call.carrier.playing[0][0], call.carrier.playing[-1][1]
        assert (end - begin) / 1e6 == pytest.approx(call.carrier.played_ms(), abs=1)

    perform(scene)


def test_03_speech_does_not_end_before_it_was_played(make_arena: Arenas) -> None:
    async def play() -> None:
        speech = Speech(ScriptedSpeechToText([]), Tone())
        call = Call(Rings(make_arena(1)), speech, Parrot())
        await call.until(State.ASSISTANT)
        began_ns = clock.now_ns()
        await call.until(State.LISTENING)
        assert (clock.now_ns() - began_ns) / 1e6 >= 2_000  # two clauses of a second
        assert call.carrier.played_ms() == 2_000
        await call.end()

    run(play())


def test_04_audio_at_the_carrier_stops_when_the_caller_speaks() -> None:
    async def scene(call: Call) -> None:
        await call.until(State.ASSISTANT)
        await call.wait(GREETING_MS - 300)  # all of it was sent
        call.speaking = VOICE
        await call.until(State.PAUSED)
        assert len(call.carrier.clears) == 1

    perform(scene)


def test_05_the_responder_knows_what_was_heard() -> None:
    async def scene(call: Call) -> None:
        await call.until(State.ASSISTANT)
        await call.wait(700)
        await call.say(900)
        played_ms = call.carrier.played_ms()
        (heard,) = call.pipeline._responder.told_heard  # type: ignore[attr-defined]
        assert "Hello. How can I help?".startswith(heard)
        assert 0 < len(heard) * 60 <= played_ms

    perform(scene, "stop it")


def test_06_a_goodbye_is_heard_to_its_end_though_no_mark_ever_returns() -> None:
    async def scene(call: Call) -> None:
        call.carrier.mark_delay_ms = lambda: None
        await hear_out(call)
        before_ms = call.carrier.played_ms()
        await call.say(600)
        await call.until(State.ENDED)
        assert call.carrier.played_ms() - before_ms >= len("You said bye.") * 60 - 20

    assert perform(scene, "bye").witness.hung_up


def test_07_a_call_does_not_stay_open_in_silence() -> None:
    async def play() -> None:
        call = make_call([], policy=CallPolicy(idle_prompt_ms=5_000))
        await call.until(State.ENDED)
        assert call.witness.hung_up
        await call.end()

    run(play())


@pytest.mark.parametrize("state", [State.ASSISTANT, State.TRANSCRIBING, State.RESPONDING])
def test_08_nothing_of_a_call_outlives_it(state: State) -> None:
    """That no task is left is what ``run`` checks."""

    async def scene(call: Call) -> None:
        if state is State.TRANSCRIBING:
            await hear_out(call)
            await call.say(600)
        await call.until(state)

    assert perform(scene, stt_ms=5_000).pipeline.state is State.ENDED


def test_09_memory_of_a_call_is_given_back() -> None:
    calls = [perform(hear_out) for _ in range(3)]
    pipelines = [weakref.ref(call.pipeline) for call in calls]
    del calls
    gc.collect()
    assert [pipeline() for pipeline in pipelines] == [None] * 3


def test_10_a_call_needs_no_process_and_no_thread() -> None:
    async def play() -> None:
        before = (len(psutil.Process().children()), threading.active_count())
        calls = [make_call([]) for _ in range(20)]
        await asyncio.gather(*map(hear_out, calls))
        assert (len(psutil.Process().children()), threading.active_count()) == before
        for call in calls:
            await call.end()

    run(play())


def test_11_whoever_waits_for_a_slow_provider_holds_up_nobody() -> None:
    async def play() -> None:
        slow = make_call(["one"], stt_ms=20_000)
        await hear_out(slow)
        await slow.say(600)
        await slow.until(State.TRANSCRIBING)
        other = make_call(["two"])
        await hear_out(other)
        await other.say(600)
        await hear_out(other)
        assert other.heard("assistant")[-1] == "You said two."
        assert other.player.gaps == 0
        assert slow.pipeline.state is State.TRANSCRIBING
        await slow.end()
        await other.end()

    run(play())


def test_12_a_call_in_which_nothing_happens_costs_nothing() -> None:
    async def play() -> None:
        call = make_call([])
        await hear_out(call)
        call._media.cancel()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        before = loop.turns
        await clock.sleep_ms(10_000)
        assert loop.turns - before <= 5
        await call.end()

    run(play())


def test_13_who_must_go_says_goodbye() -> None:
    async def scene(call: Call) -> None:
        await hear_out(call)
        call.pipeline.say_goodbye()
        await call.until(State.ENDED)

    call = perform(scene)
    assert call.heard("assistant")[-1] == "We have to stop."
    assert call.witness.hung_up


def test_14_neither_a_mhm_nor_our_own_echo_stops_us() -> None:
    async def scene(call: Call) -> None:
        await call.until(State.ASSISTANT)
        await call.wait(300)
        call.speaking = (1.0, 0.015)  # voice, 18 dB softer than what is played
        await call.wait(400)
        assert call.carrier.clears == []
        await call.say(300)
        await call.until(State.LISTENING)

    call = perform(scene, "mhm")
    assert call.heard("resumed") == [""]
    assert call.heard("cut") == []


def test_15_a_tone_keeps_its_pitch_and_its_length(make_arena: Arenas) -> None:
    async def play() -> bytes:
        call = Call(Rings(make_arena(1)), Speech(ScriptedSpeechToText([]), Tone()), Parrot())
        await hear_out(call)
        await call.end()
        return b"".join(codes for _, codes in sorted(call.carrier.audio.items()))

    codes = run(play())
    samples = decode(Encoding.MULAW, np.frombuffer(codes, np.uint8)).astype(np.float64)
    assert len(samples) == 2 * 8_000
    spectrum = np.abs(np.fft.rfft(samples[:8_000]))
    assert int(spectrum.argmax()) == 440
