"""The shell of the conversation: runs speech-to-text, responder and text-to-speech of one call.

The caller's frames are judged by the speech detector and the endpointing policy, what they find is
reported to the turn table, and the actions it answers with are executed here: nothing in this file
decides whose turn it is. At most two tasks run for a call: one that transcribes, one that speaks.

Kept while needed: the audio of the present utterance (a pre-roll before it begins, so that its
first syllable is not lost), the text of an utterance that was not answered yet (a caller who goes
on before hearing anything is answered to all of it), and the keys of an unfinished entry.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from audio.format import FRAME_MS, PCM_FRAME_BYTES
from gateway import clock
from gateway.conversation.barge_in import BargeIn
from gateway.conversation.clauses import ClauseSplitter
from gateway.conversation.endpointing import EndpointingPolicy, Verdict, decide
from gateway.conversation.history import History, Role
from gateway.conversation.language import ReplyLanguage
from gateway.conversation.speech import SpeechDetector, SpeechResumed, SpeechStarted
from gateway.conversation.timing import TurnTimes
from gateway.conversation.turn import Action, Event, State, Turn
from gateway.errors import ProviderError
from gateway.last_words import take_down
from gateway.limits import (
    DIGITS_MAX,
    DIGITS_PAUSE_MS,
    LAST_WORDS_MS_MAX,
    PRE_ROLL_MS,
    UTTERANCE_MS_MAX,
)
from gateway.player import Player
from gateway.providers.base import SpeechToText, TextToSpeech
from gateway.responders.base import HangUp, Reply, Responder, Say, TakeMessage, Transfer

_PRE_ROLL_BYTES = PRE_ROLL_MS // FRAME_MS * PCM_FRAME_BYTES
_UTTERANCE_BYTES_MAX = UTTERANCE_MS_MAX // FRAME_MS * PCM_FRAME_BYTES
_SILENCE_DBFS = -120.0


class Observer(Protocol):
    """Who is told what happens in the conversation."""

    def said(self, role: Role, text: str, language: str) -> None:
        """A party's words: the caller's when understood, the assistant's when first heard."""
        ...

    def interrupted(self, heard_text: str) -> None:
        """The caller cut the assistant's last words short; this much of them was heard."""
        ...

    def message(self, message: TakeMessage) -> None:
        """The caller left a message."""
        ...

    def answered(self, times: TurnTimes) -> None:
        """An answer began; this is how long the caller waited for it."""
        ...

    def barged_in(self, latency_ms: int) -> None:
        """Playout stopped this long after the first voiced frame of the caller over it."""
        ...

    def resumed(self) -> None:
        """That was only a "mhm": the assistant goes on."""
        ...

    def transfer(self, number: str) -> None:
        """The caller is to be handed over to this number now."""
        ...

    def failed(self, stage: str, error: Exception) -> None:
        """A provider or responder failed."""
        ...

    def crashed(self, error: BaseException) -> None:
        """A bug of ours: the call cannot go on."""
        ...

    def hang_up(self) -> None:
        """The conversation is over."""
        ...


@dataclass(frozen=True, slots=True)
class Speech:
    """The two providers a pipeline needs."""

    stt: SpeechToText
    tts: TextToSpeech


class Pipeline:
    """One call's conversation."""

    def __init__(
        self,
        speech: Speech,
        responder: Responder,
        player: Player,
        observer: Observer,
        language: ReplyLanguage,
    ) -> None:
        self._speech = speech
        self._responder = responder
        self._player = player
        self._observer = observer
        self._language = language
        self._ear = speech.stt.listen()
        self._turn = Turn()
        self._detector = SpeechDetector()
        self._endpointing = EndpointingPolicy()
        self._barge_in = BargeIn()
        self._history = History()
        self._audio = bytearray()
        self._text = ""
        self._transfer_to = ""
        self._digits = ""
        self._digits_timer: asyncio.TimerHandle | None = None
        self._transcribing: asyncio.Task[None] | None = None
        self._speaking: asyncio.Task[None] | None = None
        self._execute: dict[Action, Callable[[], None]] = {
            Action.TRANSCRIBE: self._transcribe,
            Action.UNTRANSCRIBE: self._untranscribe,
            Action.RESPOND: self._respond,
            Action.RESPOND_DIGITS: self._respond_digits,
            Action.CUT: self._cut,
            Action.HANG_UP: self._hang_up,
            Action.FORGET: self._forget,
            Action.PART: self._part,
        }

    @property
    def state(self) -> State:
        """Whose turn it is."""
        return self._turn.state

    # What the session reports

    def start(self) -> None:
        """Greet."""
        self._speak(self._responder.greet())

    def hear(self, pcm: bytes, probability: float, level: float) -> None:
        """One caller frame."""
        self._audio += pcm
        self._ear.feed(pcm)
        dbfs = 20 * math.log10(level) if level > 0 else _SILENCE_DBFS
        change = self._detector.feed(probability, dbfs)
        if isinstance(change, SpeechStarted | SpeechResumed):
            self._on(Event.SPEECH_STARTED)
        state = self._turn.state
        audible = state is State.ASSISTANT
        held = self._barge_in.feed(voiced=self._detector.voiced, assistant_audible=audible)
        if held or (state is State.LISTENING and self._detector.in_utterance):
            self._on(Event.SPEECH_HELD)
        if self._detector.in_utterance:
            self._maybe_end_utterance()
        elif self._turn.state is not State.TRANSCRIBING:
            del self._audio[:-_PRE_ROLL_BYTES]

    def digit(self, digit: str) -> None:
        """The caller pressed a key; an entry ends with ``#`` or a pause."""
        self._digits = (self._digits + digit)[-DIGITS_MAX:]
        if self._digits_timer is not None:
            self._digits_timer.cancel()
        if digit == "#":
            self._on(Event.DIGITS)
        else:
            loop = asyncio.get_running_loop()
            self._digits_timer = loop.call_later(
                DIGITS_PAUSE_MS / 1000, lambda: self._on(Event.DIGITS)
            )

    def heard_all(self) -> None:
        """The caller has heard everything that was said."""
        self._on(Event.REPLY_HEARD)

    def say_goodbye(self) -> bool:
        """Whatever is going on: say the last words, hang up when they were heard."""
        self._on(Event.GOING_DOWN)
        return True

    async def aclose(self) -> None:
        """Stop both tasks; hand over what was taken down, the last words included."""
        answered = self._text
        if self._turn.state is State.CALLER:  # hung up in the midst of a sentence
            self._transcribe()
        self._on(Event.STOPPED)
        if self._digits_timer is not None:
            self._digits_timer.cancel()
        if self._transcribing is not None:
            await asyncio.wait({self._transcribing}, timeout=LAST_WORDS_MS_MAX / 1000)
        tasks = [t for t in (self._transcribing, self._speaking) if t is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        stored = None
        if self._text != answered:
            stored = await take_down(self._responder, self._text, self._language.reply)
        for message in filter(None, (stored, self._responder.pending())):
            self._observer.message(message)
        await self._responder.aclose()
        await self._ear.aclose()

    # What the turn table asks for

    def _on(self, event: Event) -> None:
        for action in self._turn.on(event):
            self._execute[action]()

    def _maybe_end_utterance(self) -> None:
        detector = self._detector
        verdict = decide(
            self._endpointing, pause_ms=detector.pause_ms, speech_ms=detector.speech_ms
        )
        if verdict is Verdict.END or len(self._audio) >= _UTTERANCE_BYTES_MAX:
            self._on(Event.SPEECH_ENDED)
            detector.end()

    def _transcribe(self) -> None:
        work = self._run_transcription(bytes(self._audio), self._detector.speech_ms)
        self._transcribing = self._start_task(work)

    async def _run_transcription(self, pcm: bytes, speech_ms: int) -> None:
        text = ""
        try:
            hint = self._language.transcription_hint
            transcript = await self._ear.transcribe(pcm, hint)
            text = transcript.text.strip()
            if text:
                self._language.heard(transcript.language, speech_ms)
        except ProviderError as error:
            self._observer.failed("stt", error)
        self._forget()
        if text:
            self._text = f"{self._text} {text}".strip()
            self._history.add(Role.CALLER, text)
            self._observer.said(Role.CALLER, text, self._language.current)
        self._on(Event.TRANSCRIPT if text else Event.NO_TRANSCRIPT)

    def _untranscribe(self) -> None:
        if self._transcribing is not None:
            self._transcribing.cancel()
            self._transcribing = None

    def _forget(self) -> None:
        self._audio.clear()
        self._ear.forget()

    def _respond(self) -> None:
        self._speak(self._responder.answer(self._text, self._language.reply))

    def _respond_digits(self) -> None:
        digits, self._digits = self._digits, ""
        self._speak(self._responder.digits(digits))

    def _part(self) -> None:
        self._speak(self._responder.part(self._language.reply))

    def _hang_up(self) -> None:
        if self._transfer_to:
            self._observer.transfer(self._transfer_to)
        else:
            self._observer.hang_up()

    def _speak(self, replies: AsyncGenerator[Reply, None]) -> None:
        assert self._speaking is None or self._speaking.done(), "two voices in one call"
        self._speaking = self._start_task(self._run_reply(replies))

    def _start_task(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        task.add_done_callback(self._task_done)
        return task

    def _task_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:  # a bug of ours: it ends this call, loudly, and no other
            self._observer.crashed(error)

    def _cut(self) -> None:
        if self._speaking is not None:
            self._speaking.cancel()
            self._speaking = None
        total_ms = self._player.fed_ms
        heard_ms = self._player.cut(clock.now_ns())
        if total_ms:
            cut = self._history.interrupt(heard_ms, total_ms)
            heard_text = cut.heard_text if cut else ""
            self._responder.heard(heard_text)
            self._observer.interrupted(heard_text)

    async def _run_reply(self, replies: AsyncGenerator[Reply, None]) -> None:
        audible = goodbye = False
        try:
            async with aclosing(replies):
                async for reply in replies:
                    if isinstance(reply, Say):
                        audible |= await self._say(reply)
                    else:
                        goodbye |= self._pass_on(reply)
        except ProviderError as error:
            self._observer.failed("responder", error)
        self._text = ""  # the responder has it, heard or not
        if goodbye:
            self._on(Event.GOODBYE)
        if audible:
            self._player.end_utterance()
        else:
            self._on(Event.REPLY_SILENT)

    def _pass_on(self, reply: TakeMessage | HangUp | Transfer) -> bool:
        """Tell of what is no speech, or keep it for the end; whether the call ends with it."""
        if isinstance(reply, TakeMessage):
            self._observer.message(reply)
        elif isinstance(reply, Transfer):
            self._transfer_to = reply.number
        return not isinstance(reply, TakeMessage)

    async def _say(self, say: Say) -> bool:
        """Speak; whether any of it became audible."""
        audible = False
        splitter = ClauseSplitter()
        for clause in splitter.feed(say.text) + splitter.flush():
            try:
                async with aclosing(self._speech.tts.speak(clause, say.language)) as stream:
                    async for pcm in stream:
                        if not audible:
                            audible = True
                            self._first_words(say)
                        await self._player.feed(pcm)
                await self._player.end_clause()
            except ProviderError as error:
                self._observer.failed("tts", error)
        return audible

    def _first_words(self, say: Say) -> None:
        """The caller begins to hear this: what was asked is answered now."""
        self._text = ""
        self._history.add(Role.ASSISTANT, say.text)
        self._observer.said(Role.ASSISTANT, say.text, say.language)
        self._on(Event.REPLY_AUDIBLE)
