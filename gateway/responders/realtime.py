"""A call with a speech-to-speech model (OpenAI Realtime): audio in, audio out, no text between.

The shell around ``conversation.realtime_talk``, which decides. mu-law and A-law go straight
through: the carrier's payload is sent as it came, and what the model says goes to the pacer as it
is, so that nothing is transcoded. All other encodings take the way through the rings: 16 kHz PCM
up to OpenAI's 24 kHz here (4 microseconds a frame), 24 kHz back by the DSP. Either way the
caller's frames pass the rings too, for the detector: it measures how long an answer takes, and
decides about turns if ``REALTIME_TURN_DETECTION=ours``.

Tasks of a call: one that reads the session, one that plays what came (it waits while the player
has enough), one that watches the time. When the model cannot be had, the stand-in takes over as
soon as everything was played that came before.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Self

from audio.format import FRAME_MS, WIRE_FORMATS, Encoding
from gateway import clock
from gateway.conversation.barge_in import BargeIn
from gateway.conversation.call_tools import Keep, Leave
from gateway.conversation.endpointing import EndpointingPolicy, Verdict, decide
from gateway.conversation.realtime_actions import (
    Action,
    Do,
    Failed,
    GiveUp,
    Interrupted,
    Play,
    Said,
    Send,
)
from gateway.conversation.realtime_cost import PRICES_FILE, Meter, Price, parse_prices
from gateway.conversation.realtime_plan import Plan, TurnDetection, greeting, instructions
from gateway.conversation.realtime_talk import Talk
from gateway.conversation.speech import SpeechDetector
from gateway.conversation.timing import TurnTimes
from gateway.errors import ProviderError
from gateway.limits import DIGITS_MAX, DIGITS_PAUSE_MS
from gateway.ops.log import get_logger
from gateway.providers.realtime_events import JsonObject, append
from gateway.providers.realtime_socket import Endpoint, RealtimeSocket
from gateway.responders.base import Conversation, TakeMessage
from gateway.responders.realtime_desk import Desk
from gateway.responders.realtime_hearing import Hearing
from gateway.settings import Settings

UNTAKEN_EVENTS_MAX = 250  # 10 s that are said again to the next session
WATCH_MS = 250
#: Voices that the profile may name; other names mean one of text-to-speech.
VOICES = frozenset(
    [
        "alloy",
        "ash",
        "ballad",
        "coral",
        "echo",
        "sage",
        "shimmer",
        "verse",
        "marin",
        "cedar",
    ]  # the SDK's list
)
_SILENCE_DBFS = -120.0

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """What the calls of a worker share."""

    endpoint: Endpoint
    model: str
    voice: str
    turn_detection: TurnDetection
    price: Price | None
    limit_usd: float
    call_ms_max: int

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Of the settings. Raises ``ConfigurationError``."""
        prices = parse_prices(PRICES_FILE.read_text(encoding="utf-8"))
        price, limit_usd = (
            prices.models.get(settings.realtime_model),
            settings.max_cost_usd_per_call,
        )
        if price is None and limit_usd:
            log.warning(
                "MAX_COST_USD_PER_CALL has no effect: no price is known, tokens are counted only",
                model=settings.realtime_model,
                prices_of=prices.date,
            )
        key = settings.openai_api_key.get_secret_value()
        return cls(
            endpoint=Endpoint.of(settings.realtime_base_url, key),
            model=settings.realtime_model,
            voice=settings.realtime_voice,
            turn_detection=TurnDetection(settings.realtime_turn_detection),
            price=price,
            limit_usd=limit_usd,
            call_ms_max=settings.max_call_ms,
        )


def plan_of(desk: Desk, service: Service) -> Plan:
    """How the session of a call is to be set up."""
    language, hint = desk.language.reply, desk.language.transcription_hint
    sent, taken = desk.player.encodings
    return Plan(
        voice=desk.profile.voice if desk.profile.voice in VOICES else service.voice,
        encoding=sent if sent is taken else Encoding.PCM16,  # a session has one for both ways
        turn_detection=service.turn_detection,
        instructions=instructions(desk.profile, language, fixed=bool(hint)),
        greeting=greeting(desk.profile, language),
        language=hint,
        transfer_targets=desk.profile.transfer_targets if desk.call.transferable else {},
    )


def open_realtime(settings: Settings) -> Callable[[Desk], Conversation]:
    """Make what the calls of a worker share; what takes a call. Raises ``ConfigurationError``."""
    return partial(RealtimeConversation, Service.open(settings))


class RealtimeConversation:
    """One call's conversation."""

    def __init__(self, service: Service, desk: Desk) -> None:
        self._service = service
        self._player = desk.player
        self._told = desk.told
        self._desk = desk
        plan = plan_of(desk, service)
        self._plan = plan
        self._meter = Meter(service.price, service.limit_usd)
        self._talk = Talk(plan, self._meter, clock.now_ns())
        #: Called with the carrier's payloads where they go straight through.
        self.hear_wire = self._take if plan.passes_through else None
        self._hearing = Hearing(plan)
        self._socket: RealtimeSocket | None = None
        self._live = False
        self._untaken: deque[JsonObject] = deque(maxlen=UNTAKEN_EVENTS_MAX)
        self._queue: deque[bytes | Do | GiveUp] = deque()
        self._queued = asyncio.Event()
        self._rest = b""
        self._stand_in: Conversation | None = None
        self._given_up: GiveUp | None = None
        self._digits = ""
        self._digits_timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: asyncio.Task[None] | None = None
        self._playing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._voice_began_ns = self._voice_ns = 0
        self._detector = SpeechDetector()
        self._endpointing = EndpointingPolicy()
        self._barge_in = BargeIn()

    # What the session of the call reports

    def start(self) -> None:
        """Connect; the model greets."""
        self._session = self._spawn(self._converse())
        self._playing = self._spawn(self._play())
        self._watching = self._spawn(self._watch())

    def hear(self, pcm: bytes, probability: float, level: float) -> None:
        """One caller frame."""
        if self._stand_in is not None:
            self._stand_in.hear(pcm, probability, level)
            return
        if self.hear_wire is None:
            self._take(pcm)
        self._listen(probability, level)

    def digit(self, digit: str) -> None:
        """The caller pressed a key; an entry ends with ``#`` or a pause."""
        if self._stand_in is not None:
            self._stand_in.digit(digit)
            return
        self._digits = (self._digits + digit)[-DIGITS_MAX:]
        if self._digits_timer is not None:
            self._digits_timer.cancel()
        wait_ms = 0 if digit == "#" else DIGITS_PAUSE_MS
        loop = asyncio.get_running_loop()
        self._digits_timer = loop.call_later(wait_ms / 1000, self._enter_digits)

    def heard_all(self) -> None:
        """The caller has heard everything that was said."""
        if self._stand_in is not None:
            self._stand_in.heard_all()
        else:
            self._do(self._talk.all_heard(clock.now_ns()))

    def say_goodbye(self) -> bool:
        """The call must end: have the model say so."""
        if self._stand_in is not None:
            return self._stand_in.say_goodbye()
        actions = self._talk.part(clock.now_ns())
        self._do(actions)
        return bool(actions)

    async def aclose(self) -> None:
        """The call is over: the last words that were heard are noted, the session is closed."""
        if self._digits_timer is not None:
            self._digits_timer.cancel()
        self._live = False
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._stand_in is not None:
            await self._stand_in.aclose()
        else:
            self._do(self._talk.heard(self._player.heard_ms(clock.now_ns())))
        log.info(
            "realtime usage",
            call=self._desk.call.call_id,
            tokens_in=self._meter.tokens_in,
            tokens_out=self._meter.tokens_out,
            usd=round(self._meter.usd, 4),
            garbage=self._talk.garbage,
        )

    # The caller's side

    def _take(self, audio: bytes) -> None:
        """Audio of the caller's, on its way to the model."""
        if self._stand_in is not None:
            return
        for piece in self._hearing.take(audio):
            event = append(piece)
            self._untaken.append(event)
            if self._live:
                self._send(event)

    def _listen(self, probability: float, level: float) -> None:
        detector, talk = self._detector, self._talk
        dbfs = 20 * math.log10(level) if level > 0 else _SILENCE_DBFS
        detector.feed(probability, dbfs)
        if detector.voiced:
            now_ns = clock.now_ns()
            if now_ns - self._voice_ns > FRAME_MS * 10 * clock.NS_PER_MS:
                self._voice_began_ns = now_ns
            self._voice_ns = now_ns
        ours = self._plan.turn_detection is TurnDetection.OURS or self._given_up is not None
        audible = talk.is_audible
        if self._barge_in.feed(voiced=detector.voiced, assistant_audible=audible) and ours:
            self._do(talk.caller_began())
        if not detector.in_utterance:
            return
        verdict = decide(
            self._endpointing, pause_ms=detector.pause_ms, speech_ms=detector.speech_ms
        )
        if verdict is Verdict.END:
            detector.end()
            if ours and not talk.is_audible:  # else it was only a "mhm"
                self._do(talk.caller_ended(clock.now_ns()))

    def _enter_digits(self) -> None:
        digits, self._digits = self._digits, ""
        self._do(self._talk.keys(digits, clock.now_ns()))

    # The model's side

    async def _converse(self) -> None:
        """One session, from the connection to its end."""
        talk = self._talk
        try:
            socket = await RealtimeSocket.open(self._service.endpoint, model=self._service.model)
        except ProviderError as error:
            self._do(talk.lost(str(error), clock.now_ns()))
            return
        self._socket = socket
        try:
            self._do(talk.opened(clock.now_ns()))
            async with aclosing(socket.events()) as events:
                async for event in events:
                    self._do(talk.received(event, clock.now_ns()))
        except ProviderError as error:
            self._live = False
            self._do(talk.lost(str(error), clock.now_ns()))
        finally:
            talk.garbage += socket.garbage
            await socket.aclose()

    async def _watch(self) -> None:
        """The time."""
        end_ns = clock.now_ns() + self._service.call_ms_max * clock.NS_PER_MS
        while self._stand_in is None:
            await clock.sleep_ms(WATCH_MS)
            now_ns = clock.now_ns()
            if now_ns > end_ns and not self._talk.is_leaving:
                self.say_goodbye()
            self._do(self._talk.tick(now_ns))
            if self._talk.is_audible:
                self._do(self._talk.heard(self._player.heard_ms(now_ns)))

    async def _play(self) -> None:
        """What came, in order, as fast as the player takes it."""
        while True:
            while not self._queue:
                self._queued.clear()
                await self._queued.wait()
            piece = self._queue.popleft()
            if isinstance(piece, bytes):
                await self._feed(piece)
            elif piece is Do.END_ITEM:
                await self._fill_up()
            elif piece is Do.END_UTTERANCE:
                if not self._queue:
                    self._player.end_utterance()
            else:
                self._stand_in = self._desk.stand_in()
                self._stand_in.start()
                return

    async def _feed(self, audio: bytes) -> None:
        if not self._plan.passes_through:
            await self._player.feed(audio)
            return
        self._rest += audio
        size = WIRE_FORMATS[self._plan.encoding].frame_bytes
        whole = len(self._rest) - len(self._rest) % size
        frames, self._rest = self._rest[:whole], self._rest[whole:]
        await self._player.feed_encoded(frames)

    async def _fill_up(self) -> None:
        """An item is complete: so is its last frame."""
        if self._rest:
            wire = WIRE_FORMATS[self._plan.encoding]
            await self._feed(bytes([wire.silence]) * (wire.frame_bytes - len(self._rest)))
        await self._player.end_clause()

    # What is to be done

    def _do(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Do):
                self._do_plain(action)
            elif isinstance(action, Send):
                self._send(action.event)
            elif isinstance(action, Play):
                self._enqueue(action.audio)
            elif isinstance(action, GiveUp):
                self._give_up(action)
            else:
                self._report(action)

    def _do_plain(self, action: Do) -> None:
        if action is Do.CUT:
            self._cut()
        elif action is Do.REPLAY:
            self._live = True
            for event in self._untaken:
                self._send(event)
        elif action is Do.TAKEN:
            self._untaken.clear()
        elif action is Do.ANSWERING:
            self._answering()
        elif action is Do.REOPEN:
            self._end_session()
            self._session = self._spawn(self._converse())
        else:
            self._enqueue(action)

    def _report(self, action: Said | Interrupted | Failed | Keep | Leave) -> None:
        told = self._told
        match action:
            case Said(role, text):
                told.said(role, text, self._desk.language.current)
            case Interrupted(heard_text):
                told.interrupted(heard_text)
            case Failed(reason):
                told.failed("realtime", ProviderError(reason, retryable=True))
            case Keep(fields):
                told.message(TakeMessage(fields))
            case Leave(""):
                told.hang_up()
            case Leave(number):
                told.transfer(number)

    def _send(self, event: JsonObject) -> None:
        if self._socket is not None and not self._socket.send(event):
            self._end_session()
            now_ns = clock.now_ns()
            lost = self._talk.lost
            reason = "the server takes nothing any more"
            asyncio.get_running_loop().call_soon(lambda: self._do(lost(reason, now_ns)))

    def _enqueue(self, piece: bytes | Do | GiveUp) -> None:
        self._queue.append(piece)
        self._queued.set()

    def _cut(self) -> None:
        if self._playing is not None:
            self._playing.cancel()
        self._queue.clear()
        self._rest = b""
        now_ns = clock.now_ns()
        heard_ms = self._player.cut(now_ns)
        if self._detector.voiced:
            self._told.barged_in((now_ns - self._voice_began_ns) // clock.NS_PER_MS)
        if self._given_up is not None:
            self._queue.append(self._given_up)
        self._playing = self._spawn(self._play())
        self._do(self._talk.cut(heard_ms))

    def _answering(self) -> None:
        """The first audio of an answer came."""
        if self._voice_ns:
            response_ms = (clock.now_ns() - self._voice_ns) // clock.NS_PER_MS
            self._told.answered(
                TurnTimes(
                    endpoint_ms=-1,
                    transcript_ms=-1,
                    first_words_ms=-1,
                    first_audio_ms=response_ms,
                    response_ms=response_ms,
                )
            )

    def _give_up(self, action: GiveUp) -> None:
        self._told.failed("realtime", ProviderError(action.reason))
        self._given_up = action
        self._end_session()
        self._enqueue(action)

    def _end_session(self) -> None:
        """Leave the session, whoever asks (its own task may)."""
        self._live = False
        self._socket = None
        if self._session is not None:
            self._session.cancel()
            self._session = None

    def _spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:  # a bug of ours: it ends this call, loudly, and no other
            self._told.crashed(error)
