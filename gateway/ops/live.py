"""What is true of live calls just now, on its way from a worker to the console: droppable packets.

They travel over the socket of the records (``records``) and differ in what they are worth: a
record is never lost, one of these is never kept. Once a second a worker tells of all its calls in
one packet, so that a call costs a few bytes and no system call; whoever is not told of for some
seconds is not live any more, whatever became of its worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import orjson

from gateway.ops.records import PACKET_BYTES_MAX, RecordError

_HEAD = b'{"live":'


class CallSeen(NamedTuple):
    """One live call: how loud both are (dBFS), and who is speaking."""

    call_id: str
    caller_dbfs: int
    assistant_dbfs: int
    caller_speaks: bool
    assistant_speaks: bool


@dataclass(frozen=True, slots=True)
class CallsSeen:
    """Live calls of one worker."""

    calls: tuple[CallSeen, ...]


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """An answer began so long after the caller's last voiced frame."""

    call_id: str
    response_ms: int


Report = CallsSeen | CallAnswered

_TYPES = (str, int, int, bool, bool)


def seen(calls: Sequence[CallSeen]) -> Iterator[bytes]:
    """All calls, in as few packets as they need."""
    packet = orjson.dumps({"live": "seen", "calls": list(map(list, calls))})
    if len(packet) <= PACKET_BYTES_MAX or len(calls) == 1:
        yield packet
        return
    half = len(calls) // 2
    yield from seen(calls[:half])
    yield from seen(calls[half:])


def answered(call_id: str, response_ms: int) -> bytes:
    """One answer."""
    return orjson.dumps({"live": "answered", "call_id": call_id, "response_ms": response_ms})


def is_report(packet: bytes) -> bool:
    """Whether a packet is one of these, and no record."""
    return packet.startswith(_HEAD)


def read(packet: bytes) -> Report:
    """Read a packet; RecordError for anything else."""
    try:
        document = orjson.loads(packet)
    except orjson.JSONDecodeError as error:
        raise RecordError("a report that is not JSON") from error
    kind = document["live"] if isinstance(document, dict) and "live" in document else None
    if kind == "seen" and _are_calls(calls := document.get("calls")):
        return CallsSeen(tuple(CallSeen(*call) for call in calls))
    if kind == "answered":
        call_id, response_ms = document.get("call_id"), document.get("response_ms")
        if isinstance(call_id, str) and type(response_ms) is int:
            return CallAnswered(call_id, response_ms)
    raise RecordError("a report of an unknown kind or shape")


def _are_calls(calls: object) -> bool:
    return isinstance(calls, list) and all(
        isinstance(call, list) and tuple(map(type, call)) == _TYPES for call in calls
    )
