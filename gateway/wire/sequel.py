"""Reads a carrier's next media message by foretelling it. Pure; one object a stream.

A carrier writes each media message like the last one with its counters moved on: the sequence
number and the chunk by one, the timestamp by the audio sent. So once a message was parsed, the
text of the next is known but for its payload, and to compare it with what came costs a third of
parsing it. Whatever is not as foretold is parsed, and foretold anew from there.

Nothing is accepted that parsing would refuse: a sequel differs from a message that was parsed and
found good in three counters and in the payload only, and strict base64 holds no quote. A peer
whose messages cannot be foretold costs nothing but a look now and then: after each miss the next
attempt but the first is put off, twice as long each time.
"""

from __future__ import annotations

import re
from binascii import a2b_base64

from audio.format import WIRE_RATE

_SHAPE = re.compile(
    r'(.*"sequenceNumber": ?"?)(\d{1,15})'
    r'("?,.*"chunk": ?"?)(\d{1,15})'
    r'("?, ?"timestamp": ?"?)(\d{1,15})'
    r'("?, ?"payload": ?")([^"\\]+)'
    r'(".*)',
    re.DOTALL,
)
_KEYS = ('"sequenceNumber"', '"chunk"', '"timestamp"', '"payload"')
_SAMPLES_PER_MS = WIRE_RATE // 1000
_PUT_OFF_MAX = 255
_NEVER = -1  # no message is as long


class Sequel:
    """The next media message of one stream."""

    __slots__ = (
        "_chunk",
        "_head",
        "_length",
        "_payload_bytes",
        "_payload_chars",
        "_pieces",
        "_put_off",
        "_sequence",
        "_step_ms",
        "_tail",
        "_wait",
        "next_timestamp_ms",
    )

    def __init__(self) -> None:
        self._length = _NEVER
        self._head = self._tail = ""
        self._pieces = ("", "", "", "")
        self._sequence = self._chunk = 0
        self._payload_chars = self._payload_bytes = self._step_ms = 0
        self._put_off = self._wait = 0
        #: Timestamp of the message that is foretold.
        self.next_timestamp_ms = -1

    def take(self, message: str) -> bytes | None:
        """The payload if ``message`` is what was foretold, else None; then foretell the next."""
        if len(message) != self._length:
            return None
        head, tail = self._head, self._tail
        if not (message.startswith(head) and message.endswith(tail)):
            return None
        at = len(head)
        try:
            payload = a2b_base64(message[at : at + self._payload_chars], strict_mode=True)
        except ValueError:
            return None
        if len(payload) != self._payload_bytes:
            return None
        self._sequence += 1
        self._chunk += 1
        self.next_timestamp_ms += self._step_ms
        one, two, three, four = self._pieces
        self._head = f"{one}{self._sequence}{two}{self._chunk}{three}{self.next_timestamp_ms}{four}"
        if len(self._head) != at:
            self._length += len(self._head) - at
        self._put_off = 0
        return payload

    def foretell(self, message: str, payload: bytes, timestamp_ms: int) -> None:
        """Learn from a parsed media message of G.711 what the next is like."""
        if self._length != _NEVER:
            self._put_off_next()  # what was foretold did not come
        if self._wait:
            self._wait -= 1
            return
        shape = _SHAPE.fullmatch(message)
        if shape is None or any(message.count(key) != 1 for key in _KEYS):
            self._put_off_next()
            return
        one, sequence, two, chunk, three, timestamp, four, text, tail = shape.groups()
        numbers = (int(sequence), int(chunk), timestamp_ms)
        if (sequence, chunk, timestamp) != tuple(map(str, numbers)):
            self._put_off_next()  # leading zeros, or a timestamp that stands elsewhere
            return
        self._sequence, self._chunk = numbers[0] + 1, numbers[1] + 1
        self._step_ms = len(payload) // _SAMPLES_PER_MS
        self.next_timestamp_ms = timestamp_ms + self._step_ms
        self._pieces = (one, two, three, four)
        self._payload_chars, self._payload_bytes = len(text), len(payload)
        self._head = f"{one}{self._sequence}{two}{self._chunk}{three}{self.next_timestamp_ms}{four}"
        self._tail = tail
        self._length = len(self._head) + len(text) + len(tail)

    def counted(self, sequence: int) -> None:
        """Another message of the stream, such as a mark, has taken this sequence number."""
        if self._length != _NEVER:
            self._length -= len(self._head)
            self._sequence = sequence + 1
            one, two, three, four = self._pieces
            self._head = (
                f"{one}{self._sequence}{two}{self._chunk}{three}{self.next_timestamp_ms}{four}"
            )
            self._length += len(self._head)

    def _put_off_next(self) -> None:
        self._length = _NEVER
        self._wait, self._put_off = self._put_off, min(2 * self._put_off + 1, _PUT_OFF_MAX)

    def forget(self) -> None:
        """The stream is over: nothing more is foretold."""
        self._length = _NEVER
