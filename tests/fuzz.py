"""``make fuzz SECONDS=60``: broken messages for every codec and broken bytes for the HTTP head.

Each case is made from the seed and its number alone: recorded conversations (or requests and
frames) with bits flipped, pieces cut out, doubled or exchanged, and values that nobody expects. A
codec may answer with events or with the error that is declared for peers' mistakes, the channel
with events; anything else ends the run with the command that repeats the case.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

from gateway.channel import Channel
from gateway.channel_events import Closed, HttpRequest, HttpResponse, Upgrade
from gateway.errors import RemoteWireError
from gateway.wire.detect import WIRES, Dialects, WireName, detect
from gateway.wire.events import StreamStarted

FIXTURES = Path(__file__).parent / "fixtures" / "wire"
RECORDED = {name: (FIXTURES / f"{name}.jsonl").read_text().splitlines() for name in WIRES}
HEADS = (
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /twilio/voice HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nCallSid=1",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"GET /media HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
)
FRAMES = (
    b"\x81\xfe\x00\x80" + bytes(132),  # a text of the common shape
    b"\x81\x85" + bytes(4) + b"hello",
    b"\x01\x81" + bytes(4) + b"a" + b"\x80\x81" + bytes(4) + b"b",
    b"\x82\x81" + bytes(4) + b"\x01",
    b"\x89\x80" + bytes(4),
    b"\x88\x82" + bytes(4) + b"\x03\xe8",
    b"\x81\xff" + (70_000).to_bytes(8, "big") + bytes(4),
)
ODD: tuple[object, ...] = (
    *(None, True, 0, -1, 2**53 + 1, 1e308, "", "\0", "é" * 300, "9" * 5000, [], {}),
    *([[[]]], {"event": "media"}, "AAA", "AAAA====", "inbound", "L16", "start"),
)

Counts = Counter[str]


def mutate(random: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Break some bytes a few times over; one in four times, none."""
    broken = bytearray(data)
    for _ in range(random.choice((0, 1, 1, 2, 5))):
        begin = random.randrange(len(broken) + 1)
        end = min(len(broken), begin + random.choice((0, 1, 1, 4, 40)))
        other = random.choice(others)
        broken[begin:end] = random.choice(
            (
                b"",
                bytes(byte ^ 1 << random.randrange(8) for byte in broken[begin:end]),
                broken[begin:end] * 2,
                random.randbytes(random.randrange(8)),
                other[random.randrange(len(other) + 1) :][: random.randrange(60)],
            )
        )
    return bytes(broken)


def mutate_json(random: Random, value: object) -> object:
    """Exchange values for odd ones, drop keys and add some."""
    if isinstance(value, dict):
        kept = {k: mutate_json(random, v) for k, v in value.items() if random.random() > 0.03}
        if random.random() < 0.1:
            kept[random.choice(("event", "type", "callId", "streamSid", "x"))] = random.choice(ODD)
        return kept
    return random.choice(ODD) if random.random() < 0.05 else value


def codec_case(name: WireName, random: Random, counts: Counts) -> None:
    """A conversation in which messages are broken, missing, doubled and out of order."""
    lines = RECORDED[name]
    foreign = [line.encode() for line in RECORDED[random.choice(tuple(WIRES))]]
    wire = WIRES[name](Dialects())
    for n in range(random.randrange(1, 12)):
        line = lines[n] if n < 2 and random.random() < 0.8 else random.choice(lines)
        message = json.dumps(mutate_json(random, json.loads(line))).encode()
        if random.random() < 0.3:
            message = mutate(random, message, foreign)
        counts[f"{name}: messages"] += 1
        try:
            detect(message)
            events = wire.receive(message)
        except RemoteWireError as error:
            counts[f"{name}: refused, {error.kind}"] += 1
            continue
        counts[f"{name}: events"] += len(events)
        for event in events:
            if isinstance(event, StreamStarted):
                wire.media(event.stream_id, bytes(640))
                wire.mark(event.stream_id, "m")


def channel_case(random: Random, counts: Counts) -> None:
    """Requests and frames, broken and cut anywhere, to one connection."""
    is_socket = random.random() < 0.6
    parts = random.choices(FRAMES if is_socket else HEADS + FRAMES, k=random.randrange(1, 8))
    data = HEADS[-1] if is_socket else b""
    for part in parts:
        data += mutate(random, part, HEADS + FRAMES) if random.random() < 0.3 else part
    channel = Channel(fast=random.random() < 0.8)
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.randrange(4)))
    for begin, end in pairwise((0, *cuts, len(data))):
        counts["channel: reads"] += 1
        text = channel.one_text(data[begin:end])
        todo = [text] if text is not None else channel.receive(data[begin:end])
        for event in todo:
            counts[f"channel: {type(event).__name__}"] += 1
            if isinstance(event, HttpRequest):
                todo += channel.respond(HttpResponse(200, b"ok"))
            elif isinstance(event, Upgrade):
                todo += channel.accept()
        channel.take_output()
    if random.random() < 0.5:
        channel.head_timeout()
    assert all(isinstance(event, Closed) for event in channel.receive_eof())
    channel.abandon()


def run_case(seed: int, number: int, counts: Counts) -> None:
    """One case; raises what nobody declared."""
    random = Random(f"{seed}:{number}")
    names: tuple[WireName, ...] = tuple(WIRES)
    turn = number % (len(names) + 1)
    if turn == len(names):
        channel_case(random, counts)
    else:
        codec_case(names[turn], random, counts)


def fuzz(seed: int, cases: Sequence[int], seconds: float, counts: Counts) -> int:
    """Run cases until the time is over; status 1 when one failed."""
    end = time.monotonic() + seconds
    for number in cases:
        if time.monotonic() > end:
            break
        counts["cases"] += 1
        try:
            run_case(seed, number, counts)
        except Exception:  # noqa: BLE001 - whatever it is, it was not declared
            sys.stderr.write(traceback.format_exc())
            sys.stderr.write(f"again: python -m tests.fuzz --seed {seed} --case {number}\n")
            return 1
    return 0


def main() -> int:
    """Read the command line, run, print the counts."""
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=time.monotonic_ns() % 1_000_000)
    parser.add_argument("--case", type=int, help="only this one")
    given = parser.parse_args()
    counts: Counts = Counter()
    cases = range(sys.maxsize) if given.case is None else [given.case]
    status = fuzz(given.seed, cases, given.seconds, counts)
    for name, count in sorted(counts.items()):
        sys.stdout.write(f"{count:>10}  {name}\n")
    sys.stdout.write(f"seed {given.seed}: {'failed' if status else 'only declared errors'}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
