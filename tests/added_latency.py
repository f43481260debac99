"""How much later a caller hears the first audio because of us, over what the servers take.

    python -m tests.added_latency [--calls 50] [--seconds 40] [--seed 1]

A fake of OpenAI's API (a process of its own), a gateway with one worker whose stages all ask it,
and simulated callers who speak once in five seconds each. For each answer

    added = first frame of the answer on the wire - (turn over and its text known)
            - (chat: request arrived to first clause sent) - (speech: request to first audio sent)

where the first line comes from the gateway's log, and the second from the fake, which notes when
it was asked and when it sent: what is left is HTTP both ways, the responder, two passes through
the rings and the pacer. All of it in milliseconds, on one machine's clock.
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fakes.openai_http import Script
from tests.fakes.process import fake_process
from tests.integration.conftest import Gateway, start

P50_MAX_MS, P99_MAX_MS = 25, 60
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
        try:
            _, report, output = gateway.simulate(
                *("--scenario", "turns", "--calls", str(given.calls), "--seed", str(given.seed)),
                *("--seconds", str(given.seconds), "--ramp", "5"),
            )
            turns = fake.turns()
        finally:
            gateway.process.send_signal(signal.SIGTERM)
            gateway.process.wait(60)
            gateway.reader.join()
    found = added(gateway, turns)
    if not found:
        sys.stderr.write(output + gateway.log())
        return 1
    return show(found, report, given)


def added(gateway: Gateway, turns: Sequence[dict[str, Any]]) -> list[float]:
    """Milliseconds of each answer that can be told: not of one that somebody spoke over."""
    by_text = {turn["heard"]: turn for turn in turns}
    found, asked = [], dict[str, str]()
    for line in gateway.lines:
        if not line.startswith("{"):
            continue
        entry = json.loads(line)
        if entry["event"] == "said" and entry["role"] == "caller":
            asked[entry["call"]] = entry["text"]
        elif entry["event"] == "answered":
            turn = by_text.get(asked.pop(entry["call"], ""))
            if turn is not None and turn["audio_sent_ns"] > 0:
                found.append(_added(entry, turn))
    return found


def _added(times: dict[str, int], turn: dict[str, int]) -> float:
    total_ms = times["response_ms"] - max(times["endpoint_ms"], times["transcript_ms"])
    chat_ns = turn["clause_sent_ns"] - turn["chat_asked_ns"]
    speech_ns = turn["audio_sent_ns"] - turn["tts_asked_ns"]
    return total_ms - (chat_ns + speech_ns) / 1e6


def show(found: list[float], report: dict[str, Any], given: argparse.Namespace) -> int:
    """Print the figures; status 0 when they are within what we promise."""
    ordered = sorted(found)
    p50, p95, p99 = (ordered[math.ceil(len(found) * q) - 1] for q in (0.5, 0.95, 0.99))
    ok = p50 <= P50_MAX_MS and p99 <= P99_MAX_MS
    lines = [
        f"added to the first audio: {given.calls} calls, a turn each 5 s, seed {given.seed}",
        "",
        f"turns     {len(found)}",
        f"added     p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms, max {ordered[-1]:.1f} ms",
        f"limits    p50 {P50_MAX_MS} ms, p99 {P99_MAX_MS} ms",
        f"callers   {report['disconnects']} disconnects,"
        f" send lateness p99 {report['send_lateness_ms']['p99']:.1f} ms",
        f"result    {'passed' if ok else 'FAILED'}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
