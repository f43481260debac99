"""Providers, a responder and a caller that a seed makes slow, silent, chatty or broken."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence

from audio.format import TTS_RATE
from gateway import clock
from gateway.conversation.endpointing import Question
from gateway.errors import ProviderError
from gateway.providers.base import Ear, Transcript, UtteranceEar
from gateway.responders.base import HangUp, Reply, Say, TakeMessage, Transfer
from tests.simulation.stage import QUIET, VOICE, Call

TEXTS = (
    *("I need an appointment.", "my number is five five five", "mhm", "okay", "", "да", "stop"),
    *("What are your opening hours on Monday?", "and", "yes", "No, the other one.", "угу"),
)
WORDS = ("the", "office", "is", "open", "from", "nine", "to", "five", "and", "closed", "today")
#: How loud each clause is spoken, by its number: so it is known again behind codec and carrier.
VOICES = [400 * 1.35**n for n in range(10)]


class ChaosSpeechToText:
    def __init__(self, draw: random.Random) -> None:
        self._draw = draw

    def listen(self, keywords: Sequence[str] = ()) -> Ear:
        return UtteranceEar(self, keywords)

    async def transcribe(
        self, pcm: bytes, language: str, keywords: Sequence[str] = ()
    ) -> Transcript:
        draw = self._draw
        await clock.sleep_ms(draw.choice((20, 150, 400, 900, 3_000)))
        if draw.random() < 0.08:
            raise ProviderError("speech-to-text is down")
        return Transcript(draw.choice(TEXTS), draw.choice(("en", "en", "ru", "")))

    async def aclose(self) -> None:
        pass


class ChaosTextToSpeech:
    """Each clause in a voice of its own, in pieces that are late and cut anywhere."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self.begun = 0

    async def speak(self, text: str, language: str, voice: str = "") -> AsyncGenerator[bytes, None]:
        draw, number = self._draw, self.begun
        self.begun += 1
        sample = round(VOICES[number % len(VOICES)]).to_bytes(2, "little")
        samples = TTS_RATE * len(text) * draw.randint(20, 60) // 1_000
        await clock.sleep_ms(draw.choice((10, 60, 300, 1_500)))
        if draw.random() < 0.05:
            raise ProviderError("text-to-speech is down")
        while samples > 0:
            piece = min(samples, draw.randint(1, TTS_RATE))
            samples -= piece
            yield sample * piece
            await clock.sleep_ms(draw.choice((0, 5, 20, 200)))
            if draw.random() < 0.01:
                raise ProviderError("text-to-speech broke off")

    async def aclose(self) -> None:
        pass


class ChaosResponder:
    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self.told_heard: list[str] = []

    @property
    def question(self) -> Question:
        return self._draw.choice(list(Question))

    async def _talk(self) -> AsyncGenerator[Reply, None]:
        draw = self._draw
        await clock.sleep_ms(draw.choice((0, 0, 100, 800, 4_000)))
        if draw.random() < 0.06:
            raise ProviderError("the backend is down")
        for _ in range(draw.choice((0, 1, 1, 2, 5))):
            text = " ".join(draw.choices(WORDS, k=draw.randint(1, 14))) + "."
            yield Say(text, draw.choice(("en", "ru")))
            await clock.sleep_ms(draw.choice((0, 0, 50, 2_000)))
            if draw.random() < 0.03:
                raise ProviderError("the backend broke off")
        if draw.random() < 0.1:
            yield TakeMessage({"name": "John"})
        if draw.random() < 0.12:
            yield draw.choice((HangUp(), Transfer("+15550199")))

    def greet(self) -> AsyncGenerator[Reply, None]:
        return self._talk()

    def answer(self, text: str, language: str) -> AsyncGenerator[Reply, None]:
        assert text
        return self._talk()

    def digits(self, digits: str) -> AsyncGenerator[Reply, None]:
        assert digits
        return self._talk()

    async def part(self, language: str) -> AsyncGenerator[Reply, None]:
        yield Say("We have to stop.", "en")

    def heard(self, text: str) -> None:
        self.told_heard.append(text)

    def pending(self) -> TakeMessage | None:
        return None

    async def aclose(self) -> None:
        pass


async def converse(call: Call, draw: random.Random) -> None:
    """The caller's and the machine's part, until somebody hangs up."""
    happen = (speak, speak, speak, interject, interject, press, stall)
    while not call.over and draw.random() > 0.02:
        await draw.choice(happen)(call, draw)
        await call.wait(draw.choice((100, 700, 2_000, 5_000)))
        if draw.random() < 0.01:
            call.pipeline.say_goodbye()


async def speak(call: Call, draw: random.Random) -> None:
    """Something, with a pause in it, perhaps over the assistant."""
    await voice(call, draw, draw.randint(300, 2_500))
    if draw.random() < 0.3:
        await call.wait(draw.randint(100, 900))
        await voice(call, draw, draw.randint(100, 1_500))


async def interject(call: Call, draw: random.Random) -> None:
    """A cough, a "mhm"."""
    await voice(call, draw, draw.randint(100, 500))


async def press(call: Call, draw: random.Random) -> None:
    """Some keys."""
    for key in draw.choices("0123456789*#", k=draw.randint(1, 5)):
        call.pipeline.digit(key)
        await call.wait(draw.randint(50, 500))


async def stall(call: Call, draw: random.Random) -> None:
    """The worker is late, and then has much to do at once."""
    call.stalled = True
    await call.wait(draw.choice((30, 80, 150, 400)))
    call.stalled = False


async def voice(call: Call, draw: random.Random, ms: int) -> None:
    """With holes, as consonants make them."""
    while ms > 0 and not call.over:
        piece = min(ms, draw.randint(60, 400))
        call.speaking = (VOICE[0], draw.uniform(0.02, 0.3))
        await call.wait(piece)
        call.speaking = QUIET
        await call.wait(draw.choice((0, 20, 60)))
        ms -= piece
