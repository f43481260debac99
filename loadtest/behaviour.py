"""One caller's part in a call, as the generator sees it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray


class Behaviour(ABC):
    """One caller's part: what to say in each frame."""

    #: Whether ``hear`` and ``cut`` want to be called.
    listens: ClassVar[bool] = False

    @abstractmethod
    def payload(self, frame: int, due_ns: int) -> bytes | None:
        """Base64 payload of frame number ``frame``, due now; None when the caller hangs up."""

    def hear(self, start_ns: int, samples: NDArray[np.int16]) -> None:
        """The caller hears ``samples`` from ``start_ns`` on."""
        assert not self.listens, "whoever listens says what to do with it"

    def cut(self, now_ns: int) -> None:
        """The server cleared what was queued."""
        assert not self.listens, "whoever listens says what to do with it"

    def responses_ns(self) -> list[int]:
        """Delays from the end of the caller's speech to the assistant's first audio after it."""
        return []

    def barge_ins_ns(self) -> list[int]:
        """Delays from the onset of the caller's voice, or key, to the server's ``clear``."""
        return []

    def too_late(self) -> int:
        """Interruptions that nobody could notice: the assistant had as good as finished."""
        return 0

    def content(self) -> bool:
        """Whether the server may say goodbye and hang up: what the call is for was measured."""
        return False

    def cut_offs(self) -> list[tuple[int, bool]]:
        """For each pause inside a sentence: its length (ms), and whether the server cut in."""
        return []

    def pressed(self) -> str:
        """The keys that the caller presses now, after the frame that was asked for last."""
        return ""

    def unanswered(self) -> bool:
        """Whether the caller spoke (or waited to) in vain."""
        return False
