"""How much later a caller hears the first audio because of us, over what the servers take.

    python -m tests.added_latency [--calls 50] [--seconds 40] [--seed 1]

A fake of OpenAI's API (a process of its own), a gateway with one worker whose stages all ask it,
and simulated callers who speak once in five seconds each. For each answer

    added = first frame of the answer on the wire - (turn over and its text known)
            - (chat: request had come to first clause was sent)
            - (speech: request had come to first audio was sent)

where the first line comes from the gateway's log, and the others from the fake, which notes when
the bytes had come and when it had written: what it takes to read, to answer and to write is its
own. What is left is HTTP both ways, the responder, two passes through the rings and the pacer. All
of it on one machine's clock, in milliseconds, by stage.

Fake and callers share this machine with the gateway, and so may others. While the worker could
work but had no core the kernel counts it (schedstat); that is shown, and left out of the promise:
`ours`. A bare client, a thread that asks the same fake for nothing all the while, tells what two
processes cost each other here; an answer takes two such trips.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil

from tests.fakes.openai_http import Script
from tests.fakes.process import fake_process
from tests.integration.conftest import Gateway, start

P50_MAX_MS, P99_MAX_MS = 25, 60
PING_EVERY_S = 0.1
LOOK_EVERY_S = 0.002
STAGES = (
    "to the chat server",
    "first words back",
    "to the speech server",
    "first audio back",
    "to the wire",
)
QUESTION = "What are your opening hours?"
SCRIPT = Script(
    transcript=QUESTION,
    number_turns=True,
    answer="Yes.",
    stt_ms=150,
    chat_ms=200,
    token_ms=10,
    tts_ms=150,
    speech_ms=400,
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.added_latency")
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--seconds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    with fake_process(SCRIPT) as fake, tempfile.TemporaryDirectory() as folder:
        gateway = start(
            Path(folder),
            *("--workers", "1", "--responder", "llm"),
            **fake.settings() | {"LOG_TRANSCRIPTS": "true"},
        )
        bare = BareClient(fake.url)
        queue = Queue(gateway.children("worker")[0]["pid"])
        psutil.cpu_percent()
        try:
            _, report, output = gateway.simulate(
                *("--scenario", "turns", "--calls", str(given.calls), "--seed", str(given.seed)),
                *("--seconds", str(given.seconds), "--ramp", "5"),
                within_s=given.seconds + 60,
            )
            busy = psutil.cpu_percent()
            turns = fake.turns()
        finally:
            bare.stop()
            queue.stop()
            gateway.end(within_s=60)
    found = added(gateway, turns, queue)
    if not found:
        sys.stderr.write(output + gateway.log())
        return 1
    return show(found, bare.trips_ms, report | {"busy": busy}, given)


class Watcher:
    """Looks at something all the while, in a thread."""

    def __init__(self, look: Callable[[], None], every_s: float) -> None:
        self._look = look
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._look()


class Queue:
    """How long a process has waited for a core so far."""

    def __init__(self, pid: int) -> None:
        self._fd = os.open(f"/proc/{pid}/schedstat", os.O_RDONLY)
        self._at_ns: list[int] = []
        self._waited_ns: list[int] = []
        self._watcher = Watcher(self._look, LOOK_EVERY_S)

    def stop(self) -> None:
        """Look no more."""
        self._watcher.stop()
        os.close(self._fd)

    def waited_ms(self, spans_ns: Iterable[tuple[float, float]]) -> float:
        """In these spans of time, all together."""
        ends = np.interp(np.array(list(spans_ns)), self._at_ns, self._waited_ns)
        return float((ends[:, 1] - ends[:, 0]).sum()) / 1e6

    def _look(self) -> None:
        self._waited_ns.append(int(os.pread(self._fd, 100, 0).split()[1]))
        self._at_ns.append(time.monotonic_ns())


class BareClient:
    """Asks the fake for nothing, over and over: what two processes cost each other here."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        self._socket = socket.create_connection((address.hostname, address.port or 80), timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        #: Both ways of each trip, the fake's own time in between left out.
        self.trips_ms: list[float] = []
        self._watcher = Watcher(lambda: self.trips_ms.append(self._trip()), PING_EVERY_S)

    def stop(self) -> None:
        """No more trips."""
        self._watcher.stop()
        self._socket.close()

    def _trip(self) -> float:
        sent_ns = time.monotonic_ns()
        self._socket.sendall(b"GET /fake/ping HTTP/1.1\r\nHost: fake\r\n\r\n")
        answer, back_ns = b"", 0
        while not answer.endswith(b"\r\n0\r\n\r\n"):
            answer += self._socket.recv(4096)
            if not back_ns and answer.partition(b"\r\n\r\n")[2]:
                back_ns = time.monotonic_ns()
        came_ns, left_ns = (int(found) for found in re.findall(rb"\r\n(\d{9,})\s", answer))
        return (came_ns - sent_ns + back_ns - left_ns) / 1e6


@dataclass(frozen=True)
class Answer:
    """Milliseconds of each stage, and how long the worker waited for a core meanwhile."""

    stages: tuple[float, ...]
    waited_ms: float

    @property
    def added_ms(self) -> float:
        return sum(self.stages)

    @property
    def ours_ms(self) -> float:
        return self.added_ms - self.waited_ms


def added(gateway: Gateway, turns: Sequence[dict[str, Any]], queue: Queue) -> list[Answer]:
    """Each answer that can be told: not one that somebody spoke over."""
    by_text = {turn["heard"]: turn for turn in turns}
    since_boot_ms = time.monotonic_ns() / 1e6 - time.time_ns() / 1e6
    found, asked = [], dict[str, tuple[str, float]]()
    for line in gateway.lines:
        if not line.startswith("{"):
            continue
        entry = json.loads(line)
        if entry["event"] == "said" and entry["role"] == "caller":
            wall_ms = datetime.fromisoformat(entry["ts"]).timestamp() * 1000
            # The log cuts off what is less than a millisecond: half of one, on average.
            asked[entry["call"]] = (entry["text"], wall_ms + since_boot_ms + 0.5)
        elif entry["event"] == "answered":
            text, known_ms = asked.pop(entry["call"], ("", 0.0))
            turn = by_text.get(text)
            if turn is not None and turn["audio_sent_ns"] > 0:
                found.append(_answer(entry, turn, known_ms, queue))
    return found


def _answer(times: dict[str, int], turn: dict[str, int], known_ms: float, queue: Queue) -> Answer:
    """``known_ms``: when turn over and text were known, on the clock of the fake's times."""
    ahead_ms = known_ms - max(times["endpoint_ms"], times["transcript_ms"])
    words_ms = times["first_words_ms"] + ahead_ms
    audio_ms = times["first_audio_ms"] + ahead_ms
    spans_ms = (
        (known_ms, turn["chat_asked_ns"] / 1e6),
        (turn["clause_sent_ns"] / 1e6, words_ms),
        (words_ms, turn["tts_asked_ns"] / 1e6),
        (turn["audio_sent_ns"] / 1e6, audio_ms),
        (audio_ms, times["response_ms"] + ahead_ms),
    )
    waited_ms = queue.waited_ms((begin * 1e6, end * 1e6) for begin, end in spans_ms)
    return Answer(tuple(end - begin for begin, end in spans_ms), waited_ms)


def show(
    found: list[Answer], trips_ms: list[float], report: dict[str, Any], given: argparse.Namespace
) -> int:
    """Print the figures; status 0 when they are within what we promise."""
    ours = [answer.ours_ms for answer in found]
    lines = [f"{given.calls} calls, a turn each 5 s, seed {given.seed}: {len(found)} answers", ""]
    lines.append(f"{'ms':<24}{'p50':>8}{'p95':>8}{'p99':>8}{'max':>8}")
    lines.append(_row("added, all of it", [answer.added_ms for answer in found]))
    stages = zip(*(answer.stages for answer in found), strict=True)
    lines += [_row(f"  {name}", list(each)) for name, each in zip(STAGES, stages, strict=True)]
    lines.append(_row("of it without a core", [answer.waited_ms for answer in found]))
    lines.append(_row("ours, the rest", ours))
    lines.append(_row("a bare client, 2 trips", [2 * trip_ms for trip_ms in trips_ms]))
    ok = quantile(ours, 0.5) <= P50_MAX_MS and quantile(ours, 0.99) <= P99_MAX_MS
    late = report["send_lateness_ms"]["p99"]
    lines += [
        "",
        f"limits        ours: p50 {P50_MAX_MS} ms, p99 {P99_MAX_MS} ms",
        f"machine       {report['busy']:.0f} % busy",
        f"callers       {report['disconnects']} disconnects, p99 of their lateness {late:.1f} ms",
        f"result        {'passed' if ok else 'FAILED'}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if ok else 1


def _row(name: str, values: Sequence[float]) -> str:
    cells = (f"{quantile(values, share):>8.1f}" for share in (0.5, 0.95, 0.99, 1.0))
    return f"{name:<24}{''.join(cells)}"


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that is no smaller than this share of all."""
    return sorted(values)[math.ceil(len(values) * share) - 1]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends too
    sys.exit(main())
