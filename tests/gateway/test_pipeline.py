"""The pipeline with scripted providers and the real player, rings and DSP step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

import pytest

from audio.arena import Arena
from audio.bank import Bank
from audio.dsp_process import AudioPlane, DspLoop
from audio.format import FRAME_NS, Encoding
from gateway import clock
from gateway.bridge import Bridge
from gateway.conversation.endpointing import Question
from gateway.conversation.history import Role
from gateway.conversation.language import ReplyLanguage
from gateway.conversation.timing import TurnTimes
from gateway.conversation.turn import State
from gateway.errors import ProviderError
from gateway.pipeline import Pipeline, Speech
from gateway.player import Player
from gateway.providers.scripted import ScriptedSpeechToText, ScriptedTextToSpeech
from gateway.responders.base import HangUp, Reply, Say, TakeMessage
from gateway.wire.twilio import TwilioWire
from supervisor.scoreboard import RowName, Scoreboard

VOICE, QUIET = (1.0, 0.2), (0.0, 0.0001)
FRAME = bytes(640)


@dataclass
class Witness:
    """An observer that remembers."""

    told: list[tuple[str, str]] = field(default_factory=list)
    hung_up: bool = False

    def said(self, role: Role, text: str, language: str) -> None:
        self.told.append((role.value, text))

    def interrupted(self, heard_text: str) -> None:
        self.told.append(("cut", heard_text))

    def message(self, message: TakeMessage) -> None:
        self.told.append(("message", str(message.fields)))

    def answered(self, times: TurnTimes) -> None:
        self.told.append(("answered", str(times.response_ms)))

    def barged_in(self, latency_ms: int) -> None:
        self.told.append(("barged in", str(latency_ms)))

    def resumed(self) -> None:
        self.told.append(("resumed", ""))

    def transfer(self, number: str) -> None:
        self.told.append(("transfer", number))

    def failed(self, stage: str, error: Exception) -> None:
        self.told.append(("failed", stage))

    def crashed(self, error: BaseException) -> None:
        self.told.append(("crashed", repr(error)))

    def hang_up(self) -> None:
        self.hung_up = True


class Parrot:
    """Repeats what it is told; "bye" ends the call."""

    question = Question.OPEN

    async def greet(self) -> AsyncGenerator[Reply, None]:
        yield Say("Hello. How can I help?", "en")

    async def answer(self, text: str, language: str) -> AsyncGenerator[Reply, None]:
        if text == "crash":
            raise LookupError("a bug")
        yield Say(f"You said {text}.", language)
        if text == "bye":
            yield TakeMessage({"last": text})
            yield HangUp()

    async def digits(self, digits: str) -> AsyncGenerator[Reply, None]:
        yield Say(f"You pressed {digits}.", "en")

    async def part(self, language: str) -> AsyncGenerator[Reply, None]:
        yield Say("We have to stop.", language)

    def heard(self, text: str) -> None:
        pass

    def pending(self) -> TakeMessage | None:
        return TakeMessage({"half": "way"})

    async def aclose(self) -> None:
        pass


class Call:
    """One call whose time runs as fast as the test: frames in, DSP step, pump."""

    def __init__(self, arena: Arena, stt: ScriptedSpeechToText, tts: ScriptedTextToSpeech) -> None:
        board = Scoreboard([RowName("dsp", 0)], 1)
        self.dsp = DspLoop(AudioPlane("off"), [Bank(arena)], board.row("dsp", 0), 10)
        self.bridge = Bridge(arena, lambda: None, asyncio.get_running_loop())
        line = self.bridge.lease(Encoding.MULAW)
        assert line is not None
        self.sent: list[bytes] = []
        wire = TwilioWire()
        wire.receive('{"event":"start","start":{"streamSid":"MZ1","callSid":"CA1"}}')
        self.player = Player(line, wire, "MZ1", self.sent.append)
        self.witness = Witness()
        language = ReplyLanguage("en")
        self.pipeline = Pipeline(Speech(stt, tts), Parrot(), self.player, self.witness, language)
        self.player.on_heard = self.pipeline.heard_all
        self.now_ns = clock.now_ns()
        self.pipeline.start()

    async def pass_time(self, frames: int, heard: tuple[float, float] = QUIET) -> None:
        for _ in range(frames):
            self.pipeline.hear(FRAME, *heard)
            for _ in range(4):
                self.dsp.turn([0])
                await asyncio.sleep(0)
                for _, payload in self.bridge.encoded():
                    self.player.play(payload, self.now_ns)
                self.player.pump(self.now_ns)
            self.now_ns += FRAME_NS

    async def say(self, ms: int) -> None:
        await self.pass_time(ms // 20, VOICE)
        await self.pass_time(45)

    async def until(self, state: State, frames_max: int = 1000) -> None:
        for _ in range(frames_max):
            if self.pipeline.state is state:
                return
            await self.pass_time(1)
        pytest.fail(f"still {self.pipeline.state.name}, not {state.name}: {self.witness.told}")

    async def end(self) -> None:
        await self.pipeline.aclose()
        self.bridge.close()


def run(
    make_arena: Callable[[int], Arena],
    script: list[str | ProviderError],
    scene: Callable[[Call], AsyncGenerator[None, None]],
) -> Call:
    async def play() -> Call:
        call = Call(make_arena(1), ScriptedSpeechToText(script), ScriptedTextToSpeech())
        async for _ in scene(call):
            pass
        await call.end()
        return call

    return asyncio.run(play())


def test_greeting_question_answer_goodbye(make_arena: Callable[[int], Arena]) -> None:
    async def scene(call: Call) -> AsyncGenerator[None, None]:
        await call.until(State.ASSISTANT)
        await call.until(State.LISTENING)
        await call.say(600)
        await call.until(State.ASSISTANT)
        await call.until(State.LISTENING)
        await call.say(600)
        await call.until(State.ENDED)
        yield

    call = run(make_arena, ["what time is it", "bye"], scene)
    assert call.witness.hung_up
    assert call.witness.told == [
        ("assistant", "Hello. How can I help?"),
        ("caller", "what time is it"),
        ("assistant", "You said what time is it."),
        ("caller", "bye"),
        ("assistant", "You said bye."),
        ("message", "{'last': 'bye'}"),
        ("message", "{'half': 'way'}"),
    ]


def test_a_caller_who_interrupts_is_heard_and_the_rest_is_cleared(
    make_arena: Callable[[int], Arena],
) -> None:
    async def scene(call: Call) -> AsyncGenerator[None, None]:
        await call.until(State.ASSISTANT)
        await call.say(600)
        assert any(b'"clear"' in message for message in call.sent)
        await call.until(State.ASSISTANT)
        yield

    call = run(make_arena, ["stop"], scene)
    roles = [role for role, _ in call.witness.told]
    assert roles[:4] == ["assistant", "cut", "caller", "assistant"]
    assert len(call.witness.told[1][1]) < len("Hello. How can I help?")


def test_a_cough_does_not_interrupt(make_arena: Callable[[int], Arena]) -> None:
    async def scene(call: Call) -> AsyncGenerator[None, None]:
        await call.until(State.ASSISTANT)
        await call.pass_time(5, VOICE)
        await call.until(State.LISTENING)
        yield

    call = run(make_arena, [], scene)
    assert [role for role, _ in call.witness.told] == ["assistant", "message"]


def test_a_caller_who_goes_on_is_transcribed_as_one(make_arena: Callable[[int], Arena]) -> None:
    stt = ScriptedSpeechToText(["all of it"], latency_ms=30)

    async def play() -> None:
        call = Call(make_arena(1), stt, ScriptedTextToSpeech())
        await call.until(State.ASSISTANT)
        await call.until(State.LISTENING)
        await call.pass_time(30, VOICE)
        await call.until(State.TRANSCRIBING)
        await call.pass_time(20, VOICE)
        assert call.pipeline.state is State.CALLER
        await call.until(State.TRANSCRIBING)
        await asyncio.sleep(0.1)
        await call.until(State.ASSISTANT)
        assert ("caller", "all of it") in call.witness.told
        await call.end()

    asyncio.run(play())
    assert len(stt.heard) == 1
    assert stt.heard[0] > 50 * 640


@pytest.mark.parametrize("script", [[""], [ProviderError("down")]])
def test_nothing_understood_is_not_answered(
    make_arena: Callable[[int], Arena], script: list[str | ProviderError]
) -> None:
    async def scene(call: Call) -> AsyncGenerator[None, None]:
        await call.until(State.ASSISTANT)
        await call.until(State.LISTENING)
        await call.say(400)
        await call.until(State.LISTENING)
        await call.pass_time(50)
        yield

    call = run(make_arena, script, scene)
    assert sum(role == "assistant" for role, _ in call.witness.told) == 1
    assert (("failed", "stt") in call.witness.told) == bool(script[0])


def test_keys_answer_like_words(make_arena: Callable[[int], Arena]) -> None:
    async def scene(call: Call) -> AsyncGenerator[None, None]:
        await call.until(State.ASSISTANT)
        for key in "42#":
            call.pipeline.digit(key)
        await call.until(State.ASSISTANT)
        yield

    call = run(make_arena, [], scene)
    assert ("assistant", "You pressed 42#.") in call.witness.told


@pytest.mark.parametrize(
    "state", [State.LISTENING, State.CALLER, State.TRANSCRIBING, State.RESPONDING, State.ASSISTANT]
)
def test_the_last_words_are_said_and_heard_whatever_is_going_on(
    make_arena: Callable[[int], Arena], state: State
) -> None:
    stt = ScriptedSpeechToText(["a question"], latency_ms=20)

    async def play() -> Call:
        call = Call(make_arena(1), stt, ScriptedTextToSpeech(latency_ms=20))
        if state is not State.RESPONDING:  # else before even the greeting is heard
            await call.until(State.ASSISTANT)
        if state in (State.LISTENING, State.CALLER, State.TRANSCRIBING):
            await call.until(State.LISTENING)
        if state in (State.CALLER, State.TRANSCRIBING):
            await call.pass_time(30, VOICE)
        await call.until(state)
        assert call.pipeline.state is state
        assert call.pipeline.say_goodbye()
        assert call.pipeline.say_goodbye(), "twice is once"
        await call.pass_time(10, VOICE)
        assert call.pipeline.state is State.CLOSING, "a caller who speaks does not stop it"
        await call.until(State.ENDED)
        await call.end()
        return call

    call = asyncio.run(play())
    assert call.witness.hung_up
    said = [text for role, text in call.witness.told if role == "assistant"]
    assert said[-1] == "We have to stop."
    assert said.count("We have to stop.") == 1


def test_last_words_that_cannot_be_spoken_end_the_call_at_once(
    make_arena: Callable[[int], Arena],
) -> None:
    async def play() -> Call:
        tts = ScriptedTextToSpeech()
        call = Call(make_arena(1), ScriptedSpeechToText([]), tts)
        await call.until(State.ASSISTANT)
        await call.until(State.LISTENING)
        tts.fail_next = True
        assert call.pipeline.say_goodbye()
        await call.until(State.ENDED)
        await call.end()
        return call

    call = asyncio.run(play())
    assert call.witness.hung_up
    assert ("failed", "tts") in call.witness.told


def test_a_bug_in_a_responder_is_loud(make_arena: Callable[[int], Arena]) -> None:
    async def scene(call: Call) -> AsyncGenerator[None, None]:
        await call.until(State.ASSISTANT)
        await call.until(State.LISTENING)
        await call.say(400)
        await call.pass_time(5)
        yield

    call = run(make_arena, ["crash"], scene)
    assert ("crashed", "LookupError('a bug')") in call.witness.told
