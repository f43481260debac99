"""Levels of 20 ms frames: speech swells and fades with its syllables, and pauses."""

from __future__ import annotations

import random

import pytest

from gateway.conversation.echo_guard import SILENCE_DBFS, EchoGuard

ROOM_DBFS = -62.0


def speech(seed: int, frames: int, loudest: float = -16.0, pause: int = 12) -> list[float]:
    draw = random.Random(seed)
    levels: list[float] = []
    while len(levels) < frames:
        swell = [-18, -8, -3, 0, -1, -4, -9, -16][: draw.randint(5, 8)]
        peak = loudest - draw.uniform(0, 6)
        levels += [peak + part + draw.uniform(-1, 1) for part in swell]
        if draw.random() < 0.2:
            levels += [ROOM_DBFS] * draw.randint(2, pause)
    return levels[:frames]


def returned(levels: list[float], loss_db: float, delay_ms: int, seed: int) -> list[float]:
    draw = random.Random(seed)
    late = [ROOM_DBFS] * (delay_ms // 20) + [level - loss_db for level in levels]
    return [max(ROOM_DBFS, level + draw.uniform(-1.5, 1.5)) for level in late]


@pytest.mark.parametrize("loss_db", [15, 20, 25])
@pytest.mark.parametrize("delay_ms", [0, 150, 280, 400])
def test_our_own_voice_is_known(loss_db: float, delay_ms: int) -> None:
    for seed in range(20):
        played = speech(seed, 300, pause=25) + [SILENCE_DBFS] * 30
        caller = returned(played, loss_db, delay_ms, seed)
        guard = EchoGuard()
        heard = [
            level
            for own, level in zip(played, caller, strict=False)
            if not guard.is_echo(own, level) and level > ROOM_DBFS + 5
        ]
        assert heard == []


@pytest.mark.parametrize("loudest", [-16.0, -20.0])
def test_a_caller_as_loud_is_heard_at_once(loudest: float) -> None:
    for seed in range(20):
        guard, played = EchoGuard(), speech(seed, 200)
        caller = returned(played, 20, 280, seed)
        for own, level in zip(played[:100], caller[:100], strict=True):
            guard.is_echo(own, level)
        theirs = speech(seed + 100, 50, loudest)
        heard = sum(not guard.is_echo(played[100 + n], theirs[n]) for n in range(20))
        assert heard >= 10


def test_on_a_line_without_echo_a_soft_caller_is_heard_at_once() -> None:
    guard = EchoGuard()
    for own in speech(1, 600, pause=4):
        guard.is_echo(own, ROOM_DBFS)
    assert not guard.is_echo(-20.0, -40.0)
    assert EchoGuard().is_echo(-20.0, -40.0), "at first it may be an echo"


def test_a_soft_caller_is_told_by_how_their_loudness_moves() -> None:
    found = 0
    for seed in range(20):
        guard, played = EchoGuard(), speech(seed, 300)
        theirs = speech(seed + 100, 300, -36.0)
        caller = [max(a, b) for a, b in zip(theirs, returned(played, 20, 280, seed), strict=False)]
        guard.doubt()
        found += any(
            not guard.is_echo(own, level) for own, level in zip(played, caller, strict=False)
        )
    assert found >= 10


def test_nothing_is_expected_when_nothing_was_played_for_long() -> None:
    guard = EchoGuard()
    assert not guard.is_echo(SILENCE_DBFS, -30.0)
    assert not guard.expects
    guard.is_echo(-20.0, -40.0)
    for _ in range(40):
        assert guard.expects
        if not guard.is_echo(SILENCE_DBFS, -50.0):
            break
    assert not guard.expects
