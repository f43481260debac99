"""Whole realtime calls: session, player, rings and DSP step against the fake Realtime server."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, cast

import numpy as np
import pytest
from pydantic import SecretStr

from audio.arena import Arena
from audio.bank import Bank
from audio.dsp_process import AudioPlane, DspLoop
from audio.format import WIRE_FORMATS, Encoding
from audio.g711 import encode
from gateway import clock
from gateway.bridge import Bridge
from gateway.conversation import realtime_talk
from gateway.conversation.history import Role
from gateway.conversation.language import ReplyLanguage
from gateway.conversation.profile import Profile
from gateway.ledger import Ledger
from gateway.player import Player
from gateway.providers import realtime_socket
from gateway.responders.base import CallInfo, Conversation, TakeMessage
from gateway.responders.realtime import RealtimeConversation, Service
from gateway.responders.realtime_desk import Desk
from gateway.session import Session, SessionParts
from gateway.settings import Settings
from gateway.wire.events import StreamStarted
from gateway.wire.plain import PlainWire
from supervisor.scoreboard import RowName, Scoreboard
from tests.fakes.openai_realtime import Answer, FakeRealtime, realtime_server

PROFILE = Profile(
    business_name="Acme",
    greeting={"en": "Acme, good day."},
    transfer_targets={"sales": "+15550001"},
)
PATIENCE_S = 30
PATIENT_MS = 60_000


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine is no fault of the server's: deadlines are the core's own tests."""
    monkeypatch.setattr(realtime_socket, "CONNECT_TIMEOUT_MS", PATIENT_MS)
    for name in ("CONNECT_MS", "ANSWER_MS", "LEAVE_MS"):
        monkeypatch.setattr(realtime_talk, name, PATIENT_MS)


class Witness:
    """Remembers what was told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def said(self, role: Role, text: str, language: str) -> None:
        self.told.append((role.value, text))

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *arguments: self.told.append((name, *arguments))

    def names(self) -> list[object]:
        return [entry[0] for entry in self.told]

    def ended(self, reason: str, frames_in: int, frames_out: int) -> None: ...


class StandIn:
    """Who takes the call when the model cannot."""

    hear_wire = None

    def __init__(self) -> None:
        self.started = False
        self.frames = 0

    def start(self) -> None:
        self.started = True

    def hear(self, pcm: bytes, probability: float, level: float) -> None:
        self.frames += 1

    def digit(self, digit: str) -> None: ...

    def heard_all(self) -> None: ...

    def say_goodbye(self) -> bool:
        return True

    async def aclose(self) -> None: ...


class Phone:
    """One call in real time: 20 ms frames up, what is due down."""

    def __init__(self, arena: Arena, fake: FakeRealtime, encoding: Encoding, **given: Any) -> None:
        board = Scoreboard([RowName("worker", 0), RowName("dsp", 0)], 1)
        self.dsp = DspLoop(AudioPlane("level"), [Bank(arena)], board.row("dsp", 0), 10)
        self.bridge = Bridge(arena, lambda: None, asyncio.get_running_loop())
        line = self.bridge.lease(encoding)
        assert line is not None
        self.encoding = encoding
        self.messages: list[dict[str, str]] = []
        wire = PlainWire()
        wire.receive('{"type":"init","callId":"c"}')
        self.player = Player(line, wire, "c", lambda m: self.messages.append(json.loads(m)))
        self.witness, self.stand_in = Witness(), StandIn()
        settings = Settings(
            responder="realtime",
            realtime_base_url=fake.url,
            openai_api_key=SecretStr(fake.key),
            **given,
        )
        self.fake = fake
        desk = Desk(
            CallInfo("c", "", "", "en", transferable=True),
            PROFILE,
            ReplyLanguage("en"),
            self.player,
            self.witness,
            lambda: cast("Conversation", self.stand_in),
        )
        self.talk = RealtimeConversation(Service.open(settings), desk)
        started = StreamStarted("c", "c", encoding, "", {})
        ledger, row = cast("Ledger", self.witness), board.row("worker", 0)
        parts = SessionParts(self.bridge, line, self.player, self.talk, ledger, row)
        self.session = Session(started, parts)
        tone = (np.sin(np.arange(16_000) * 0.2) * 12_000).astype(np.int16)
        self.voice, self.quiet = self.encoded(tone), self.encoded(np.zeros_like(tone))
        self.acknowledged = 0

    def encoded(self, pcm: Any) -> bytes:
        """Half a second or a second of a caller's audio."""
        if self.encoding in (Encoding.MULAW, Encoding.ALAW):
            return encode(self.encoding, pcm).tobytes()
        return bytes(pcm.tobytes())

    async def pass_time(self, ms: int, *, speaking: bool = False) -> None:
        size = WIRE_FORMATS[self.encoding].frame_bytes
        source = self.voice if speaking else self.quiet
        due_ns = clock.now_ns()
        for n in range(ms // 20):
            at = n * size % (len(source) - size)
            self.session.audio(source[at : at + size], -1)
            while self.dsp.turn([0]):
                for _, pcm, probability, level in self.bridge.heard():
                    self.session.hear(pcm, probability, level)
                for _, payload in self.bridge.encoded():
                    self.session.play(payload, clock.now_ns())
            self.player.pump(clock.now_ns())
            self.acknowledge()
            due_ns += 20 * clock.NS_PER_MS
            await asyncio.sleep(max(0, due_ns - clock.now_ns()) / 1e9)

    def acknowledge(self) -> None:
        """The carrier returns marks; too soon, which changes nothing: the clock limits it."""
        for message in self.messages[self.acknowledged :]:
            if message["type"] == "mark":
                self.session.mark(message["name"])
        self.acknowledged = len(self.messages)

    async def until(self, true: Callable[[], object], what: str) -> None:
        for _ in range(PATIENCE_S * 50):
            if true():
                return
            await self.pass_time(20)
        pytest.fail(f"waited in vain until {what}: {self.witness.told} {self.fake.refused}")

    async def heard(self, text: str) -> None:
        await self.until(lambda: ("assistant", text) in self.witness.told, f"{text!r} is heard")

    def audio(self) -> bytes:
        payloads = [m["payload"] for m in self.messages if m["type"] == "audio_out"]
        return b"".join(map(base64.b64decode, payloads))

    async def end(self) -> None:
        self.session.close("end")
        await self.session.finish()
        self.bridge.close()


Scene = Callable[[Phone], AsyncGenerator[None, None]]
MakeArena = Callable[[int], Arena]


async def play(
    arena: Arena, fake: FakeRealtime, scene: Scene, encoding: Encoding, **given: Any
) -> Phone:
    """Play a scene; afterwards no event of ours may have been wrong, and nobody crashed."""
    async with realtime_server(fake):
        phone = Phone(arena, fake, encoding, **given)
        phone.session.start()
        async with aclosing(scene(phone)) as acts:
            async for _ in acts:
                pass
        await phone.end()
    assert fake.invalid == []
    assert "crashed" not in phone.witness.names(), phone.witness.told
    return phone


def calls(make_arena: MakeArena, scene: Scene, *stages: dict[str, Any]) -> list[Phone]:
    """The same scene on several stages, all at the same time."""

    async def run() -> list[Phone]:
        return await asyncio.gather(
            *(
                play(make_arena(1), scene=scene, **{"encoding": Encoding.MULAW, **stage})
                for stage in stages
            )
        )

    return asyncio.run(run())


def call(make_arena: MakeArena, fake: FakeRealtime, scene: Scene, **given: Any) -> Phone:
    """A scene on one stage."""
    return calls(make_arena, scene, {"fake": fake, **given})[0]


def test_greeting_question_answer(make_arena: MakeArena) -> None:
    async def scene(phone: Phone) -> AsyncGenerator[None, None]:
        await phone.heard("Acme, good day.")
        await phone.pass_time(400)
        await phone.pass_time(600, speaking=True)
        await phone.heard("We open at nine.")
        await phone.pass_time(700)
        assert phone.player.fed_ms == 0, "all of it was heard"
        yield

    formats = {
        Encoding.MULAW: "audio/pcmu",
        Encoding.ALAW: "audio/pcma",
        Encoding.PCM16: "audio/pcm",
    }
    stages: list[dict[str, Any]] = [
        {
            "encoding": encoding,
            "fake": FakeRealtime(
                answers=[Answer("Acme, good day.", 400), Answer("We open at nine.", 600)],
                transcripts=["When do you open?"],
            ),
        }
        for encoding in formats
    ]
    for phone in calls(make_arena, scene, *stages):
        assert [e for e in phone.witness.told if e[0] in ("caller", "assistant")] == [
            ("assistant", "Acme, good day."),
            ("caller", "When do you open?"),
            ("assistant", "We open at nine."),
        ]
        assert "answered" in phone.witness.names()
        assert len(phone.audio()) == 50 * WIRE_FORMATS[phone.encoding].frame_bytes
        assert phone.fake.refused == []
        update = phone.fake.of("session.update")[0]["session"]
        assert "Acme" in update["instructions"]
        assert update["audio"]["input"]["format"]["type"] == formats[phone.encoding]


def test_barge_in_truncates_what_was_not_heard(make_arena: MakeArena) -> None:
    words = "one two three four five six seven eight nine ten"

    async def scene(phone: Phone) -> AsyncGenerator[None, None]:
        await phone.heard(words)
        await phone.pass_time(1_500)
        await phone.pass_time(600, speaking=True)
        await phone.heard("Yes?")
        yield

    stages: list[dict[str, Any]] = [
        {
            "realtime_turn_detection": detection,
            "fake": FakeRealtime(answers=[Answer(words, 10_000), Answer("Yes?", 200)]),
        }
        for detection in ("server", "ours")
    ]
    phones = calls(make_arena, scene, *stages)
    for phone in phones:
        assert phone.fake.refused == []
        (truncated,) = phone.fake.of("conversation.item.truncate")
        assert 500 <= truncated["audio_end_ms"] < 10_000
        assert "clear" in [m["type"] for m in phone.messages]
        (heard,) = [e[1] for e in phone.witness.told if e[0] == "interrupted"]
        assert isinstance(heard, str)
        assert words.startswith(heard)
        assert heard != words
        assert "barged_in" in phone.witness.names()
    assert not phones[0].fake.of("input_audio_buffer.commit")
    assert phones[1].fake.of("input_audio_buffer.commit")


def test_functions_are_checked_and_the_goodbye_is_heard(
    make_arena: MakeArena,
) -> None:
    fake = FakeRealtime(
        answers=[
            Answer("Hello.", 200),
            Answer("", 0, ("transfer_call", '{"target": "the moon"}')),
            Answer("", 0, ("take_message", '{"name": "Ann", "reason": "a leak"}')),
            Answer("Thank you, goodbye.", 400, ("hang_up", "{}")),
        ]
    )

    async def scene(phone: Phone) -> AsyncGenerator[None, None]:
        await phone.heard("Hello.")
        await phone.pass_time(400)
        await phone.pass_time(400, speaking=True)
        await phone.until(lambda: "hang_up" in phone.witness.names(), "it hangs up")
        yield

    phone = call(make_arena, fake, scene)
    outputs = [e["item"]["output"] for e in fake.of("conversation.item.create")]
    assert outputs == ["refused: no such target; there is sales", "stored"]
    told = phone.witness.told
    assert ("message", TakeMessage({"name": "Ann", "reason": "a leak"})) in told
    assert told.index(("assistant", "Thank you, goodbye.")) < told.index(("hang_up",))
    assert len(phone.audio()) == 30 * 160
    assert fake.refused == []


def test_a_lost_session_is_followed_by_one_that_knows_what_was_said(
    make_arena: MakeArena,
) -> None:
    fake = FakeRealtime(
        answers=[
            Answer("Hello.", 200),
            Answer("Let me see.", 1_000, fault="close"),
            Answer("As I said.", 200),
        ],
        transcripts=["Where are you?"],
    )

    async def scene(phone: Phone) -> AsyncGenerator[None, None]:
        await phone.heard("Hello.")
        await phone.pass_time(400)
        await phone.pass_time(400, speaking=True)
        await phone.heard("As I said.")
        yield

    phone = call(make_arena, fake, scene)
    assert len(fake.sessions) == 2
    replayed = [e["item"]["content"][0]["text"] for e in fake.of("conversation.item.create")]
    assert replayed[:2] == ["Hello.", "Where are you?"]
    assert phone.witness.told[phone.witness.names().index("failed")][:2] == ("failed", "realtime")
    assert not phone.stand_in.started


def test_what_makes_no_sense_ends_no_call(make_arena: MakeArena) -> None:
    async def scene(phone: Phone) -> AsyncGenerator[None, None]:
        await phone.until(phone.audio, "something is heard")
        await phone.pass_time(1_200)
        assert len(phone.audio()) >= 800 // 20 * 160, "words went on"
        yield

    faults = ("garbage", "oversized", "expire")
    answers = [Answer("Hello, this is Acme.", 800, fault=fault) for fault in faults]
    phones = calls(make_arena, scene, *({"fake": FakeRealtime(answers=[a])} for a in answers))
    assert not any(phone.stand_in.started for phone in phones)
    assert [len(phone.fake.sessions) for phone in phones] == [1, 2, 2]


def test_who_cannot_be_had_is_stood_in_for(
    make_arena: MakeArena, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(realtime_talk, "CONNECT_MS", 500)

    async def scene(phone: Phone) -> AsyncGenerator[None, None]:
        await phone.until(lambda: phone.stand_in.started, "somebody stands in")
        await phone.pass_time(100)
        assert phone.stand_in.frames >= 3
        assert phone.session.say_goodbye()
        yield

    fakes = (FakeRealtime(refuse=401), FakeRealtime(refuse=503), FakeRealtime(deaf_sessions=9))
    for phone in calls(make_arena, scene, *({"fake": fake} for fake in fakes)):
        assert "sk-test" not in str(phone.witness.told)


def test_a_call_that_costs_too_much_is_handed_over_when_its_words_were_played(
    make_arena: MakeArena,
) -> None:
    fake = FakeRealtime(answers=[Answer("Hello.", 600)])

    async def scene(phone: Phone) -> AsyncGenerator[None, None]:
        await phone.until(lambda: phone.stand_in.started, "somebody stands in")
        await phone.pass_time(800)
        assert len(phone.audio()) == 30 * 160
        yield

    call(make_arena, fake, scene, max_cost_usd_per_call=0.001)


def test_a_call_that_lasts_too_long_is_ended_politely(make_arena: MakeArena) -> None:
    fake = FakeRealtime(answers=[Answer("Hello.", 200), Answer("We must end here.", 200)])

    async def scene(phone: Phone) -> AsyncGenerator[None, None]:
        await phone.until(lambda: "hang_up" in phone.witness.names(), "it hangs up")
        yield

    phone = call(make_arena, fake, scene, max_call_ms=1_000)
    assert ("assistant", "We must end here.") in phone.witness.told


def test_keys_and_the_end_of_the_gateway(make_arena: MakeArena) -> None:
    fake = FakeRealtime(answers=[Answer("Hello.", 200), Answer("Two.", 200), Answer("Bye.", 200)])

    async def scene(phone: Phone) -> AsyncGenerator[None, None]:
        await phone.heard("Hello.")
        await phone.pass_time(400)
        phone.session.digit("2")
        phone.session.digit("#")
        await phone.heard("Two.")
        assert phone.session.say_goodbye()
        await phone.until(lambda: "hang_up" in phone.witness.names(), "it hangs up")
        yield

    phone = call(make_arena, fake, scene)
    items = [e["item"]["content"][0]["text"] for e in fake.of("conversation.item.create")]
    assert items == ["(The caller pressed the keys 2#)"]
    assert ("assistant", "Bye.") in phone.witness.told
