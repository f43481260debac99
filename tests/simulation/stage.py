"""One whole call in virtual time: a caller, a carrier, the DSP step, and the real conversation.

Real are pipeline, voice, hearing, turn table, player, pacer and marks, and, if wanted, the rings
and the DSP process's step; the carrier plays what it is sent like a telephone, and returns marks.
Scripted are the caller's voice (as the probability and level of each frame) and the providers.
"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any

import numpy as np
import orjson
import pytest

from audio.arena import Arena
from audio.bank import Bank
from audio.batch import VadMode
from audio.dsp_process import AudioPlane, DspLoop
from audio.format import FRAME_MS, Encoding
from audio.g711 import decode, encode
from gateway import clock
from gateway.bridge import Bridge
from gateway.conversation.care import CallPolicy
from gateway.conversation.history import Role
from gateway.conversation.language import ReplyLanguage
from gateway.conversation.timing import TurnTimes
from gateway.conversation.turn import State
from gateway.pipeline import Pipeline
from gateway.player import Player
from gateway.providers.base import Speech
from gateway.responders.base import Responder, TakeMessage
from gateway.wire.twilio import TwilioWire
from supervisor.scoreboard import RowName, Scoreboard

VOICE, QUIET = (1.0, 0.2), (0.0, 0.0001)
SOFTER = (1.0, 0.08)  # by 8 dB
FRAME = bytes(640)
TICK_MS = 10


@dataclass
class Witness:
    """An observer that remembers."""

    told: list[tuple[str, str]] = field(default_factory=list)
    answers: list[TurnTimes] = field(default_factory=list)
    hung_up: bool = False

    def said(self, role: Role, text: str, language: str) -> None:
        self.told.append((role.value, text))

    def interrupted(self, heard_text: str) -> None:
        self.told.append(("cut", heard_text))

    def message(self, message: TakeMessage) -> None:
        self.told.append(("message", str(message.fields)))

    def answered(self, times: TurnTimes) -> None:
        self.answers.append(times)

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
        assert not self.hung_up, "a call is hung up once"
        self.hung_up = True


class Carrier:
    """Plays what it is sent, in order and in real time; returns marks as they are reached.

    ``mark_delay_ms`` tells for each mark how long it travels; None = it is lost.
    """

    def __init__(self, acknowledge: Callable[[str], None]) -> None:
        self.acknowledge = acknowledge
        self.mark_delay_ms: Callable[[], float | None] = lambda: 20.0
        self._waiting: list[tuple[int, str]] = []
        self._end_ns = 0
        self._timers: set[asyncio.TimerHandle] = set()
        self.playing: list[tuple[int, int, float]] = []  # each frame: from, to (ns), level if even
        self.audio: dict[int, bytes] = {}  # by the 20 ms in which its playing begins
        self.on_frame: Callable[[float], None] = lambda level: None
        self.on_clear: Callable[[], None] = lambda: None
        self.clears: list[int] = []
        self.sent: list[bytes] = []

    def send(self, message: bytes) -> None:
        self.sent.append(message)
        now_ns = clock.now_ns()
        body = orjson.loads(message)
        if body["event"] == "media":
            codes = base64.b64decode(body["media"]["payload"])
            begin_ns = max(now_ns, self._end_ns)
            self._end_ns = begin_ns + len(codes) * 125_000
            for at in range(0, len(codes), 160):
                level = level_of(codes[at : at + 160])
                from_ns = begin_ns + at * 125_000
                self.playing.append((from_ns, from_ns + 20_000_000, level))
                self.audio[from_ns // 20_000_000] = codes[at : at + 160]
                self.on_frame(level)
        elif body["event"] == "mark":
            self._later(max(0, self._end_ns - now_ns), body["mark"]["name"])
        else:
            assert body["event"] == "clear"
            self.clears.append(now_ns)
            self.on_clear()
            kept = [p for p in self.playing if p[0] < now_ns]
            self.playing = [(a, min(b, now_ns), level) for a, b, level in kept]
            self._end_ns = min(self._end_ns, now_ns)
            self.audio = {k: v for k, v in self.audio.items() if k <= now_ns // 20_000_000}
            for timer in self._timers:
                timer.cancel()
            for _, name in self._waiting:
                self._return(name)
            self._waiting.clear()

    def _later(self, wait_ns: int, name: str) -> None:
        entry = (wait_ns, name)
        self._waiting.append(entry)

        def reached() -> None:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._return(name)

        self._timer(wait_ns / 1e9, reached)

    def _return(self, name: str) -> None:
        delay_ms = self.mark_delay_ms()
        if delay_ms is not None:
            self._timer(delay_ms / 1e3, lambda: self.acknowledge(name))

    def _timer(self, wait_s: float, then: Callable[[], None]) -> None:
        def fire() -> None:
            self._timers.discard(handle)
            then()

        handle = asyncio.get_running_loop().call_later(wait_s, fire)
        self._timers.add(handle)

    def played_ms(self) -> int:
        """Audio that the caller heard so far."""
        now_ns = clock.now_ns()
        played = sum(max(0, min(end, now_ns) - begin) for begin, end, _ in self.playing)
        return played // clock.NS_PER_MS

    def close(self) -> None:
        for timer in self._timers:
            timer.cancel()


@lru_cache(4096)
def level_of(codes: bytes) -> float:
    """The level of an even frame; 0 for any other."""
    frame = np.abs(decode(Encoding.MULAW, np.frombuffer(codes, np.uint8)))
    return float(np.median(frame)) if frame.min() > 0.9 * frame.max() else 0.0


class Rings:
    """A line through the real rings and the DSP process's real step."""

    def __init__(self, arena: Arena, vad: VadMode = "off") -> None:
        board = Scoreboard([RowName("dsp", 0)], 1)
        self._dsp = DspLoop(plane(vad), [Bank(arena)], board.row("dsp", 0), TICK_MS)
        self._bridge = Bridge(arena, lambda: None, asyncio.get_running_loop())
        line = self._bridge.lease(Encoding.MULAW)
        assert line is not None
        self.line = line
        self.close = self._bridge.close

    def tick(self) -> None:
        if self.line.assistant_pending:  # it is cheap, but there are many ticks
            self._dsp.turn([0])

    def listen(self, payload: bytes, at_ms: int) -> list[tuple[bytes, float, float]]:
        """The caller's frame through the decoder and the voice detector."""
        assert self.line.push_caller(payload, at_ms)
        self._dsp.turn([0])
        self._dsp.turn([0])
        return [(pcm, probability, level) for _, pcm, probability, level in self._bridge.heard()]

    def encoded(self) -> list[bytes]:
        return [payload for _, payload in self._bridge.encoded()]


class ShortCut:
    """A line that encodes even frames only, and those at once: for many calls."""

    FRAMES_MAX = 32
    encodings = (Encoding.MULAW, Encoding.MULAW)

    def __init__(self) -> None:
        self.line = self
        self._pushed: deque[bytes] = deque()
        self._done: list[bytes] = []

    def push_assistant(self, frame: memoryview) -> bool:
        if len(self._pushed) >= self.FRAMES_MAX:
            return False
        sample = bytes(frame[:2])
        even = frame == sample * (len(frame) // 2)
        self._pushed.append(code_of(sample) * 160 if even else b"\xff" * 160)
        return True

    @property
    def assistant_room(self) -> int:
        return self.FRAMES_MAX - len(self._pushed)

    @property
    def assistant_pending(self) -> int:
        return len(self._pushed)

    def check(self) -> int:
        return 0

    def clear(self) -> None:
        self._pushed.clear()
        self._done.clear()

    def tick(self) -> None:
        self._done += self._pushed
        self._pushed.clear()

    def encoded(self) -> list[bytes]:
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        pass


@lru_cache
def code_of(sample: bytes) -> bytes:
    return encode(Encoding.MULAW, np.frombuffer(sample, "<i2")).tobytes()


class Call:
    """One call. ``speaking`` is what the caller does now: (probability, level) of their frames."""

    def __init__(
        self,
        media: Rings | ShortCut,
        speech: Speech,
        responder: Responder,
        *,
        language: str = "en",
        policy: CallPolicy | None = None,
    ) -> None:
        self._way = media
        wire = TwilioWire()
        wire.receive('{"event":"start","start":{"streamSid":"MZ1","callSid":"CA1"}}')
        self.carrier = Carrier(self._acknowledged)
        line: Any = media.line
        self.player = Player(line, wire, "MZ1", self.carrier.send)
        self.witness = Witness()
        self.pipeline = Pipeline(
            speech,
            responder,
            self.player,
            self.witness,
            ReplyLanguage(language),
            policy,
        )
        self.player.on_heard = self.pipeline.heard_all
        self.speaking = QUIET
        self.pcm = FRAME
        #: Whether the worker's loop stands still.
        self.stalled = False
        self.each_tick: Callable[[], None] = lambda: None
        self._ticks = 0
        self._media = asyncio.create_task(self._run())
        self.pipeline.start()

    def _acknowledged(self, name: str) -> None:
        self.player.acknowledged(name)

    async def _run(self) -> None:
        while True:
            await clock.sleep_ms(TICK_MS)
            self._ticks += 1
            self._way.tick()
            if self.stalled:
                continue
            if self._ticks % 2 == 0:
                self.caller_frame()
            now_ns = clock.now_ns()
            if self.player.fed_ms:
                for payload in self._way.encoded():
                    self.player.play(payload, now_ns)
            self.player.pump(now_ns)
            self.each_tick()

    def caller_frame(self) -> None:
        """The caller's next 20 ms."""
        self.pipeline.hear(self.pcm, *self.speaking)

    @property
    def over(self) -> bool:
        """Whether the call has ended from our side."""
        return self.pipeline.state is State.ENDED

    @property
    def told(self) -> list[tuple[str, str]]:
        return self.witness.told

    def heard(self, role: str) -> list[str]:
        """What the observer was told of this kind."""
        return [text for kind, text in self.told if kind == role]

    async def wait(self, ms: float) -> None:
        await clock.sleep_ms(ms)
        if self._media.done() and not self._media.cancelled():
            self._media.result()  # it found something wrong

    async def say(self, ms: int, *, pause_ms: int = 0, falls: bool = False) -> None:
        """The caller speaks, then says nothing; ``falls``: as one who has said it all."""
        self.speaking = VOICE
        await self.wait(ms - 200 * falls)
        if falls:
            self.speaking = SOFTER
            await self.wait(200)
        self.speaking = QUIET
        await self.wait(pause_ms)

    async def until(self, state: State, within_ms: int = 30_000) -> None:
        for _ in range(within_ms // TICK_MS):
            if self.pipeline.state is state:
                return
            await self.wait(TICK_MS)
        pytest.fail(f"still {self.pipeline.state.name}, not {state.name}: {self.told}")

    async def end(self) -> None:
        self._media.cancel()
        await asyncio.gather(self._media, return_exceptions=True)
        self.player.close()
        await self.pipeline.aclose()
        self.carrier.close()
        self._way.close()


@cache
def plane(vad: VadMode) -> AudioPlane:
    """The DSP process's steps; made once."""
    return AudioPlane(vad)


assert FRAME_MS == 2 * TICK_MS
