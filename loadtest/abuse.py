"""The command: ``python -m loadtest.abuse --url ws://127.0.0.1:4000/`` misbehaves for a while.

All attacks at once, from one address, beside echo calls from another (the gateway's responder must
be ``echo``). Prints how each attack was answered, what memory it took, and whether the calls lost a
frame. Only a gateway on this machine is attacked.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from loadtest.attacks import ATTACKS, Target, run
from loadtest.errors import UsageError
from loadtest.host import TreeMeter, host_facts
from loadtest.rude import closing_all

SIMULATOR = Path(__file__).with_name("twilio_sim.py")
SECONDS_MAX = 120
CALLS_MAX = 1_000
#: The calls are up before the first attack, and for a while after the last.
WARM_UP_S = 10
CALM_S = 6
SPARE_S = 14  # what was begun in the last moment is answered within timeouts
PATIENCE_S = 60
PSS_GROWTH_MB_MAX = 8
#: Strangers bring processors of their own; ours yield to the gateway and its callers.
NICE = 10
EXIT_FAILED = 1
EXIT_USAGE = 2


@dataclass(slots=True)
class Findings:
    """What was seen. Memory in MiB, None where it could not be read."""

    answers: dict[str, Counter[str]] = field(default_factory=dict)
    pss_mb_before: float | None = None
    pss_mb_most: float | None = None
    pss_mb_after: float | None = None
    calls: dict[str, object] = field(default_factory=dict)

    @property
    def pss_mb_grown(self) -> float | None:
        """What is left of it when all is over."""
        before, after = self.pss_mb_before, self.pss_mb_after
        return None if before is None or after is None else after - before

    def holds(self) -> bool:
        """Whether the memory came back and no call lost a frame."""
        lost = [self.calls.get(name) for name in ("frames_lost", "disconnects")]
        return (self.pss_mb_grown or 0) < PSS_GROWTH_MB_MAX and lost == [0, 0]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status: 0, 1 when something did not hold, 2 for a usage error."""
    options = _parser().parse_args(arguments)
    try:
        target = target_of(options.url, options.source, options.seconds)
        meter = None if options.pid is None else TreeMeter(options.pid)
        found = asyncio.run(abuse(target, options.url, options.calls, meter))
    except UsageError as error:
        sys.stderr.write(f"abuse: {error}\n")
        return EXIT_USAGE
    print("\n".join(table(found, options.calls)))
    return 0 if found.holds() else EXIT_FAILED


def target_of(url: str, source: str, seconds: float) -> Target:
    """Whom to attack; ``UsageError`` when it is not on this machine."""
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
    with suppress(ValueError):
        local = all(ipaddress.IPv4Address(text).is_loopback for text in (host, source))
        if parts.scheme == "ws" and parts.port and local:
            return Target(parts.port, source, seconds)
    raise UsageError("--url must be ws://127.0.0.1:PORT/, and --source on loopback: only here")


async def abuse(target: Target, url: str, calls: int, meter: TreeMeter | None) -> Findings:
    """Have calls up, attack, let it calm down."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        seconds = WARM_UP_S + target.seconds + CALM_S + SPARE_S
        simulator = _simulate(url, calls, seconds, report)
        try:
            found = await _attack(target, meter)
            await asyncio.to_thread(simulator.wait, seconds + PATIENCE_S)
        finally:
            simulator.kill()
            simulator.wait()
        found.calls = await asyncio.to_thread(_read, report)
    return found


async def _attack(target: Target, meter: TreeMeter | None) -> Findings:
    found = Findings()
    os.nice(NICE)
    await asyncio.sleep(WARM_UP_S)
    found.pss_mb_before = found.pss_mb_most = await _pss(meter)
    watch = asyncio.create_task(_watch(found, meter))
    async with closing_all():
        runs = await asyncio.gather(*(run(attack, target) for attack in ATTACKS))
    watch.cancel()
    found.answers = {attack.name: seen for attack, seen in zip(ATTACKS, runs, strict=True)}
    await asyncio.sleep(CALM_S)
    found.pss_mb_after = await _pss(meter)
    return found


def table(found: Findings, calls: int) -> list[str]:
    """The report, line by line."""
    host = host_facts()
    lines = [
        f"{host['cpu']}, {host['cores']} cores, {host['kernel']}, Python {host['python']}",
        "",
        "| attack | answers |",
        "|---|---|",
    ]
    lines += [f"| {name} | {_answers(answers)} |" for name, answers in found.answers.items()]
    lines.append("")
    if found.pss_mb_grown is not None:
        lines.append(
            f"PSS {found.pss_mb_before:.1f} MiB before, {found.pss_mb_most:.1f} at most, "
            f"{found.pss_mb_after:.1f} after: {found.pss_mb_grown:+.1f} (limit {PSS_GROWTH_MB_MAX})"
        )
    lines.append(_calls(found.calls, calls))
    lines.append("holds" if found.holds() else "FAILS")
    return lines


def _answers(answers: Mapping[str, int]) -> str:
    ordered = sorted(answers.items(), key=lambda item: -item[1])
    return ", ".join(f"{answer} x {count}" for answer, count in ordered)


def _calls(report: Mapping[str, object], calls: int) -> str:
    if not report:
        return f"{calls} echo calls beside it: no report"
    rtt = report["rtt_ms"]
    assert isinstance(rtt, Mapping)
    return (
        f"{calls} echo calls beside it: {report['frames_sent']} frames sent, "
        f"{report['frames_lost']} lost, {report['frames_out_of_order']} out of order, "
        f"{report['disconnects']} disconnects, round trip p50 {rtt['p50']:.0f} / "
        f"p99 {rtt['p99']:.0f} ms"
    )


def _simulate(url: str, calls: int, seconds: float, report: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(SIMULATOR), "--url", url, "--scenario", "echo"]
    command += ["--calls", str(calls), "--seconds", str(seconds), "--json", str(report)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _read(report: Path) -> dict[str, object]:
    found = json.loads(report.read_bytes()) if report.exists() else {}
    assert isinstance(found, dict)
    return found


async def _pss(meter: TreeMeter | None) -> float | None:
    return None if meter is None else await asyncio.to_thread(meter.pss_mb)


async def _watch(found: Findings, meter: TreeMeter | None) -> None:
    """Note the most memory there was."""
    while (now := await _pss(meter)) is not None:
        found.pss_mb_most = max(now, found.pss_mb_most or 0)
        await asyncio.sleep(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.abuse",
        description="Misbehave towards a gateway on this machine; print how it answered.",
        epilog="Exit status: 0; 1 when memory did not come back or a call lost a frame; 2 for a "
        "usage error.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--url", required=True, help="ws://127.0.0.1:PORT/ of a gateway whose responder is echo")
    add("--seconds", type=_number(SECONDS_MAX), default=15, metavar="N", help="default 15")
    add("--calls", type=_number(CALLS_MAX), default=50, metavar="N", help="beside it, default 50")
    add("--pid", type=_number(2**31), help="the gateway's supervisor, to measure its memory")
    add("--source", default="127.0.0.9", metavar="ADDRESS", help="attack from, default 127.0.0.9")
    return parser


def _number(most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {most}")
        return int(text)

    return number


if __name__ == "__main__":
    sys.exit(main())
