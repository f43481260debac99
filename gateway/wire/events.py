"""What any carrier can tell us, as typed events. Wires make them, sessions consume them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from audio.format import Encoding


@dataclass(frozen=True, slots=True)
class StreamStarted:
    """A call's audio begins. ``stream_id`` tells calls on one socket apart.

    ``language_hint`` is ``en``, ``ar``, ``ru``, ``auto`` (decide by listening) or "" (no hint).
    ``encoding`` is that of the caller's audio; the assistant's is the same unless
    ``assistant_encoding`` names another.
    """

    stream_id: str
    call_id: str
    encoding: Encoding
    language_hint: str
    parameters: Mapping[str, str]
    assistant_encoding: Encoding | None = None


class CallerAudio(NamedTuple):
    """Encoded caller audio, whole samples; ``timestamp_ms`` is the carrier's, or -1.

    The one event on the hot path: as a tuple it is made in a third of the time.
    """

    stream_id: str
    payload: bytes
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class MarkPlayed:
    """The carrier played (or cleared) everything sent before the named mark."""

    stream_id: str
    name: str


@dataclass(frozen=True, slots=True)
class Digit:
    """The caller pressed a key: one of ``0-9*#A-D``."""

    stream_id: str
    digit: str


@dataclass(frozen=True, slots=True)
class StreamStopped:
    """The carrier says that the call's audio has ended."""

    stream_id: str


@dataclass(frozen=True, slots=True)
class CarrierError:
    """The carrier reports something wrong with us; ``code`` and ``title`` are its own words.

    ``stream_id`` is "" when no stream has begun.
    """

    stream_id: str
    code: str
    title: str


Event = StreamStarted | CallerAudio | MarkPlayed | Digit | StreamStopped | CarrierError
