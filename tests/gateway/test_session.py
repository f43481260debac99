"""A session: frames cut from any chunks, nothing lost in a burst, activity noted, one end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from audio.arena import Arena
from audio.bank import Bank
from audio.dsp_process import AudioPlane, DspLoop
from audio.format import Encoding
from gateway.bridge import Bridge
from gateway.ledger import Ledger
from gateway.player import Player
from gateway.session import Session, SessionParts
from gateway.wire.events import StreamStarted
from gateway.wire.plain import PlainWire
from supervisor.scoreboard import RowName, Scoreboard


class Listening:
    """A conversation that remembers what it heard."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []

    def start(self) -> None: ...

    def hear(self, pcm: bytes, probability: float, level: float) -> None:
        self.heard.append(pcm)

    def digit(self, digit: str) -> None: ...

    def heard_all(self) -> None: ...

    def say_goodbye(self) -> bool:
        return False

    async def aclose(self) -> None: ...


class Ended:
    """Counts ends."""

    ends = 0

    def ended(self, reason: str, frames_in: int, frames_out: int) -> None:
        self.ends += 1


async def play(arena: Arena, chunks: list[bytes]) -> tuple[Session, Listening, Ended]:
    board = Scoreboard([RowName("worker", 0), RowName("dsp", 0)], 1)
    dsp = DspLoop(AudioPlane("off"), [Bank(arena)], board.row("dsp", 0), 10)
    bridge = Bridge(arena, lambda: None, asyncio.get_running_loop())
    line = bridge.lease(Encoding.PCM16)
    assert line is not None
    started = StreamStarted("c", "c", Encoding.PCM16, "", {})
    listening, ended = Listening(), Ended()
    player = Player(line, PlainWire(), "c", lambda _: None)
    ledger, row = cast("Ledger", ended), board.row("worker", 0)
    session = Session(started, SessionParts(bridge, line, player, listening, ledger, row))
    session.last_activity_at_ms = 0
    for chunk in chunks:
        session.audio(chunk, -1)
    while dsp.turn([0]):
        for _, pcm, probability, level in bridge.heard():
            session.hear(pcm, probability, level)
        session.flush_backlog()
    session.close("stopped")
    session.close("again")
    assert row.counter("frames_in") == session.frames_in
    bridge.close()
    return session, listening, ended


@settings(max_examples=30)
@given(st.lists(st.binary(max_size=6000), max_size=12))
def test_frames_are_cut_from_any_chunks_and_a_burst_loses_nothing(chunks: list[bytes]) -> None:
    arena = Arena.create(1)
    session, listening, ended = asyncio.run(play(arena, chunks))
    data = b"".join(chunks)
    whole = len(data) - len(data) % 640
    assert b"".join(listening.heard) == data[:whole]
    assert (session.last_activity_at_ms > 0) == (whole > 0)
    assert ended.ends == 1
    arena.close()


def test_a_flood_is_bounded(make_arena: Callable[[int], Arena]) -> None:
    session, listening, _ = asyncio.run(play(make_arena(1), [bytes(640 * 1000)]))
    assert session.frames_in == 1000
    assert len(listening.heard) < 250
