"""What is true of live calls just now, on its way from a worker to the console: droppable packets.

They travel over the socket of the records (``records``) and differ in what they are worth: a
record is never lost, one of these is never kept. Once a second a worker tells of all its calls in
one packet, so that a call costs a few bytes and no system call; whoever is not told of for some
seconds is not live any more, whatever became of its worker.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

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


def is_report(packet: bytes) -> bool:
    """Whether a packet is one of these, and no record."""
    return packet.startswith(_HEAD)


def read(packet: bytes) -> CallsSeen:
    """Read a packet; RecordError for anything else."""
    try:
        document = orjson.loads(packet)
    except orjson.JSONDecodeError as error:
        raise RecordError("a report that is not JSON") from error
    if not isinstance(document, dict) or document.get("live") != "seen":
        raise RecordError("a report of an unknown kind")
    calls = document.get("calls")
    if not _are_calls(calls):
        raise RecordError("a report of calls that are none")
    return CallsSeen(tuple(CallSeen(*call) for call in calls))


def _are_calls(calls: object) -> TypeGuard[list[list[Any]]]:
    return isinstance(calls, list) and all(
        isinstance(call, list) and tuple(map(type, call)) == _TYPES for call in calls
    )
