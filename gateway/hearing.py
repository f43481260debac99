"""The caller's side of a conversation: when they speak, when they pause, what they said.

Speech-to-text begins at the first short pause, while nobody knows yet whether the caller has
finished: so its time is hidden in the pause that the endpointing waits for anyway. If the caller
goes on, what was asked is dropped and asked again, with all of the audio, at the next pause.

Kept while needed: the audio of the present utterance, with a pre-roll before it begins, so that
its first syllable is not lost.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from audio.format import FRAME_MS, PCM_FRAME_BYTES
from gateway import clock
from gateway.conversation.cadence import Cadence
from gateway.conversation.endpointing import (
    EndpointingPolicy,
    Question,
    Reading,
    Verdict,
    decide,
    read,
    settle,
)
from gateway.conversation.language import ReplyLanguage
from gateway.conversation.speech import SILENCE_DBFS, SpeechDetector, SpeechResumed
from gateway.errors import ProviderError
from gateway.limits import LAST_WORDS_MS_MAX, PRE_ROLL_MS, SPECULATE_AFTER_MS, UTTERANCE_MS_MAX
from gateway.providers.base import Ear, Transcript, TurnModel

_PRE_ROLL_BYTES = PRE_ROLL_MS // FRAME_MS * PCM_FRAME_BYTES
_UTTERANCE_BYTES_MAX = UTTERANCE_MS_MAX // FRAME_MS * PCM_FRAME_BYTES


def dbfs(level: float) -> float:
    """An RMS level of full scale in decibels."""
    return 20 * math.log10(level) if level > 0 else SILENCE_DBFS


class Hearing:
    """One caller's ears. ``failed`` is told of a failing provider, ``crashed`` of a bug."""

    def __init__(
        self,
        ear: Ear,
        language: ReplyLanguage,
        failed: Callable[[str, Exception], None],
        crashed: Callable[[BaseException], None],
        turn_model: TurnModel | None = None,
    ) -> None:
        self._ear = ear
        self._turn_model = turn_model
        self._language = language
        self._failed = failed
        self._crashed = crashed
        self._endpointing = EndpointingPolicy()
        self._audio = bytearray()
        self._asking: asyncio.Task[None] | None = None
        self._doubting: asyncio.Task[None] | None = None
        self._on_text: Callable[[], None] | None = None
        self._reading: Reading | None = None
        self._cadence = Cadence()
        self._ended = False
        self.detector = SpeechDetector()
        #: What was understood of the utterance so far; None while that is not known.
        self.transcript: Transcript | None = None
        #: Whether speech-to-text failed; ``transcript`` is empty then.
        self.deaf = False
        #: When the text was there, in ns.
        self.understood_ns = 0

    def feed(self, pcm: bytes, probability: float, level_dbfs: float) -> None:
        """One caller frame."""
        self._audio += pcm
        self._ear.feed(pcm)
        change = self.detector.feed(probability, level_dbfs)
        if self.detector.in_utterance:
            self._cadence.feed(level_dbfs, voiced=self.detector.voiced)
        if isinstance(change, SpeechResumed):
            self.listen_on()
        elif not self.detector.in_utterance and not self._ended:
            del self._audio[:-_PRE_ROLL_BYTES]

    def speculate(self) -> None:
        """If the caller pauses, ask for the text of what they said so far, once a pause."""
        known = self._asking is not None or self.transcript is not None
        if not known and self.detector.pause_ms >= SPECULATE_AFTER_MS:
            self._ask()

    def has_ended(self, question: Question) -> bool:
        """Whether the caller has said what they wanted to say, as far as is known now."""
        if len(self._audio) >= _UTTERANCE_BYTES_MAX:
            return True
        detector, policy = self.detector, self._endpointing
        pause_ms = detector.pause_ms
        if pause_ms < policy.min_ms or detector.voiced:  # voiced: perhaps they go on this moment
            return False
        if self.transcript is None:  # no answer could begin: let the text decide when it is there
            return pause_ms >= policy.max_ms
        if self._reading is None:
            language = self.transcript.language or self._language.current
            reading = read(self.transcript.text, language, question)
            self._reading = settle(reading, question, falls=self._cadence.falls)
            self._doubt()
        speech_ms = detector.speech_ms
        verdict = decide(policy, pause_ms=pause_ms, speech_ms=speech_ms, reading=self._reading)
        return verdict is Verdict.END

    @property
    def abandoned(self) -> bool:
        """Whether speech that nobody asked about is long over."""
        pause_ms = self.detector.pause_ms
        return pause_ms >= self._endpointing.base_ms or len(self._audio) >= _UTTERANCE_BYTES_MAX

    def understand(self, then: Callable[[], None]) -> None:
        """The utterance is over: call ``then`` as soon as its text is there."""
        self.detector.end()
        self._ended = True
        if self.transcript is not None:
            then()
            return
        self._on_text = then
        if self._asking is None:
            self._ask()

    def listen_on(self) -> None:
        """The caller goes on: what was asked is void, the audio is kept."""
        for task in filter(None, (self._asking, self._doubting)):
            task.cancel()
        self._asking = self._doubting = self._on_text = None
        self._ended = self.deaf = False
        self.transcript = self._reading = None

    def forget(self) -> None:
        """Nothing of the utterance is needed any more."""
        self.listen_on()
        self.detector.end()
        self._cadence.forget()
        del self._audio[:-_PRE_ROLL_BYTES]
        self._ear.forget()

    async def aclose(self) -> None:
        """The call is over; the text of what was said last is waited for, if it is wanted."""
        asking = self._asking
        if asking is not None and self._on_text is not None:
            await asyncio.wait({asking}, timeout=LAST_WORDS_MS_MAX / 1000)
        tasks = filter(None, (asking, self._doubting))
        self.listen_on()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._ear.aclose()

    def _ask(self) -> None:
        self._asking = asyncio.create_task(self._run(bytes(self._audio)))
        self._asking.add_done_callback(self._asked)

    def _doubt(self) -> None:
        """Where words and voice say nothing, ask the model, if there is one."""
        model, heard = self._turn_model, self.transcript
        if model is None or self._reading is not Reading.UNKNOWN or not (heard and heard.text):
            return
        pause_frames = (self.detector.pause_ms - SPECULATE_AFTER_MS) // FRAME_MS
        end = len(self._audio) - max(0, pause_frames) * PCM_FRAME_BYTES
        self._doubting = asyncio.create_task(self._consult(model, bytes(self._audio[:end])))
        self._doubting.add_done_callback(self._asked)

    async def _consult(self, model: TurnModel, pcm: bytes) -> None:
        goes_on = await model.goes_on(pcm)
        if self._reading is not None:
            self._reading = settle(self._reading, Question.OPEN, falls=False, goes_on=goes_on)

    async def _run(self, pcm: bytes) -> None:
        try:
            transcript = await self._ear.transcribe(pcm, self._language.transcription_hint)
        except ProviderError as error:
            self._failed("stt", error)
            transcript = Transcript("", "")
            self.deaf = True
        self.understood_ns = clock.now_ns()
        self.transcript = transcript
        self._asking = None
        then, self._on_text = self._on_text, None
        if then is not None:
            then()

    def _asked(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:  # a bug of ours: it ends this call, loudly, and no other
            self._crashed(error)
