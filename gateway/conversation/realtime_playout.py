"""Which items of the assistant's were heard, and how far: what a truncation is computed from. Pure.

A Realtime server makes audio faster than it is heard, so several items may be queued behind the
one that the caller hears. The player counts what was heard since the last cut in milliseconds of
audio, confirmed by the carrier; here that one number is shared out. Items follow each other in
the order of their first audio, each filled up to a whole frame as the player fills it up.

An item is truncated where it was heard to, never beyond the audio that came of it (the server
refuses more), and one that was not begun at 0. Items of a session that was lost are not known to
the next one: of those only the text is cut.
"""

from __future__ import annotations

from dataclasses import dataclass

from audio.format import FRAME_MS
from gateway.conversation.history import heard_part

#: Items that are queued at once; a model that says more in one breath has gone wrong.
ITEMS_MAX = 64


@dataclass(slots=True)
class Item:
    """One item of the assistant's: the audio that came of it, and its text as far as known."""

    item_id: str
    start_ms: int
    bytes_per_ms: int
    received_bytes: int = 0
    text: str = ""
    ended: bool = False  # all of its audio came
    written: bool = False  # all of its text came
    said: bool = False
    lost: bool = False

    @property
    def received_ms(self) -> int:
        """Audio that came, whole milliseconds."""
        return self.received_bytes // self.bytes_per_ms

    @property
    def end_ms(self) -> int:
        """Where the next item begins."""
        frame_bytes = FRAME_MS * self.bytes_per_ms
        return self.start_ms + -(-self.received_bytes // frame_bytes) * FRAME_MS

    def heard_text(self, heard_ms: int) -> str:
        """The words that so much of its audio covers."""
        return heard_part(self.text, heard_ms, self.received_ms)


@dataclass(frozen=True, slots=True)
class Truncation:
    """One item that was not heard to its end."""

    item: Item
    audio_end_ms: int
    heard_text: str


class Playout:
    """The items since the player was last silent or cut."""

    __slots__ = ("_bytes_per_ms", "_items")

    def __init__(self, bytes_per_ms: int) -> None:
        self._bytes_per_ms = bytes_per_ms
        self._items: dict[str, Item] = {}

    def __len__(self) -> int:
        return len(self._items)

    def received(self, item_id: str, size: int) -> bool:
        """Audio came; False when it is of one item too many, or of one that is not the last."""
        item = self._items.get(item_id)
        if item is None:
            if len(self._items) >= ITEMS_MAX:
                return False
            item = self._items[item_id] = Item(item_id, self.queued_ms, self._bytes_per_ms)
        elif next(reversed(self._items)) != item_id:
            return False
        item.received_bytes += size
        return True

    def ended(self, item_id: str) -> None:
        """All audio of an item came."""
        item = self._items.get(item_id)
        if item is not None:
            item.ended = True

    def write(self, item_id: str, text: str, *, whole: bool) -> bool:
        """What an item says, as far as it is known; False when its audio is not among us."""
        item = self._items.get(item_id)
        if item is None:
            return False
        item.text, item.written = text, whole
        return True

    def newly_heard(self, heard_ms: int, *, unfinished: bool = False) -> list[Item]:
        """Items that the caller has begun to hear and that were not given here before.

        Those whose text is not all there are left for later, unless ``unfinished``.
        """
        found = [item for item in self._items.values() if item.start_ms < heard_ms]
        new = [i for i in found if not i.said and i.text and (i.written or unfinished)]
        for item in new:
            item.said = True
        return new

    def cut(self, heard_ms: int) -> list[Truncation]:
        """Playout was stopped: every item that was not heard to its end, in order."""
        cut: list[Truncation] = []
        for item in self._items.values():
            end_ms = min(max(heard_ms - item.start_ms, 0), item.received_ms)
            if end_ms < item.received_ms or not item.ended:
                cut.append(Truncation(item, end_ms, item.heard_text(end_ms)))
        self._items = {}
        return cut

    def all_heard(self) -> list[Item]:
        """Everything was heard: the items that were not given before."""
        found = self.newly_heard(self.queued_ms + 1, unfinished=True)
        self._items = {}
        return found

    def session_lost(self) -> None:
        """The server that knew these items is gone."""
        for item in self._items.values():
            item.lost = True

    @property
    def queued_ms(self) -> int:
        """Audio since the player was last silent or cut."""
        return next(reversed(self._items.values())).end_ms if self._items else 0
