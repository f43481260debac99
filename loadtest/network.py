"""What may happen to a carrier's frames on their way to us: some are lost, some are overtaken.

Pure, and the same for the same seed. A frame that is overtaken leaves after one to three later
ones, which is what a carrier that "does not guarantee order" does at worst.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

OVERTAKEN_BY_MAX = 3


@dataclass(frozen=True, slots=True)
class Weather:
    """How many percent of the frames are overtaken, and how many are lost."""

    reorder: float = 0.0
    loss: float = 0.0


class Network:
    """One call's way."""

    def __init__(self, weather: Weather, seed: str) -> None:
        self._weather = weather
        self._random = Random(seed)
        #: Messages that are being overtaken: by how many more frames, and the message.
        self._held: list[tuple[int, bytes]] = []
        self.reordered = 0

    def carry(self, message: bytes) -> list[bytes] | None:
        """What arrives when ``message`` is sent, in order; None when it is lost."""
        weather, chance = self._weather, self._random.random() * 100
        if not weather.reorder and not weather.loss:
            return [message]
        if chance < weather.loss:
            return None
        held = [(left - 1, kept) for left, kept in self._held]
        late = [kept for left, kept in held if left <= 0]
        self._held = [(left, kept) for left, kept in held if left > 0]
        if chance < weather.loss + weather.reorder:
            self.reordered += 1
            self._held.append((self._random.randint(1, OVERTAKEN_BY_MAX), message))
            return late
        return [message, *late]

    def rest(self) -> list[bytes]:
        """What is still on its way when nothing follows."""
        held, self._held = self._held, []
        return [message for _, message in sorted(held, key=lambda pair: pair[0])]
