"""What a caller hears, and when, while a provider fails: one row a fault.

    python -m tests.provider_faults [--list] [NAME ...]

NAME is the beginning of a row's, so that the lane can be run in pieces: half a minute a row.

For each fault a gateway is started afresh with every stage at a fake of OpenAI's API; when it has
prepared its sentences the fault begins, and two callers say something. Where it is the settings
that cannot work, nothing was ever spoken before. The row tells how long after their words they
heard something (an answer, an apology, a follow-up: never silence), how many calls a fault ended,
how many requests each turn made, and whether a key got into the log.
"""

from __future__ import annotations

import argparse
import math
import queue
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fakes.openai_http import KEY, Fault, Script
from tests.fakes.process import FakeProcess, fake_process
from tests.integration.conftest import Gateway, start

CALLS = 2
CLIP = "tests/fixtures/clips/en/cards-001.wav"
#: A turn's budget (8 s), the pause that ends it and the first frames.
HEARD_MS_MAX = 10_000
PREPARED_S_MAX = 30
BLACK_HOLE = "http://240.0.0.1/v1"
NOWHERE = "http://no-such-host.invalid/v1"
WRONG_KEY = "sk-wrong-0123456789abcdefgh"


@dataclass(frozen=True)
class Row:
    """A fault of the fake, or settings that cannot work; ``spare``: all have a second server."""

    name: str
    fault: Fault | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    script: Mapping[str, Any] = field(default_factory=dict)
    spare: bool = False
    heard_ms_max: int = HEARD_MS_MAX


def rows() -> Iterator[Row]:
    """Every fault of every stage, alone and with a spare server where that tells something."""
    yield Row("nothing")
    for stage in ("stt", "llm", "tts"):
        yield Row(f"{stage} 401", Fault(stage, status=401))
        yield Row(f"{stage} 429", Fault(stage, status=429))
        yield Row(f"{stage} 429 Retry-After 1", Fault(stage, status=429, retry_after="1"))
        yield Row(f"{stage} 429 Retry-After 60", Fault(stage, status=429, retry_after="60"))
        yield Row(f"{stage} 500", Fault(stage, status=500))
        yield Row(f"{stage} stall", Fault(stage, kind="stall"))
        yield Row(f"{stage} stall half-way", Fault(stage, kind="stall", after_bytes=300))
        yield Row(f"{stage} reset half-way", Fault(stage, kind="reset", after_bytes=300))
        yield Row(f"{stage} 500, spare", Fault(stage, status=500), spare=True)
        yield Row(f"{stage} stall, spare", Fault(stage, kind="stall"), spare=True)
    for stage in ("stt", "llm"):
        yield Row(f"{stage} garbage", Fault(stage, kind="garbage"))
        yield Row(f"{stage} oversized", Fault(stage, kind="oversized"))
    yield Row("empty transcript", script={"transcript": ""}, heard_ms_max=25_000)
    yield Row("wrong voice", settings={"TTS_VOICE": "nobody"})
    yield Row("wrong key", settings={"OPENAI_API_KEY": WRONG_KEY})
    for stage in ("STT", "LLM", "TTS"):
        yield Row(f"{stage.lower()} no such host", settings={f"{stage}_BASE_URL": NOWHERE})
        yield Row(f"{stage.lower()} black hole", settings={f"{stage}_BASE_URL": BLACK_HOLE})


@dataclass(frozen=True)
class Outcome:
    """What came of one row."""

    heard_ms: float | None
    ended: int
    requests: float
    keys: int


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.provider_faults")
    parser.add_argument("names", nargs="*", metavar="NAME", help="how the wanted rows begin")
    parser.add_argument("--list", action="store_true", help="only name the rows")
    given = parser.parse_args(arguments)
    chosen = [row for row in rows() if row.name.startswith(tuple(given.names) or "")]
    if given.list or not chosen:
        sys.stdout.write("".join(f"{row.name}\n" for row in chosen or rows()))
        return 0 if given.list else 2
    sys.stdout.write(f"{'fault':<28}{'heard ms':>9}{'ended':>7}{'requests/turn':>15}{'keys':>6}\n")
    failed = sum(not try_out(row) for row in chosen)
    sys.stdout.write(f"{len(chosen) - failed} passed, {failed} failed\n")
    return 1 if failed else 0


def try_out(row: Row) -> bool:
    """Play a row and print it; whether all was as it should be."""
    try:
        found = play(row)
    except (AssertionError, queue.Empty, subprocess.TimeoutExpired) as error:
        sys.stdout.write(f"{row.name:<28}could not be tried: {type(error).__name__}\n")
        return False
    in_time = found.heard_ms is not None and found.heard_ms <= row.heard_ms_max
    ok = in_time and found.ended == 0 and found.keys == 0
    heard = "never" if found.heard_ms is None else f"{found.heard_ms:.0f}"
    sys.stdout.write(
        f"{row.name:<28}{heard:>9}{found.ended:>7}{found.requests:>15.1f}{found.keys:>6}"
        f"{'' if ok else '  FAILED'}\n"
    )
    sys.stdout.flush()
    return ok


def play(row: Row) -> Outcome:
    """One gateway, one fault, a few calls."""
    with ExitStack() as stack:
        fake = stack.enter_context(fake_process(Script()))
        settings = fake.settings()
        if row.spare:
            spare = stack.enter_context(fake_process(Script(transcript="From the spare server.")))
            settings = _with_spare(settings, spare)
        gateway = stack.enter_context(_running(settings | dict(row.settings)))
        faults = [] if row.fault is None else [row.fault]
        fake.behave(Script(**{"faults": faults, **row.script}))
        before = _requests(gateway)
        _, report, _ = gateway.simulate(
            *("--scenario", "talk", "--calls", str(CALLS), "--audio", CLIP, "--seconds", "25")
        )
        requests = _requests(gateway) - before
    answers = report["response_ms"]
    log = gateway.log()
    return Outcome(
        heard_ms=answers["max"] if answers["count"] >= CALLS else None,
        ended=report["disconnects"],
        requests=requests / max(answers["count"], 1),
        keys=log.count(KEY) + log.count(WRONG_KEY),
    )


def _with_spare(settings: Mapping[str, str], spare: FakeProcess) -> dict[str, str]:
    """The same settings with a second server behind each first one."""
    behind = spare.settings()
    lists = {name: f"{value},{behind[name]}" for name, value in settings.items()}
    return lists | {"OPENAI_API_KEY": KEY}


@contextmanager
def _running(settings: Mapping[str, str]) -> Iterator[Gateway]:
    with tempfile.TemporaryDirectory() as folder:
        gateway = start(Path(folder), "--workers", "1", "--responder", "llm", **settings)
        try:
            deadline = time.monotonic() + PREPARED_S_MAX
            while "sentences prepared" not in gateway.log() and time.monotonic() < deadline:
                time.sleep(0.1)
            yield gateway
        finally:
            gateway.end(within_s=60)


def _requests(gateway: Gateway) -> float:
    """Requests of the worker to its providers, all stages."""
    url = f"http://127.0.0.1:{gateway.console_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    names = tuple(f"voice_gateway_{stage}_requests_total{{" for stage in ("stt", "llm", "tts"))
    return math.fsum(float(line.split()[-1]) for line in lines if line.startswith(names))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends too
    sys.exit(main())
