"""The player on real rings: everything fed is sent, in order, marked, and cut at once."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Coroutine

from hypothesis import given, settings
from hypothesis import strategies as st

from audio.arena import Arena
from audio.bank import Bank
from audio.dsp_process import AudioPlane, DspLoop
from audio.format import FRAME_NS, Encoding
from gateway.bridge import Bridge
from gateway.limits import PLAYOUT_LEAD_MS
from gateway.player import Player
from gateway.wire.plain import PlainWire
from supervisor.scoreboard import RowName, Scoreboard


class Stage:
    """A player, its rings, and a carrier that remembers what it was sent and when."""

    def __init__(self, arena: Arena, *, acknowledges: bool = True) -> None:
        row = Scoreboard([RowName("dsp", 0)], 1).row("dsp", 0)
        self.dsp = DspLoop(AudioPlane("off"), [Bank(arena)], row, 10)
        self.bridge = Bridge(arena, lambda: None, asyncio.get_running_loop())
        line = self.bridge.lease(Encoding.PCM16)
        assert line is not None
        wire = PlainWire()
        wire.receive('{"type":"init","callId":"c"}')
        self.messages: list[tuple[int, dict[str, str]]] = []
        self.player = Player(line, wire, "c", self.send)
        self.now_ns = 10**12
        self.heard = 0
        self.acknowledges = acknowledges
        self.player.on_heard = self.on_heard

    def send(self, message: bytes) -> None:
        self.messages.append((self.now_ns, json.loads(message)))

    def on_heard(self) -> None:
        self.heard += 1

    async def pass_time(self, frames: int) -> None:
        for _ in range(frames):
            for _ in range(3):
                self.dsp.turn([0])
                for _, payload in self.bridge.encoded():
                    self.player.play(payload, self.now_ns)
                self.player.pump(self.now_ns)
                await asyncio.sleep(0)
            self.now_ns += FRAME_NS

    def audio(self) -> bytes:
        payloads = [m["payload"] for _, m in self.messages if m["type"] == "audio_out"]
        return b"".join(map(base64.b64decode, payloads))

    def marks(self) -> list[str]:
        return [m["name"] for _, m in self.messages if m["type"] == "mark"]


def play(arena: Arena, scene: Callable[[Stage], Coroutine[None, None, None]]) -> Stage:
    async def run() -> Stage:
        stage = Stage(arena)
        await scene(stage)
        stage.bridge.close()
        return stage

    return asyncio.run(run())


@settings(max_examples=10)
@given(st.lists(st.integers(2, 20_000), min_size=1, max_size=8))
def test_all_that_is_fed_is_sent_whatever_the_chunks(sizes: list[int]) -> None:
    arena = Arena.create(1)

    async def scene(stage: Stage) -> None:
        async def feed() -> None:
            for size in sizes:
                await stage.player.feed(b"\x00\x10" * (size // 2))
            await stage.player.end_clause()
            stage.player.end_utterance()

        task = asyncio.create_task(feed())
        frames = -(-sum(size // 2 * 2 for size in sizes) // 960)
        await stage.pass_time(frames + 80)
        await task
        assert len(stage.audio()) == frames * 640
        assert stage.heard == 1
        assert stage.player.gaps == 0

    stage = play(arena, scene)
    assert stage.marks()
    del stage
    arena.close()


def test_never_more_than_the_lead_ahead(make_arena: Callable[[int], Arena]) -> None:
    async def scene(stage: Stage) -> None:
        begin_ns = stage.now_ns
        task = asyncio.create_task(stage.player.feed(b"\x00\x10" * 480 * 200))
        await stage.pass_time(100)
        sent_ms = 0
        for at_ns, message in stage.messages:
            if message["type"] == "audio_out":
                sent_ms += len(base64.b64decode(message["payload"])) // 32
                assert sent_ms - (at_ns - begin_ns) // 1_000_000 <= PLAYOUT_LEAD_MS
        task.cancel()

    play(make_arena(1), scene)


def test_cut_clears_the_carrier_and_says_what_was_heard(make_arena: Callable[[int], Arena]) -> None:
    async def scene(stage: Stage) -> None:
        task = asyncio.create_task(stage.player.feed(b"\x00\x10" * 480 * 200))
        await stage.pass_time(100)
        task.cancel()
        heard_ms = stage.player.cut(stage.now_ns)
        assert 500 <= heard_ms <= 2000
        assert stage.messages[-1][1]["type"] == "clear"
        stage.messages.clear()
        await stage.pass_time(20)
        assert stage.audio() == b"", "nothing of the old epoch is sent any more"
        await stage.player.feed(b"\x00\x10" * 480)
        await stage.pass_time(5)
        assert len(stage.audio()) == 640
        assert stage.heard == 0

    play(make_arena(1), scene)


def test_a_closed_player_lets_its_feeder_go(make_arena: Callable[[int], Arena]) -> None:
    async def scene(stage: Stage) -> None:
        task = asyncio.create_task(stage.player.feed(b"\x00\x10" * 480 * 500))
        await stage.pass_time(3)
        assert not task.done()
        stage.player.close()
        await asyncio.wait_for(task, 1)
        assert task.done()
        stage.messages.clear()
        assert stage.player.cut(stage.now_ns) == 0
        assert stage.messages == [], "the line may be another call's by now"

    play(make_arena(1), scene)
