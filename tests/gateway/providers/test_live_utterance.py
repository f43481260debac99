"""The core of live transcription: whatever the order of texts, losses and pauses."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.providers.live_utterance import (
    KEPT_BYTES,
    OPEN_BYTES_MAX,
    SEGMENTS_MAX,
    LiveUtterance,
)
from gateway.providers.realtime_events import GarbageError, append, audio_of

KIND = "conversation.item.input_audio_transcription"


class Server:
    """What a transcription session knows: the buffer, and items without a text yet."""

    def __init__(self) -> None:
        self.ids = count()
        self.buffer = b""
        self.last: str | None = None
        self.items: dict[str, bytes] = {}
        self.answers: list[dict[str, Any]] = []

    def take(self, events: list[Any]) -> None:
        for event in events:
            if event["type"] == "input_audio_buffer.append":
                self.buffer += audio_of({"delta": event["audio"]})
            elif event["type"] == "input_audio_buffer.clear":
                self.buffer = b""
            elif event["type"] == "input_audio_buffer.commit":
                item = f"item{next(self.ids)}"
                kind = "input_audio_buffer.committed"
                self.answers.append({"type": kind, "item_id": item, "previous_item_id": self.last})
                self.items[item], self.buffer, self.last = self.buffer, b"", item

    def text(self, item: str) -> dict[str, Any]:
        """The final text of an item: its audio, piece by piece, as numbers."""
        audio = self.items.pop(item)
        words = " ".join(dict.fromkeys(str(byte) for byte in audio))
        return {"type": f"{KIND}.completed", "item_id": item, "transcript": words}


def piece(number: int) -> bytes:
    """100 ms that are told from the others."""
    return bytes([number % 256]) * 800


class Story:
    """An utterance and its server; one method an act, ``pick`` chooses among several."""

    def __init__(self, pick: Callable[[list[str]], str]) -> None:
        self.pick = pick
        self.utterance = LiveUtterance("m")
        self.fed: list[int] = []
        self.committed = 0
        self.lose()

    @property
    def expected(self) -> str:
        return " ".join(map(str, self.fed[: self.committed]))

    def lose(self) -> None:
        self.server = Server()
        self.server.take(self.utterance.opened())

    def feed(self) -> None:
        self.fed.append(len(self.fed))
        self.server.take(self.utterance.feed(piece(self.fed[-1])))

    def commit(self) -> None:
        self.server.take(self.utterance.commit(""))
        self.committed = len(self.fed)

    def acknowledge(self) -> None:
        if self.server.answers:
            self.utterance.received(self.server.answers.pop(0))

    def text(self) -> None:
        waiting = {answer["item_id"] for answer in self.server.answers}
        known = sorted(self.server.items.keys() - waiting)
        if known:
            self.utterance.received(self.server.text(self.pick(known)))


ACTS = st.sampled_from([Story.feed, Story.commit, Story.acknowledge, Story.text, Story.lose])


@given(st.data())
def test_the_text_is_that_of_all_audio_in_order(data: st.DataObject) -> None:
    story = Story(lambda names: data.draw(st.sampled_from(names)))
    for act in data.draw(st.lists(ACTS, max_size=40)):
        act(story)
    assert story.utterance.text in (None, story.expected)
    while story.server.answers:
        story.acknowledge()
    while story.server.items:
        story.text()
    assert story.utterance.text == story.expected
    rest = b"".join(map(piece, story.fed[story.committed :]))
    assert story.server.buffer == rest, "what the next commit is of"


def test_silence_is_bounded_here_and_there() -> None:
    utterance, server = LiveUtterance("m"), Server()
    for n in range(3 * OPEN_BYTES_MAX // 800):
        server.take(utterance.feed(piece(n)))
        assert len(server.buffer) >= KEPT_BYTES - 800 or n < KEPT_BYTES // 800
        assert len(server.buffer) <= OPEN_BYTES_MAX
    assert utterance._open.size == len(server.buffer)


def test_what_was_forgotten_is_not_in_the_next_text() -> None:
    utterance, server = LiveUtterance("m"), Server()
    server.take(utterance.feed(piece(1)))
    server.take(utterance.commit("en"))
    server.take(utterance.feed(piece(2)))
    server.take(utterance.forget())
    server.take(utterance.feed(piece(3)))
    server.take(utterance.commit("en"))
    for answer in server.answers:
        utterance.received(answer)
    utterance.received(server.text("item0"))
    assert utterance.text is None
    utterance.received({"type": f"{KIND}.delta", "item_id": "item1", "delta": "thr"})
    assert utterance.interim == "thr"
    utterance.received(server.text("item1"))
    assert utterance.text == "3"


def test_too_little_audio_is_not_committed_and_too_many_commits_are_not_made() -> None:
    utterance = LiveUtterance("m")
    utterance.feed(bytes(799))
    assert utterance.commit("") == []
    assert utterance.text == ""
    for n in range(2 * SEGMENTS_MAX):
        utterance.feed(piece(n))
        utterance.commit("")
    assert len(utterance._segments) == SEGMENTS_MAX


def test_a_language_is_told_once_and_a_failure_noted() -> None:
    utterance = LiveUtterance("m")
    assert utterance.feed(piece(1)) == [append(piece(1))]
    update, commit = utterance.commit("ru")
    assert update["session"]["audio"]["input"]["transcription"]["language"] == "ru"  # type: ignore[index]
    assert commit["type"] == "input_audio_buffer.commit"
    utterance.received({"type": "input_audio_buffer.committed", "item_id": "i"})
    utterance.received({"type": f"{KIND}.failed", "item_id": "i"})
    assert utterance.failed
    with pytest.raises(GarbageError):
        utterance.received({"type": f"{KIND}.completed", "item_id": "i"})
    utterance.received({"type": f"{KIND}.completed", "item_id": "i", "transcript": "да"})
    assert utterance.text == "да"
