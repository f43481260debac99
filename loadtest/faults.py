"""The command: ``python -m loadtest.faults`` does harm to a real gateway and prints what held.

Each row of the table is one fault, done to a gateway of its own with calls on it. ``--list`` names
them. ``--quick`` makes it small: whether calls and frames survive, not how fast.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

# Read when numpy is imported, here and in the client processes; see twilio_sim.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from loadtest.errors import LoadTestError
from loadtest.fault_rows import kills, loads, signals
from loadtest.fault_rows.bench import Bench, Row
from loadtest.fault_rows.checks import Check
from loadtest.host import host_facts

ROWS = {row.name: row for row in (*kills.ROWS, *signals.ROWS, *loads.ROWS)}
QUICK_CALLS = 12
CALLS_MAX = 1000
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 0, or 1 when something did not hold."""
    options = _parser().parse_args(arguments)
    if options.list:
        print("\n".join(f"{row.name:16} {row.fault}: {row.required}" for row in ROWS.values()))
        return 0
    calls = options.calls or (QUICK_CALLS if options.quick else 100)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # gateways end with us either way
    held = True
    print(heading(calls, options.workers, options.dsp_processes))
    try:
        for name in options.rows:
            with tempfile.TemporaryDirectory() as folder:
                size = (calls, options.workers, options.dsp_processes)
                checks = measure(ROWS[name], Bench(Path(folder), *size, brief=options.quick))
                print(line(ROWS[name], checks), flush=True)
                if options.logs is not None:
                    keep_logs(Path(folder), options.logs, name)
            held &= all(check.holds for check in checks)
    except KeyboardInterrupt:
        print("faults: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0 if held else EXIT_FAILED


def measure(row: Row, bench: Bench) -> Sequence[Check]:
    """Do one row; what could not be done or measured does not hold."""
    try:
        return row.run(bench)
    except LoadTestError as error:
        return [Check(str(error), holds=False)]


def heading(calls: int, workers: int, dsp_processes: int) -> str:
    """What was measured on what, and the head of the table."""
    host = host_facts()
    return (
        f"{calls} echo calls, {workers} workers, {dsp_processes} DSP processes; "
        f"{host['cpu']}, {host['cores']} cores, {host['kernel']}, Python {host['python']}\n\n"
        "| fault | must hold | measured | |\n|---|---|---|---|"
    )


def line(row: Row, checks: Sequence[Check]) -> str:
    """One row of the table (Markdown); what does not hold is in bold."""
    texts = [check.text if check.holds else f"**{check.text}**" for check in checks]
    verdict = "holds" if all(check.holds for check in checks) else "**FAILS**"
    measured = "; ".join(texts).replace("|", "\\|")
    return f"| {row.fault} | {row.required} | {measured} | {verdict} |"


def keep_logs(folder: Path, to: Path, name: str) -> None:
    """Copy the logs of a row's gateways."""
    to.mkdir(parents=True, exist_ok=True)
    for n, log in enumerate(sorted(folder.glob("*/log"))):
        (to / f"{name}-{n}.log").write_bytes(log.read_bytes())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.faults",
        description="Do harm to a real gateway under calls; print what held and what did not.",
        epilog="Exit status: 0; 1 when something did not hold; 2 for a usage error.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--rows", type=_rows, default=list(ROWS), metavar="NAME[,NAME]", help="default: all")
    add("--calls", type=_count, metavar="N", help="calls that are up, default 100")
    add("--workers", type=_count, default=4, metavar="N", help="default 4")
    add("--dsp-processes", type=_count, default=2, metavar="N", help="default 2")
    add("--quick", action="store_true", help=f"{QUICK_CALLS} calls, as short as may be")
    add("--logs", type=Path, metavar="DIR", help="keep the gateways' logs there")
    add("--list", action="store_true", help="name the rows")
    return parser


def _rows(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in ROWS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"no row {', '.join(unknown)!r}; --list names them")
    return names


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= CALLS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {CALLS_MAX}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
