"""How much later a caller hears the first audio because of us, over what the servers take.

    python -m tests.added_latency [--calls 50] [--seconds 40] [--seed 1]

A fake of OpenAI's API (a process of its own), a gateway with one worker whose stages all ask it,
and simulated callers who speak once in five seconds each. For each answer

    added = first frame of the answer on the wire - (turn over and its text known)
            - (chat: request arrived to first clause sent) - (speech: request to first audio sent)

where the first line comes from the gateway's log, and the second from the fake, which notes when
it was asked and when it sent: what is left is HTTP both ways, the responder, two passes through
the rings and the pacer. All of it in milliseconds, on one machine's clock. The table tells which
stage it belongs to: the first words (chat), the first audio (text-to-speech), the wire.
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
STAGES = ("first words", "first audio", "wire")
#: What we added until the first words, from there to the first audio, from there to the wire.
Stages = tuple[float, float, float]
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


def added(gateway: Gateway, turns: Sequence[dict[str, Any]]) -> list[Stages]:
    """Each answer that can be told: not one that somebody spoke over."""
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
                found.append(_stages(entry, turn))
    return found


def _stages(times: dict[str, int], turn: dict[str, int]) -> Stages:
    chat_ms = (turn["clause_sent_ns"] - turn["chat_asked_ns"]) / 1e6
    speech_ms = (turn["audio_sent_ns"] - turn["tts_asked_ns"]) / 1e6
    known_ms = max(times["endpoint_ms"], times["transcript_ms"])
    return (
        times["first_words_ms"] - known_ms - chat_ms,
        times["first_audio_ms"] - times["first_words_ms"] - speech_ms,
        float(times["response_ms"] - times["first_audio_ms"]),
    )


def show(found: list[Stages], report: dict[str, Any], given: argparse.Namespace) -> int:
    """Print the figures; status 0 when they are within what we promise."""
    rows = [("added", [sum(stages) for stages in found])]
    rows += [
        (name, list(column)) for name, column in zip(STAGES, zip(*found, strict=True), strict=True)
    ]
    lines = [f"{given.calls} calls, a turn each 5 s, seed {given.seed}: {len(found)} answers", ""]
    lines.append(f"{'ms':<14}{'p50':>8}{'p95':>8}{'p99':>8}{'max':>8}")
    for name, values in rows:
        cells = (f"{quantile(values, q):>8.1f}" for q in (0.5, 0.95, 0.99, 1.0))
        lines.append(f"{name:<14}{''.join(cells)}")
    total = rows[0][1]
    ok = quantile(total, 0.5) <= P50_MAX_MS and quantile(total, 0.99) <= P99_MAX_MS
    late = report["send_lateness_ms"]["p99"]
    lines += [
        "",
        f"limits        p50 {P50_MAX_MS} ms, p99 {P99_MAX_MS} ms",
        f"callers       {report['disconnects']} disconnects, p99 of their lateness {late:.1f} ms",
        f"result        {'passed' if ok else 'FAILED'}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if ok else 1


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that is no smaller than this share of all."""
    return sorted(values)[math.ceil(len(values) * share) - 1]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends too
    sys.exit(main())
