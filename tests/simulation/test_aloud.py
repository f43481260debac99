"""Turn-taking with real voices: what lets the assistant go on, what stops it, when it answers.

Slow, and the figures of the conversation: ``make trials`` prints them.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable

import numpy as np
import pytest

from audio.arena import Arena
from gateway import clock
from gateway.conversation.endpointing import Question
from gateway.conversation.turn import State
from gateway.responders.base import Reply, Say, TakeMessage
from loadtest.clips import Clip, load_clips
from loadtest.talking import PAUSES_MS, torn, whole
from loadtest.wires import TWILIO
from tests.simulation.aloud import Aloud, Samples, by_phone, spoken, voices, whisper
from tests.simulation.virtual import run
from tests.wording import CLIPS, clips, word_errors, words

pytestmark = [pytest.mark.slow, pytest.mark.speech]
Arenas = Callable[[int], Arena]

STORY = {
    "en": (
        "The office is open from nine to five on working days. On Saturdays we open at ten and "
        "close at two. You will find us on the second floor, next to the library."
    ),
    "ru": (
        "Мы работаем с девяти до пяти по рабочим дням. В субботу мы открываемся в десять и "
        "закрываемся в два. Вы найдёте нас на втором этаже, рядом с библиотекой."
    ),
    "ar": (
        "المكتب مفتوح من التاسعة إلى الخامسة في أيام العمل. يوم السبت نفتح في العاشرة ونغلق في "
        "الثانية. ستجدنا في الطابق الثاني بجانب المكتبة."
    ),
}
#: What Whisper understands of these voices at all: it makes "халатур" of espeak-ng's "хорошо". Of
#: its Arabic it understands nothing, so that one resumes only where a miss is made of nothing.
ACKNOWLEDGEMENTS = [
    ("en", "heart", "Mm-hmm."),
    ("en", "heart", "Okay."),
    ("en", "heart", "Right."),
    ("en", "heart", "Uh huh."),
    ("en", "heart", "I see."),
    ("en", "espeak-en", "Okay."),
    ("ru", "espeak-ru", "Угу."),
    ("ru", "espeak-ru", "Да."),
    ("ru", "festival-ru", "Понятно."),
    ("ar", "espeak-ar", "تمام."),
]
INTERRUPTIONS = [
    ("en", "heart", "Stop."),
    ("en", "heart", "Wait, I have another question."),
    ("en", "heart", "No, that is not what I asked."),
    ("en", "heart", "Can I speak to somebody?"),
    ("en", "heart", "Excuse me, what about Sundays?"),
    ("en", "espeak-en", "Hold on a second, please."),
    ("en", "espeak-en", "I need to cancel my appointment."),
    ("ru", "espeak-ru", "Подождите, у меня другой вопрос."),
    ("ru", "espeak-ru", "Соедините меня с оператором."),
    ("ar", "espeak-ar", "انتظر، لدي سؤال آخر."),
]
ECHOES = [(loss, delay) for loss in (15, 20, 25) for delay in (150, 200, 250, 300, 350, 400)]
ECHOES += [(15, 180), (15, 380)]


def show(line: str) -> None:
    """For ``make trials``."""
    sys.stdout.write(f"{line}\n")


class Storyteller:
    """Tells a story in each answer."""

    question = Question.OPEN

    def __init__(self, language: str) -> None:
        self._language = language

    async def greet(self) -> AsyncGenerator[Reply, None]:
        yield Say(STORY[self._language], self._language)

    async def answer(self, text: str, language: str) -> AsyncGenerator[Reply, None]:
        yield Say("Thank you.", "en")

    async def digits(self, digits: str) -> AsyncGenerator[Reply, None]:
        yield Say("Thank you.", "en")

    async def part(self, language: str) -> AsyncGenerator[Reply, None]:
        yield Say("Goodbye.", "en")

    def heard(self, text: str) -> None:
        pass

    def pending(self) -> TakeMessage | None:
        return None

    async def aclose(self) -> None:
        pass


async def over_the_story(
    arena: Arena, language: str, samples: Samples | None, echo: tuple[float, int] | None = None
) -> list[str]:
    """Say this 2 s into the story; what the observer was told, in short."""
    call = Aloud(arena, Storyteller(language), language=language, echo=echo)
    try:
        await call.until(State.ASSISTANT)
        await call.wait(2_000)
        if samples is not None:
            call.begin(samples)
            await call.said()
        await call.until(State.LISTENING, 60_000)
        await call.wait(1_500)
    finally:
        await call.end()
    return [f"{kind} {text}" for kind, text in call.told]


def kinds(told: list[str]) -> set[str]:
    return {line.split()[0] for line in told}


def test_acknowledgements_let_the_assistant_go_on(make_arena: Arenas) -> None:
    missed = 0
    for language, voice, text in ACKNOWLEDGEMENTS:
        if voice not in voices():
            show(f"{voice:11} {text:12} not tried: Debian's festival and festvox-ru are missing")
            continue
        told = run(over_the_story(make_arena(1), language, spoken(text, voice)))
        fine = "cut" not in kinds(told)
        missed += not fine
        show(f"{voice:11} {text:12} {'went on' if fine else told}")
    assert missed <= 1, "espeak-ng's «تمام» is not understood"


@pytest.mark.parametrize("echo", [None, (20, 280)], ids=["quiet", "loudspeaker"])
def test_interruptions_stop_it(make_arena: Arenas, echo: tuple[float, int] | None) -> None:
    stopped = 0
    for language, voice, text in INTERRUPTIONS:
        told = run(over_the_story(make_arena(1), language, spoken(text, voice), echo))
        fine = "cut" in kinds(told)
        stopped += fine
        show(f"{voice:10} {text:34} {'stopped' if fine else told}")
    assert stopped == len(INTERRUPTIONS)


def test_our_own_voice_over_a_loudspeaker_does_not_stop_us(make_arena: Arenas) -> None:
    undisturbed = 0
    for loss_db, delay_ms in ECHOES:
        told = run(over_the_story(make_arena(1), "en", None, (loss_db, delay_ms)))
        fine = kinds(told) <= {"assistant"}
        undisturbed += fine
        show(f"-{loss_db} dB, {delay_ms} ms: {'undisturbed' if fine else told}")
    assert undisturbed == len(ECHOES) == 20


async def understood(arena: Arena, samples: Samples, language: str) -> str:
    """What is understood of a caller who says this as soon as the greeting was heard."""
    call = Aloud(arena, Storyteller("en"), language=language)
    try:
        await call.until(State.LISTENING, 60_000)
        await call.wait(300)
        call.begin(samples)
        await call.said()
        await call.wait(3_000)
    finally:
        await call.end()
    return " ".join(call.heard("caller"))


def test_no_word_is_clipped_after_the_greeting(make_arena: Arenas) -> None:
    """Each recording is understood in a call as well as alone, its first word above all."""
    total, errors_alone, errors, firsts = 0, 0, 0, 0
    for language in ("en", "ru"):
        for clip in clips(language):
            (spoken,) = load_clips(CLIPS / clip.path, 8_000)
            said = words(clip.text)
            alone = words(whisper().transcribe(by_phone(spoken.samples), language).text)
            heard = words(run(understood(make_arena(1), spoken.samples, language)))
            lost = said[0] in alone[:2] and said[0] not in heard[:2]  # an "er" before it is none
            total, firsts = total + len(said), firsts + lost
            errors_alone += word_errors(said, alone)
            errors += word_errors(said, heard)
            show(f"{clip.path:34} {'first word lost' if lost else ''} {' '.join(heard)}")
    show(f"{errors} of {total} words wrong in a call, {errors_alone} alone; {firsts} first words")
    assert firsts == 0
    assert errors <= errors_alone + 0.02 * total


async def answer_to(arena: Arena, clip: Clip, pause_ms: int, language: str) -> tuple[float, bool]:
    """How long after its end a clip was answered (ms), and whether that came before its end."""
    saying = torn(clip, pause_ms, TWILIO, 1) if pause_ms else whole(clip, TWILIO)
    call = Aloud(arena, Storyteller("en"), language=language)
    try:
        await call.until(State.LISTENING, 60_000)
        began_ns = clock.now_ns()
        call.begin(saying.frames.samples.reshape(-1))
        await call.said()
        await call.wait(3_000)
        ends_ns, pause_ns = began_ns + saying.end_ns, began_ns + saying.pause_at_ns
        early = call.answer_ns(pause_ns) if pause_ms else None
        answer_ns = call.answer_ns(ends_ns)
    finally:
        await call.end()
    cut_off = early is not None and early < ends_ns
    return ((answer_ns or 0) - ends_ns) / 1e6, cut_off


def test_answers_are_quick_and_nobody_is_cut_off(make_arena: Arenas) -> None:
    clips = [
        (clip, language)
        for language in ("en", "ru")
        for clip in load_clips(CLIPS / language, 8_000)
        if len(clip.samples) < 12 * 8_000
    ]
    delays = []
    for clip, language in clips:
        delay_ms, _ = run(answer_to(make_arena(1), clip, 0, language))
        show(f"{clip.name:34} {delay_ms:5.0f} ms")
        delays.append(delay_ms)
    show(f"response p50 {np.median(delays):.0f} ms, p95 {np.percentile(delays, 95):.0f} ms")
    for pause_ms in PAUSES_MS:
        cut = [run(answer_to(make_arena(1), clip, pause_ms, lang))[1] for clip, lang in clips]
        names = [clip.name for (clip, _), each in zip(clips, cut, strict=True) if each]
        show(f"{pause_ms} ms: {sum(cut)} of {len(cut)} cut off {names}")
        if pause_ms <= 800:
            assert sum(cut) <= (0.05 if pause_ms <= 600 else 0.15) * len(cut)
    assert np.median(delays) <= 900
