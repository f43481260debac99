"""The pipeline with scripted providers, in virtual time; player, rings and DSP step are real."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest

from audio.arena import Arena
from gateway import clock
from gateway.conversation.care import CallPolicy
from gateway.conversation.endpointing import Question
from gateway.conversation.lexicon import lexicon
from gateway.conversation.turn import State
from gateway.errors import ProviderError
from gateway.providers.base import Speech, TurnModel
from gateway.providers.scripted import ScriptedSpeechToText, ScriptedTextToSpeech
from gateway.responders.base import HangUp, Reply, Say, TakeMessage, Transfer
from tests.simulation.stage import VOICE, Call, Rings
from tests.simulation.virtual import run

SENTENCES = lexicon("en").sentences
Scene = Callable[[Call], Awaitable[None]]
Arenas = Callable[[int], Arena]


class Parrot:
    """Repeats what it is told; some words make it do other things."""

    def __init__(self) -> None:
        self.question = Question.OPEN
        self.told_heard: list[str] = []
        self.latency_ms = 0.0
        self.closed = False

    async def greet(self) -> AsyncGenerator[Reply, None]:
        yield Say("Hello. How can I help?", "en")

    async def answer(self, text: str, language: str) -> AsyncGenerator[Reply, None]:
        await clock.sleep_ms(self.latency_ms)
        if text == "crash":
            raise LookupError("a bug")
        if text == "break":
            raise ProviderError("the backend is down")
        yield Say(f"You said {text}.", language)
        if text == "bye":
            yield TakeMessage({"last": text})
            yield HangUp()
        if text == "transfer":
            yield Transfer("+15550199")

    async def digits(self, digits: str) -> AsyncGenerator[Reply, None]:
        yield Say(f"You pressed {digits}.", "en")

    async def part(self, language: str) -> AsyncGenerator[Reply, None]:
        yield Say("We have to stop.", language)

    def heard(self, text: str) -> None:
        self.told_heard.append(text)

    def pending(self) -> TakeMessage | None:
        return TakeMessage({"half": "way"})

    async def aclose(self) -> None:
        self.closed = True


def perform(
    make_arena: Arenas,
    script: list[str | ProviderError],
    scene: Scene,
    *,
    stt_ms: float = 100,
    tts_ms: float = 50,
    policy: CallPolicy | None = None,
    turn_model: TurnModel | None = None,
) -> Call:
    async def play() -> Call:
        stt = ScriptedSpeechToText(script, latency_ms=stt_ms)
        tts = ScriptedTextToSpeech(ms_per_char=60, latency_ms=tts_ms)
        speech = Speech(stt, tts, turn_model=turn_model)
        call = Call(Rings(make_arena(1)), speech, Parrot(), policy=policy)
        try:
            await scene(call)
        finally:
            await call.end()
        return call

    return run(play())


def parrot(call: Call) -> Parrot:
    responder = call.pipeline._responder
    assert isinstance(responder, Parrot)
    return responder


async def greeted(call: Call) -> None:
    await call.until(State.ASSISTANT)
    await call.until(State.LISTENING)


def test_greeting_question_answer_goodbye(make_arena: Arenas) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        await call.say(600)
        await greeted(call)
        await call.say(600)
        await call.until(State.ENDED)

    call = perform(make_arena, ["what time is it", "bye"], scene)
    assert call.witness.hung_up
    assert call.told == [
        ("assistant", "Hello. How can I help?"),
        ("caller", "what time is it"),
        ("assistant", "You said what time is it."),
        ("caller", "bye"),
        ("message", "{'last': 'bye'}"),
        ("assistant", "You said bye."),
        ("message", "{'half': 'way'}"),
    ]


def test_the_goodbye_is_heard_to_its_end(make_arena: Arenas) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        before_ms = call.carrier.played_ms()
        await call.say(600)
        await call.until(State.CLOSING)
        await call.say(2_000)  # who speaks now does not stop it
        await call.until(State.ENDED)
        goodbye_ms = len("You said bye.") * 60 // 20 * 20
        assert call.carrier.played_ms() - before_ms >= goodbye_ms
        assert call.carrier.clears == []

    assert perform(make_arena, ["bye"], scene).witness.hung_up


def test_a_transfer_waits_until_the_words_before_it_were_heard(make_arena: Arenas) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        await call.say(600)
        await call.until(State.CLOSING)
        assert call.heard("transfer") == []
        await call.until(State.ENDED)

    call = perform(make_arena, ["transfer"], scene)
    assert call.heard("transfer") == ["+15550199"]
    assert not call.witness.hung_up


def test_the_answers_delays_are_told_stage_by_stage(make_arena: Arenas) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        parrot(call).latency_ms = 70
        await call.say(600)
        await greeted(call)

    (times,) = perform(make_arena, ["Is anybody there?"], scene).witness.answers
    assert times.transcript_ms < times.endpoint_ms, "its time is hidden in the pause"
    assert 280 <= times.transcript_ms <= 340
    assert times.first_words_ms - times.endpoint_ms in range(70, 100)
    assert times.first_audio_ms - times.first_words_ms in range(50, 80)
    assert times.response_ms - times.first_audio_ms in range(60)


def test_text_that_comes_late_is_waited_for_and_still_read(make_arena: Arenas) -> None:
    """Half a sentence is not taken for a turn because speech-to-text was slow."""

    async def scene(call: Call) -> None:
        await greeted(call)
        await call.say(600, pause_ms=1_000)
        assert call.pipeline.state is State.CALLER
        await call.say(600)
        await call.until(State.ASSISTANT)

    call = perform(make_arena, ["I would like to", "I would like to go."], scene, stt_ms=700)
    assert call.heard("caller") == ["I would like to go."]


def test_a_caller_who_goes_on_is_transcribed_as_one(make_arena: Arenas) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        await call.say(600, pause_ms=350)
        await call.say(600)
        await call.until(State.ASSISTANT)
        (first, second) = call.pipeline._hearing._ear._stt.heard  # type: ignore[attr-defined]
        assert second > 1_500 * 32 > first

    call = perform(make_arena, ["all", "all of it"], scene)
    assert call.heard("caller") == ["all of it"]


@pytest.mark.parametrize("sent", ["half", "all"])
def test_an_interruption_stops_the_assistant(make_arena: Arenas, sent: str) -> None:
    """Also when all its audio is at the carrier already."""

    async def scene(call: Call) -> None:
        await call.until(State.ASSISTANT)
        await call.wait(500 if sent == "half" else 1_000)
        began_ns = clock.now_ns()
        call.speaking = VOICE
        await call.until(State.PAUSED)
        assert (clock.now_ns() - began_ns) / 1e6 <= 240
        assert len(call.carrier.clears) == 1
        played_ms = call.carrier.played_ms()
        await call.wait(700)
        assert call.carrier.played_ms() == played_ms
        await call.say(0)
        await call.until(State.ASSISTANT)
        (heard,) = parrot(call).told_heard
        assert "Hello. How can I help?".startswith(heard)
        assert 60 * (len(heard) - 1) <= played_ms
        assert call.heard("cut") == [heard]

    call = perform(make_arena, ["stop that"], scene)
    assert call.heard("barged in") == ["200"]
    assert call.heard("assistant")[-1] == "You said stop that."


@pytest.mark.parametrize("text", ["Mm-hmm.", "okay", "", "Right!"])
def test_an_acknowledgement_lets_the_assistant_go_on(make_arena: Arenas, text: str) -> None:
    async def scene(call: Call) -> None:
        await call.until(State.ASSISTANT)
        await call.wait(600)
        await call.say(300)
        await call.until(State.PAUSED)
        await call.until(State.ASSISTANT)
        await call.until(State.LISTENING)

    call = perform(make_arena, [text], scene)
    assert [kind for kind, _ in call.told] == ["assistant", "barged in", "resumed", "message"]
    whole_ms = len("Hello.How can I help?") * 60
    assert call.carrier.played_ms() >= whole_ms - 60, "from the clause on that was being heard"


def test_yes_to_a_yes_or_no_question_is_an_answer(make_arena: Arenas) -> None:
    async def scene(call: Call) -> None:
        await call.until(State.ASSISTANT)
        parrot(call).question = Question.YES_NO
        await call.wait(1_000)
        await call.say(300)
        await call.until(State.PAUSED)
        await call.until(State.ASSISTANT)

    call = perform(make_arena, ["Yes."], scene)
    assert call.heard("resumed") == []
    assert call.heard("caller") == ["Yes."]


def test_a_cough_does_not_interrupt(make_arena: Arenas) -> None:
    async def scene(call: Call) -> None:
        await call.until(State.ASSISTANT)
        await call.say(120)
        await call.until(State.LISTENING)
        await call.wait(3_000)

    call = perform(make_arena, [], scene)
    assert [kind for kind, _ in call.told] == ["assistant", "message"]


def test_an_addition_before_the_answer_is_answered_with_it(make_arena: Arenas) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        parrot(call).latency_ms = 5_000
        await call.say(600)
        await call.until(State.RESPONDING)
        parrot(call).latency_ms = 0
        await call.say(800)
        await call.until(State.ASSISTANT)

    call = perform(make_arena, ["one", "and two."], scene)
    assert call.heard("assistant")[-1] == "You said one and two.."


def test_an_answer_does_not_begin_while_the_caller_goes_on(make_arena: Arenas) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        await call.say(600, pause_ms=740, falls=True)  # ended then, answered 70 ms later
        await call.say(1_000)
        assert len(call.heard("assistant")) == 1
        assert parrot(call).told_heard == [""], "the responder knows that it was not heard"
        await call.until(State.ASSISTANT)
        assert call.carrier.clears == []

    call = perform(make_arena, ["One.", "And two."], scene)
    assert call.heard("assistant")[-1] == "You said One. And two.."


def test_a_mhm_before_the_answer_does_not_take_the_question_back(make_arena: Arenas) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        parrot(call).latency_ms = 2_000
        await call.say(600)
        await call.until(State.RESPONDING)
        await call.say(300)
        await call.until(State.ASSISTANT)

    call = perform(make_arena, ["one.", "mhm"], scene)
    assert call.heard("assistant")[-1] == "You said one.."


def test_silence_is_not_answered(make_arena: Arenas) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        await call.say(400, pause_ms=3_000)
        assert call.pipeline.state is State.LISTENING

    call = perform(make_arena, [""], scene)
    assert len(call.heard("assistant")) == 1


def test_when_speech_to_text_fails_the_caller_is_asked_again(make_arena: Arenas) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        await call.say(400)
        await greeted(call)

    call = perform(make_arena, [ProviderError("down")], scene)
    assert ("failed", "stt") in call.told
    assert call.heard("assistant")[-1] == SENTENCES["say_again"]


def test_when_the_responder_fails_the_caller_is_told_and_the_call_goes_on(
    make_arena: Arenas,
) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        for _ in range(2):
            await call.say(400)
            await greeted(call)

    call = perform(make_arena, ["break", "one"], scene)
    assert call.heard("failed") == ["responder"]
    assert call.heard("assistant")[1:] == [SENTENCES["trouble"], "You said one."]


def test_a_slow_answer_is_announced(make_arena: Arenas) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        parrot(call).latency_ms = 6_000
        await call.say(400)
        await call.until(State.ASSISTANT)
        assert call.heard("assistant")[1:] == []
        await call.until(State.LISTENING)
        spoken = call.pipeline._voice._tts.spoken  # type: ignore[attr-defined]
        assert spoken[-2:] == [SENTENCES["one_moment"], "You said one."]
        assert call.player.gaps == 0, "the silence between the two is nobody's fault"

    call = perform(make_arena, ["one"], scene)
    assert call.heard("assistant")[1:] == ["You said one."]


@pytest.mark.parametrize("key", ["4", "42#"])
def test_keys_answer_like_words(make_arena: Arenas, key: str) -> None:
    """The first one stops the assistant."""

    async def scene(call: Call) -> None:
        await call.until(State.ASSISTANT)
        await call.wait(300)
        for each in key:
            call.pipeline.digit(each)
            assert call.carrier.clears
        await call.until(State.ASSISTANT)

    call = perform(make_arena, [], scene)
    assert call.heard("assistant")[-1] == f"You pressed {key}."


def test_a_caller_who_says_nothing_is_asked_and_then_left(make_arena: Arenas) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        await call.wait(9_000)
        await call.say(300, pause_ms=3_000)  # a noise puts it off
        assert len(call.heard("assistant")) == 1
        await call.until(State.ENDED, 60_000)

    call = perform(make_arena, [""], scene, policy=CallPolicy(idle_prompt_ms=10_000))
    assert call.heard("assistant")[1:] == [SENTENCES["are_you_there"], SENTENCES["deserted"]]
    assert call.witness.hung_up


def test_no_call_lasts_for_ever(make_arena: Arenas) -> None:
    async def scene(call: Call) -> None:
        await call.until(State.ENDED, 60_000)

    call = perform(make_arena, [], scene, policy=CallPolicy(max_call_ms=5_000))
    assert call.heard("assistant")[-1] == "We have to stop."
    assert call.witness.hung_up


@pytest.mark.parametrize(
    "state", [s for s in State if s not in (State.CLOSING, State.ENDED)], ids=lambda s: s.name
)
def test_the_last_words_are_said_and_heard_whatever_is_going_on(
    make_arena: Arenas, state: State
) -> None:
    async def scene(call: Call) -> None:
        if state is not State.RESPONDING:  # else before even the greeting is heard
            await call.until(State.ASSISTANT)
        if state is State.PAUSED:
            call.speaking = VOICE
        if state in (State.LISTENING, State.CALLER, State.TRANSCRIBING):
            await call.until(State.LISTENING)
        if state in (State.CALLER, State.TRANSCRIBING):
            await call.say(600)
        await call.until(state)
        assert call.pipeline.say_goodbye()
        assert call.pipeline.say_goodbye(), "twice is once"
        await call.say(200)
        assert call.pipeline.state is State.CLOSING, "a caller who speaks does not stop it"
        await call.until(State.ENDED)

    call = perform(make_arena, ["a question"], scene, stt_ms=2_000)
    assert call.witness.hung_up
    assert call.heard("assistant")[-1] == "We have to stop."
    assert call.heard("assistant").count("We have to stop.") == 1


def test_last_words_that_cannot_be_spoken_end_the_call_at_once(make_arena: Arenas) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        call.pipeline._voice._tts.fail_next = True  # type: ignore[attr-defined]
        assert call.pipeline.say_goodbye()
        await call.until(State.ENDED)

    call = perform(make_arena, [], scene)
    assert call.witness.hung_up
    assert ("failed", "tts") in call.told


def test_what_cannot_be_spoken_is_apologised_for_once_a_reply(make_arena: Arenas) -> None:
    """Also when nothing was ever spoken: from the greeting on."""

    async def scene(call: Call) -> None:
        await greeted(call)
        await call.say(600)
        await greeted(call)

    asked: list[tuple[str, str]] = []

    def apology(language: str, voice: str) -> bytes:
        asked.append((language, voice))
        return b"\x00\x10" * (24 * 500)

    async def play() -> Call:
        stt = ScriptedSpeechToText(["what time is it"])
        call = Call(Rings(make_arena(1)), Speech(stt, DeadTextToSpeech(), apology), Parrot())
        try:
            await scene(call)
        finally:
            await call.end()
        return call

    call = run(play())
    assert asked == [("en", "")] * 2
    assert call.carrier.played_ms() == 2 * 500
    assert call.told.count(("failed", "tts")) == 3, "a greeting of two clauses, an answer of one"


class DeadTextToSpeech:
    """Never speaks."""

    async def speak(self, text: str, language: str, voice: str = "") -> AsyncGenerator[bytes, None]:
        raise ProviderError("dead since the start")
        yield b""

    async def aclose(self) -> None:
        pass


def test_a_bug_in_a_responder_is_loud(make_arena: Arenas) -> None:
    async def scene(call: Call) -> None:
        await greeted(call)
        await call.say(400, pause_ms=1_500)

    call = perform(make_arena, ["crash"], scene)
    assert ("crashed", "LookupError('a bug')") in call.told
