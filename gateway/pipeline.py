"""The shell of the conversation: lets hearing, turn table, responder and voice of one call work.

What the caller's side finds is reported to the turn table, and the actions it answers with are
executed here: nothing in this file decides whose turn it is. The caller is heard by ``Hearing``,
the assistant spoken by ``Voice``; the echo guard stands between them, since on a loudspeaker the
one hears the other. Kept here: the text of an utterance that was not answered yet (a caller who
goes on before hearing anything is answered to all of it), and the keys of an unfinished entry.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from audio.format import FRAME_MS
from gateway import clock
from gateway.conversation.barge_in import BargeIn, is_acknowledgement
from gateway.conversation.care import CallCare, CallPolicy
from gateway.conversation.echo_guard import EchoGuard
from gateway.conversation.endpointing import Question
from gateway.conversation.history import Role
from gateway.conversation.language import ReplyLanguage
from gateway.conversation.lexicon import lexicon
from gateway.conversation.timing import turn_times
from gateway.conversation.turn import Action, Event, State, Turn
from gateway.errors import ProviderError
from gateway.hearing import Hearing, dbfs
from gateway.last_words import hand_over
from gateway.limits import ACKNOWLEDGEMENT_MS_MAX, DIGITS_MAX, DIGITS_PAUSE_MS
from gateway.observer import Observer as Observer
from gateway.player import Player
from gateway.providers.base import Speech
from gateway.responders.base import HangUp, Reply, Responder, Say
from gateway.voice import Voice

#: States in which the assistant is heard, or will be in a moment.
_ITS_TURN = frozenset({State.RESPONDING, State.ASSISTANT, State.PAUSED})


class Pipeline:
    """One call's conversation."""

    def __init__(
        self,
        speech: Speech,
        responder: Responder,
        player: Player,
        observer: Observer,
        language: ReplyLanguage,
        policy: CallPolicy | None = None,
    ) -> None:
        self._responder = responder
        self._policy = policy or CallPolicy()
        self._player = player
        self._observer = observer
        self._language = language
        ear, model = speech.stt.listen(), speech.turn_model
        self._hearing = Hearing(ear, language, observer.failed, observer.crashed, model)
        self._voice = Voice(speech, player, observer, self._on)
        self._turn = Turn()
        self._care = CallCare(self._policy, clock.now_ns())
        self._barge_in = BargeIn(self._policy.barge_in_after_ms)
        self._guard = EchoGuard()
        self._text = ""
        self._speech_ms = 0  # the voice in it
        self._digits = ""
        self._digits_timer: asyncio.TimerHandle | None = None
        self._care_timer: asyncio.TimerHandle | None = None
        self._since_ns = 0  # when the caller fell silent; 0 = that was answered
        self._ended_ns = 0  # when we decided that they have finished
        self._asked = False  # whether what was paused was the reply's last clause
        self._ours = True  # whether no words of the responder's are being said
        self._execute: dict[Action, Callable[[], None]] = {
            Action.UNDERSTAND: self._understand,
            Action.LISTEN_ON: self._hearing.listen_on,
            Action.RESPOND: self._respond,
            Action.RESPOND_DIGITS: self._respond_digits,
            Action.PAUSE: self._pause,
            Action.RESUME: self._resume,
            Action.CUT: self._cut,
            Action.FORGET: self._hearing.forget,
            Action.ASK_AGAIN: lambda: self._recite("say_again"),
            Action.ASK_PRESENCE: lambda: self._recite("are_you_there"),
            Action.LEAVE: lambda: self._recite("deserted", HangUp()),
            Action.PART: lambda: self._speak(self._responder.part(language.reply)),
            Action.HANG_UP: self._hang_up,
        }

    @property
    def state(self) -> State:
        """Whose turn it is."""
        return self._turn.state

    # What the session reports

    def start(self) -> None:
        """Greet."""
        self._watch()
        self._speak(self._responder.greet())

    def hear(self, pcm: bytes, probability: float, level: float) -> None:
        """One caller frame."""
        hearing, state = self._hearing, self._turn.state
        level_dbfs = dbfs(level)
        if self._echoes(state) and self._guard.is_echo(self._playing(), level_dbfs):
            probability = 0.0
        hearing.feed(pcm, probability, level_dbfs)
        detector = hearing.detector
        if state is State.ASSISTANT:
            self._voice.look(clock.now_ns())
            self._measure()
        its_turn = state in _ITS_TURN
        held = self._barge_in.feed(voiced=detector.voiced, assistant_audible=its_turn)
        if state is State.RESPONDING:
            self._voice.hold(held=self._barge_in.frames > 0)
        if detector.in_utterance:
            self._follow(state, held=held)

    def digit(self, digit: str) -> None:
        """The caller pressed a key; an entry ends with ``#`` or a pause."""
        self._digits = (self._digits + digit)[-DIGITS_MAX:]
        self._care.alive(clock.now_ns())
        self._on(Event.KEY)
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
        """The caller has heard everything that was given to the player."""
        self._measure()
        self._voice.heard_all()

    def say_goodbye(self) -> bool:
        """Whatever is going on: say the last words, hang up when they were heard."""
        self._on(Event.GOING_DOWN)
        return True

    async def aclose(self) -> None:
        """Stop everything; hand over what was taken down, the last words included."""
        answered = self._text
        if self._turn.state is State.CALLER:  # hung up in the midst of a sentence
            self._understand()
        self._on(Event.STOPPED)
        for timer in filter(None, (self._digits_timer, self._care_timer)):
            timer.cancel()
        await self._voice.aclose()
        await self._hearing.aclose()
        said = self._text if self._text != answered else ""
        await hand_over(self._responder, said, self._language.reply, self._observer.message)

    # The caller's voice

    def _echoes(self, state: State) -> bool:
        """Whether our own voice may come back now; whoever has the turn is certainly no echo."""
        return state is State.ASSISTANT or (self._guard.expects and state is not State.CALLER)

    def _playing(self) -> float:
        return self._voice.level(clock.now_ns())

    def _follow(self, state: State, *, held: bool) -> None:
        """The caller speaks, or has just done so."""
        hearing = self._hearing
        if state in _ITS_TURN:
            self._judge(state, held=held)
        elif state is State.LISTENING or state is State.TRANSCRIBING:
            self._on(Event.SPEECH_STARTED)
        elif state is State.CALLER:
            hearing.speculate()
            if hearing.has_ended(self._responder.question):
                self._end_turn()
        elif hearing.abandoned:
            hearing.forget()

    def _judge(self, state: State, *, held: bool) -> None:
        """The caller speaks out of turn: a "mhm", or more than that?"""
        hearing = self._hearing
        if held and state is State.ASSISTANT:
            self._on(Event.SPEECH_HELD)
        elif state is not State.ASSISTANT:
            hearing.speculate()
        transcript = hearing.transcript
        if transcript is not None:
            text, language = transcript.text, transcript.language or self._language.current
            answers = self._responder.question is Question.YES_NO and self._asked
            mere = not text.strip() or (is_acknowledgement(text, language) and not answers)
            if mere:
                hearing.forget()
            self._on(Event.ACKNOWLEDGED if mere else Event.INTERRUPTED)
        elif state is State.ASSISTANT:
            if hearing.abandoned:
                hearing.forget()
        elif hearing.detector.speech_ms > ACKNOWLEDGEMENT_MS_MAX:
            self._on(Event.INTERRUPTED)

    def _end_turn(self) -> None:
        self._ended_ns = clock.now_ns()
        self._since_ns = self._ended_ns - self._hearing.detector.pause_ms * clock.NS_PER_MS
        self._on(Event.SPEECH_ENDED)

    def _understand(self) -> None:
        self._speech_ms = self._hearing.detector.speech_ms
        self._hearing.understand(self._understood)

    def _understood(self) -> None:
        """The text of the utterance is there."""
        hearing = self._hearing
        transcript, deaf = hearing.transcript, hearing.deaf
        assert transcript is not None
        hearing.forget()
        text = transcript.text.strip()
        if text:
            self._language.heard(transcript.language, self._speech_ms)
            self._care.alive(clock.now_ns())
            self._text = f"{self._text} {text}".strip()
            self._observer.said(Role.CALLER, text, self._language.current)
        if self._text:
            self._on(Event.TRANSCRIPT)
        else:
            self._on(Event.NOT_UNDERSTOOD if deaf else Event.NO_TRANSCRIPT)

    # What the turn table asks for

    def _on(self, event: Event) -> None:
        before = self._turn.state
        actions = self._turn.on(event)
        if self._turn.state is not before:
            self._care.moved(self._turn.state, clock.now_ns())
            self._watch()
        if event is Event.REPLY_HEARD or event is Event.REPLY_SILENT:  # it was answered
            self._text, self._ours = "", True
        for action in actions:
            self._execute[action]()

    def _watch(self) -> None:
        """Wake up when something is due although nothing happens."""
        if self._care_timer is not None:
            self._care_timer.cancel()
            self._care_timer = None
        if self._care.due_ns is not None:
            wait_s = max(0, self._care.due_ns - clock.now_ns()) / 1e9
            self._care_timer = asyncio.get_running_loop().call_later(wait_s, self._due)

    def _due(self) -> None:
        event = self._care.due(clock.now_ns())
        if event is not None:
            self._on(event)
        self._watch()

    def _respond(self) -> None:
        text, language = self._text, self._language.reply
        self._speak(self._or_apology(self._responder.answer(text, language)))

    def _respond_digits(self) -> None:
        digits, self._digits = self._digits, ""
        self._speak(self._or_apology(self._responder.digits(digits)))

    def _recite(self, sentence: str, *then: Reply) -> None:
        async def replies() -> AsyncGenerator[Reply, None]:
            yield self._sentence(sentence)
            for reply in then:
                yield reply

        self._speak(replies(), ours=True)

    def _speak(self, replies: AsyncGenerator[Reply, None], *, ours: bool = False) -> None:
        self._asked, self._ours = False, ours
        self._voice.speak(replies, self._sentence("one_moment"), self._policy.filler_after_ms)

    def _sentence(self, sentence: str) -> Say:
        language = self._language.reply
        return Say(lexicon(language).sentences[sentence], language)

    async def _or_apology(
        self, replies: AsyncGenerator[Reply, None]
    ) -> AsyncGenerator[Reply, None]:
        """The responder's replies. Who follows one that fails is a chain's business, not ours."""
        try:
            async with aclosing(replies):
                async for reply in replies:
                    yield reply
        except ProviderError as error:
            self._observer.failed("responder", error)
            yield self._sentence("trouble")

    def _pause(self) -> None:
        self._asked = self._voice.asks_now(clock.now_ns())
        self._voice.pause()
        self._guard.doubt()
        self._observer.barged_in(self._barge_in.frames * FRAME_MS)

    def _resume(self) -> None:
        self._barge_in.reset()
        self._voice.resume()
        self._observer.resumed()

    def _cut(self) -> None:
        self._barge_in.reset()
        heard = self._voice.stop()
        if not self._ours:
            self._responder.heard(heard or "")
            self._ours = True  # told once
        if heard is not None:
            self._text = ""  # a filler alone does not answer it
            self._observer.interrupted(self._voice.heard_last)

    def _hang_up(self) -> None:
        if self._voice.transfer_to:
            self._observer.transfer(self._voice.transfer_to)
        else:
            self._observer.hang_up()

    def _measure(self) -> None:
        """Once an answer is on its way, tell how long it took."""
        began_ns = self._player.began_ns
        if not self._since_ns or began_ns is None:
            return
        voice = self._voice
        stages = (self._hearing.understood_ns, voice.first_words_ns, voice.first_audio_ns, began_ns)
        times = turn_times(self._since_ns, self._ended_ns, *stages)
        self._since_ns = 0
        self._observer.answered(times)
