"""The caller's utterances in a live transcription session: what is sent, what came back. Pure.

The server is sent all audio as it comes and told by a commit where a piece of the utterance ends
(it finds no pauses itself). Each commit makes an item, its text comes later and not always in
order. An utterance may be committed several times, because the caller went on after a pause: its
text is that of all its items, in the order of ``previous_item_id``.

A session may be lost. So the audio of everything that has no final text is kept, and sent and
committed again to the next one. It is bounded: of audio that nobody asks about (the caller is
silent while the assistant speaks) the last half minute is kept, here and in the server's buffer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gateway.limits import UTTERANCE_MS_MAX
from gateway.providers.realtime_events import (
    JsonObject,
    append,
    clear,
    commit,
    id_of,
    text_of,
)

BYTES_PER_MS = 8  # G.711
#: The server refuses to commit less.
COMMIT_BYTES_MIN = 100 * BYTES_PER_MS
KEPT_BYTES = UTTERANCE_MS_MAX * BYTES_PER_MS
OPEN_BYTES_MAX = 2 * KEPT_BYTES
SEGMENTS_MAX = 32
_TRANSCRIPTION = "conversation.item.input_audio_transcription"


@dataclass(slots=True)
class _Segment:
    """The audio of one commit, and its text."""

    pieces: deque[bytes] = field(default_factory=deque)
    size: int = 0
    item_id: str = ""
    interim: str = ""
    text: str | None = None
    failed: bool = False

    def add(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self.size += len(piece)

    def drop_before(self, size: int) -> None:
        """Keep the last ``size`` bytes, to a whole piece."""
        while self.size - len(self.pieces[0]) >= size:
            self.size -= len(self.pieces.popleft())


class LiveUtterance:
    """One call's session. What is returned are events to send, in order."""

    def __init__(self, model: str, keywords: Sequence[str] = ()) -> None:
        self._model = model
        self._keywords = list(keywords)
        self._language = ""
        self._open = _Segment()  # appended and not committed
        self._segments: list[_Segment] = []  # of this utterance, committed
        self._unacknowledged: deque[_Segment] = deque()
        #: What language the last final text was in; "" = not told.
        self.language = ""

    # What goes out

    def opened(self) -> list[JsonObject]:
        """A session begins: configure it, say again what has no final text."""
        events = [self._configuration()]
        self._unacknowledged.clear()
        for segment in self._segments:
            segment.item_id = segment.interim = ""  # another session, other ids
            if segment.text is None:
                segment.failed = False
                events += [*map(append, segment.pieces), commit()]
                self._unacknowledged.append(segment)
        return [*events, *map(append, self._open.pieces)]

    def feed(self, piece: bytes) -> list[JsonObject]:
        """More of the caller's audio."""
        self._open.add(piece)
        if self._open.size < OPEN_BYTES_MAX:
            return [append(piece)]
        self._open.drop_before(KEPT_BYTES)
        return [clear(), *map(append, self._open.pieces)]

    def commit(self, language: str) -> list[JsonObject]:
        """The text of everything so far is wanted, in this language ("" = find out)."""
        events: list[JsonObject] = []
        if language != self._language:
            self._language = language
            events.append(self._configuration())
        if self._open.size >= COMMIT_BYTES_MIN and len(self._segments) < SEGMENTS_MAX:
            self._segments.append(self._open)
            self._unacknowledged.append(self._open)
            self._open = _Segment()
            events.append(commit())
        return events

    def forget(self) -> list[JsonObject]:
        """The utterance is over: what comes now belongs to the next."""
        dirty = self._open.size > 0
        self._open = _Segment()
        self._segments = []
        return [clear()] if dirty else []

    # What comes back

    def received(self, event: Mapping[str, object]) -> None:
        """Take an event; ``GarbageError`` for one that makes no sense."""
        kind = event["type"]
        if kind == "input_audio_buffer.committed":
            self._committed(id_of(event, "item_id"), event.get("previous_item_id"))
        elif isinstance(kind, str) and kind.startswith(_TRANSCRIPTION):
            segment = self._of(id_of(event, "item_id"))
            if segment is not None:
                self._transcribed(segment, kind.removeprefix(_TRANSCRIPTION), event)

    def _committed(self, item_id: str, previous: object) -> None:
        after = [s for s in self._segments if s.item_id and s.item_id == previous]
        follower = self._segments.index(after[0]) + 1 if after else len(self._segments)
        if follower < len(self._segments) and self._segments[follower] in self._unacknowledged:
            segment = self._segments[follower]
            self._unacknowledged.remove(segment)
        elif self._unacknowledged:
            segment = self._unacknowledged.popleft()
        else:
            return  # of a session before
        segment.item_id = item_id

    def _transcribed(self, segment: _Segment, kind: str, event: Mapping[str, object]) -> None:
        if kind == ".completed":
            segment.text = text_of(event, "transcript").strip()
            segment.pieces.clear()
            self.language = _language_of(event) or self.language
        elif kind == ".failed":
            segment.failed = True
        elif kind == ".delta" and isinstance(event.get("delta"), str):
            segment.interim = (segment.interim + text_of(event, "delta"))[-4_096:]

    def _of(self, item_id: str) -> _Segment | None:
        return next((s for s in self._segments if s.item_id == item_id), None)

    @property
    def text(self) -> str | None:
        """The text of everything committed; None while some of it is not final."""
        texts = [segment.text for segment in self._segments]
        if any(text is None for text in texts):
            return None
        return " ".join(text for text in texts if text)

    @property
    def interim(self) -> str:
        """As much of the text as is known by now."""
        known = (s.interim if s.text is None else s.text for s in self._segments)
        return " ".join(text.strip() for text in known if text.strip())

    @property
    def failed(self) -> bool:
        """Whether some of the utterance will never have a text."""
        return any(segment.failed for segment in self._segments)

    def _configuration(self) -> JsonObject:
        transcription: JsonObject = {"model": self._model}
        if self._keywords:
            transcription["keywords"] = self._keywords
        if self._language:
            transcription["language"] = self._language
        audio: JsonObject = {
            "format": {"type": "audio/pcmu"},
            "transcription": transcription,
            "turn_detection": None,
        }
        session: JsonObject = {"type": "transcription", "audio": {"input": audio}}
        return {"type": "session.update", "session": session}


def _language_of(event: Mapping[str, object]) -> str:
    languages = event.get("languages")
    first = languages[0] if isinstance(languages, list) and languages else None
    code = first.get("code") if isinstance(first, dict) else None
    return code if isinstance(code, str) else ""
