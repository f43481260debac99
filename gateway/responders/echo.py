"""The caller's own audio, through all four rings: the benchmark of the media path."""

from __future__ import annotations

from gateway.player import Player
from supervisor.scoreboard import Row


class Echo:
    """A conversation that says what it hears, frame by frame."""

    __slots__ = (
        "_player",
        "_row",
    )

    def __init__(self, player: Player, row: Row) -> None:
        self._player = player
        self._row = row

    def start(self) -> None:
        """Nothing to greet with."""

    def hear(self, pcm: bytes, probability: float, level: float) -> None:
        """Say it again."""
        if not self._player.offer(pcm):
            self._row.count("assistant_frames_dropped")

    def digit(self, digit: str) -> None:
        """Keys are not audio."""

    def heard_all(self) -> None:
        """An echo never ends an utterance."""

    def say_goodbye(self) -> bool:
        """It has no words of its own."""
        return False

    async def aclose(self) -> None:
        """Nothing is held."""
