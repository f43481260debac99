"""``python -m gateway.wire.bench``: what a media message costs on one core, beside json + base64.

Each row is a wire's message with 20 ms of audio, read or written through the codec's public
methods, as the gateway does it for every frame; the other column does the least that a program
with the standard library must do for the same: parse and decode, or encode and write, no more
(nothing is checked, no event is made). Rounds go through all measurements in turn, so that a
machine whose speed drifts is unfair to none; the table shows the best of them, in microseconds,
since what else runs on a machine can only add. Exit status 1 when a promise is missed.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from time import perf_counter_ns

from audio.format import PCM_FRAME_BYTES
from gateway.wire.base import Wire
from gateway.wire.detect import WIRES, Dialects, WireName

ROUNDS = 25
SLICE = 2_000  # messages in one round
TEXTS = 512  # different ones, that the processor's cache holds, as it does what has just come in
CODE_FRAME_BYTES = 160
STREAM = "MZ0123456789abcdef0123456789abcdef"

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Measurement:
    """A row: what is measured, and what it may cost at most (microseconds)."""

    name: str
    ours: Work
    usual: Work
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A measurement's result, in microseconds a message."""

    name: str
    ours: float
    usual: float
    most: float | None

    @property
    def is_missed(self) -> bool:
        """Whether it cost more than it may."""
        return self.most is not None and self.ours > self.most


def measurements() -> list[Measurement]:
    """Every row of the table."""
    return [
        Measurement("twilio: read media", *reading("twilio", CODE_FRAME_BYTES), most=2.5),
        Measurement("twilio: write media", *writing("twilio", CODE_FRAME_BYTES), most=1.5),
        Measurement("telnyx: read media", *reading("telnyx", CODE_FRAME_BYTES)),
        Measurement("telnyx: write media", *writing("telnyx", CODE_FRAME_BYTES)),
        Measurement("plain: read audio", *reading("plain", PCM_FRAME_BYTES)),
        Measurement("plain: write audio_out", *writing("plain", PCM_FRAME_BYTES)),
    ]


def reading(name: WireName, frame_bytes: int) -> tuple[Work, Work]:
    """Ours and the usual way to read one message of caller audio after another."""
    wire, payload = live(name), base64.b64encode(bytes(range(160)) * (frame_bytes // 160)).decode()
    texts = [caller_message(name, n, payload) for n in range(1, TEXTS + 1)]
    ours, usual = cycle(texts), cycle(texts)
    receive = wire.receive

    def read() -> object:
        return receive(next(ours))

    def usual_read() -> object:
        message = json.loads(next(usual))
        return base64.b64decode(message.get("media", message)["payload"])

    return read, usual_read


def writing(name: WireName, frame_bytes: int) -> tuple[Work, Work]:
    """Ours and the usual way to write one message of assistant audio."""
    media, payload = live(name).media, bytes(range(160)) * (frame_bytes // 160)

    def write() -> object:
        return media(STREAM, payload)

    def usual_write() -> object:
        text = base64.b64encode(payload).decode()
        return json.dumps({"event": "media", "streamSid": STREAM, "media": {"payload": text}})

    return write, usual_write


def live(name: WireName) -> Wire:
    """A wire with one stream."""
    opening = {
        "twilio": {"event": "start", "streamSid": STREAM, "start": {"callSid": "CA1"}},
        "telnyx": {"event": "start", "stream_id": STREAM, "start": {"call_control_id": "v3:1"}},
        "plain": {"type": "init", "callId": STREAM},
    }
    wire = WIRES[name](Dialects())
    wire.receive(json.dumps(opening[name]))
    return wire


def caller_message(name: WireName, chunk: int, payload: str) -> str:
    """The text of one message of caller audio, as the carrier writes it."""
    number, timestamp = str(chunk), str(20 * chunk)
    audio = {"track": "inbound", "chunk": number, "timestamp": timestamp, "payload": payload}
    if name == "plain":
        message: dict[str, object] = {"type": "audio", "callId": STREAM, "payload": payload}
    elif name == "telnyx":
        ids = {"sequence_number": number, "stream_id": STREAM}
        message = {"event": "media", **ids, "media": audio}
    else:
        message = {"event": "media", "sequenceNumber": number, "media": audio, "streamSid": STREAM}
    return json.dumps(message, separators=(",", ":"))


def cost_us(work: Work, messages: int) -> float:
    """What one message costs, in microseconds."""
    began = perf_counter_ns()
    for _ in range(messages):
        work()
    return (perf_counter_ns() - began) / messages / 1000


def measure(rows: Sequence[Measurement], rounds: int = ROUNDS, messages: int = SLICE) -> list[Row]:
    """The best of rounds that go through all measurements in turn."""
    found: list[tuple[list[float], list[float]]] = [([], []) for _ in rows]
    for _ in range(rounds):
        for row, (ours, usual) in zip(rows, found, strict=True):
            ours.append(cost_us(row.ours, messages))
            usual.append(cost_us(row.usual, messages))
    return [
        Row(row.name, min(ours), min(usual), row.most)
        for row, (ours, usual) in zip(rows, found, strict=True)
    ]


def rendered(rows: Sequence[Row]) -> str:
    """The table."""
    lines = [f"{'us a message':26}{'ours':>8}{'json + base64':>16}{'at most':>10}"]
    for row in rows:
        most = "" if row.most is None else f"{row.most:10.1f} {'MISSED' if row.is_missed else 'ok'}"
        lines.append(f"{row.name:26}{row.ours:8.2f}{row.usual:16.2f}{most}")
    return "\n".join(lines)


def main() -> int:
    """Print the table; 1 when a promise is missed."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rows = measure(measurements())
    sys.stdout.write(rendered(rows) + "\n")
    return int(any(row.is_missed for row in rows))


if __name__ == "__main__":
    sys.exit(main())
