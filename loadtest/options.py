"""The command line, validated into one frozen object."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from typing_extensions import override

from loadtest.encodings import ENCODINGS
from loadtest.errors import UsageError
from loadtest.network import Weather
from loadtest.scenario import SCENARIOS
from loadtest.slo import Slo, parse_slo
from loadtest.wires import WIRES, Wire, make_wire

CALLS_MAX = 20_000
SECONDS_MAX = 24 * 3600
PROCESSES_MAX = 64
PERCENT_MAX = 50
DEFAULT_AUDIO = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "clips" / "en"


@dataclass(frozen=True, slots=True)
class Options:
    """What the run is to do."""

    url: str
    calls: int
    seconds: float
    ramp: float
    hold: float | None
    scenario: str
    audio: Path
    processes: int
    pid: int | None
    seed: int
    json: Path | None
    slos: tuple[Slo, ...]
    save_heard: Path | None
    wire: Wire
    weather: Weather
    parameters: tuple[tuple[str, str], ...]


class _Parser(argparse.ArgumentParser):
    @override
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (--help lists the options)")


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line; raises UsageError."""
    given = _parser().parse_args(arguments)
    if urlsplit(given.url).scheme not in ("ws", "wss") or not urlsplit(given.url).hostname:
        raise UsageError(f"--url must be ws://HOST[:PORT]/ or wss://..., not {given.url!r}")
    if not given.audio.exists():
        raise UsageError(f"--audio {given.audio} does not exist")
    seconds = given.hold or given.seconds or SCENARIOS[given.scenario].seconds
    return Options(
        url=given.url,
        calls=given.calls,
        seconds=seconds,
        ramp=given.ramp,
        hold=given.hold,
        scenario=given.scenario,
        audio=given.audio,
        processes=min(given.processes, given.calls),
        pid=given.pid,
        seed=given.seed,
        json=given.json,
        slos=tuple(given.slo),
        save_heard=given.save_heard,
        wire=make_wire(given.wire, given.encoding, given.answer),
        weather=_weather(given),
        parameters=tuple(given.parameter),
    )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="twilio_sim.py",
        description="Simulated callers over real WebSockets; measures what they got back.",
        epilog="Exit status: 0; 1 when an --slo is missed, a frame was lost, reordered or "
        "duplicated, or a call was disconnected; 2 for a usage error or no server.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--url", required=True, help="where carriers connect, e.g. ws://127.0.0.1:4000/")
    add("--calls", type=_count(CALLS_MAX), default=1, metavar="N", help="default 1")
    length = parser.add_mutually_exclusive_group().add_argument
    length("--seconds", type=_seconds, metavar="S", help="how long calls last (after the ramp)")
    length(
        "--hold", type=_seconds, metavar="S", help="each call lasts S seconds from its own start"
    )
    add("--ramp", type=_seconds_or_none, default=0.0, metavar="S", help="connect over S seconds")
    add("--scenario", choices=SCENARIOS, default="echo", help="default echo")
    add("--audio", type=Path, default=DEFAULT_AUDIO, metavar="FILE|DIR", help="WAV recordings")
    add("--processes", type=_count(PROCESSES_MAX), default=1, metavar="N", help="to make calls")
    add("--pid", type=_count(2**31), help="the server's supervisor, to measure its cost")
    add("--seed", type=int, default=1, metavar="N", help="default 1")
    add("--json", type=Path, metavar="FILE", help="write the figures there")
    add(
        "--slo",
        type=_slo,
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="a limit, e.g. rtt_ms.p99=40; names are those of the JSON",
    )
    add("--save-heard", type=Path, metavar="DIR", help="write what each caller heard there")
    add("--wire", choices=WIRES, default="twilio", help="default twilio")
    add("--encoding", choices=ENCODINGS, help="what a Telnyx caller speaks, default PCMU")
    add("--answer", choices=ENCODINGS, help="what the gateway answers Telnyx in, default PCMU")
    add(
        "--reorder", type=_percent, default=0.0, metavar="PERCENT", help="frames overtaken (Telnyx)"
    )
    add("--loss", type=_percent, default=0.0, metavar="PERCENT", help="frames lost on the way")
    add(
        "--parameter",
        type=_parameter,
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        help="custom parameters of every call",
    )
    return parser


def _count(most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {most}")
        return int(text)

    return number


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of percent") from error
    if not 0 <= value <= PERCENT_MAX:
        raise argparse.ArgumentTypeError(f"must be 0 to {PERCENT_MAX} percent")
    return value


def _weather(given: argparse.Namespace) -> Weather:
    if given.reorder and given.wire != "telnyx":
        raise UsageError(f"--reorder is for --wire telnyx: nothing overtakes on {given.wire}")
    return Weather(given.reorder, given.loss)


def _seconds(text: str) -> float:
    value = _seconds_or_none(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be more than 0 seconds")
    return value


def _seconds_or_none(text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from error
    if not 0 <= value <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"must be 0 to {SECONDS_MAX} seconds")
    return value


def _slo(text: str) -> Slo:
    try:
        return parse_slo(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parameter(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
