"""What watching costs: echo calls with the console open and metrics scraped, and without, by turns.

    python -m loadtest.console_overhead                    against a gateway of its own
    python -m loadtest.console_overhead --pid PID --port 4000 --console-port 4001

Each pair is one run with a listener on the live view and a scrape of the metrics each second, and
one without, in alternating order; calls per core are those of all the gateway's processes, the
console's own work included. Medians are compared: on a shared machine single runs differ by more.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from loadtest.errors import LoadTestError
from loadtest.fault_rows.gateway import running_gateway

SIMULATOR = Path(__file__).with_name("twilio_sim.py")
SCRAPE_EVERY_S = 1.0
TIMEOUT_S = 10.0
READY_S_MAX = 60
FRAMES_PER_SECOND = 50
#: A run that was cut short, or refused in part, says nothing of the cost of a call.
WHOLE = 0.9
ATTEMPTS = 4
#: Room for the calls of one run while those of the run before are still being closed.
ROOM = 1.5


@dataclasses.dataclass(frozen=True)
class Server:
    """Where the gateway is: its ports on this machine, its supervisor's process."""

    port: int
    console_port: int
    pid: int

    @property
    def url(self) -> str:
        """Where it is called."""
        return f"ws://127.0.0.1:{self.port}/"

    @property
    def console(self) -> str:
        """Where it is looked at."""
        return f"http://127.0.0.1:{self.console_port}"


@contextlib.contextmanager
def watching(console: str) -> Iterator[None]:
    """Follow the live view and scrape the metrics once a second."""
    over = threading.Event()

    def follow() -> None:
        with (
            contextlib.suppress(TimeoutError),
            urllib.request.urlopen(f"{console}/api/live", timeout=TIMEOUT_S) as stream,
        ):
            while not over.is_set() and stream.readline():
                pass

    def scrape() -> None:
        while not over.wait(SCRAPE_EVERY_S):
            with urllib.request.urlopen(f"{console}/metrics", timeout=TIMEOUT_S) as answer:
                answer.read()

    threads = [threading.Thread(target=work) for work in (follow, scrape)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def wait_until_ready(console: str) -> None:
    """After a run on a busy machine the gateway may take no call for some seconds."""
    for _ in range(READY_S_MAX):
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{console}/readyz"):
            return
        time.sleep(1)
    raise LoadTestError(f"{console}/readyz does not say that a call can be taken")


def calls_per_core(server: Server, given: argparse.Namespace) -> float:
    """One run of the simulator. Raises LoadTestError when it could not measure."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, str(SIMULATOR), "--url", server.url, "--scenario", "echo"]
        command += ["--calls", str(given.calls), "--seconds", str(given.seconds)]
        command += ["--pid", str(server.pid), "--json", str(report)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if not report.exists():
            raise LoadTestError(run.stdout + run.stderr)
        figures = json.loads(report.read_text())
    due = given.calls * given.seconds * FRAMES_PER_SECOND
    if figures["frames_received"] < due * WHOLE:
        raise LoadTestError(f"only {figures['frames_received']} of {due} frames came back")
    return float(figures["server"]["calls_per_core"])


def measured(server: Server, given: argparse.Namespace, *, watched: bool) -> float:
    """One run that is worth something; the LoadTestError of the last attempt otherwise."""
    for attempt in range(ATTEMPTS):
        wait_until_ready(server.console)
        try:
            with watching(server.console) if watched else contextlib.nullcontext():
                return calls_per_core(server, given)
        except LoadTestError:
            if attempt == ATTEMPTS - 1:
                raise
    raise AssertionError("not reached")


def compare(server: Server, given: argparse.Namespace) -> dict[str, float]:
    """Medians of both, and how much watching costs, in percent."""
    found: dict[bool, list[float]] = {True: [], False: []}
    for pair in range(given.pairs):
        for watched in (bool(pair % 2), not pair % 2):
            found[watched].append(measured(server, given, watched=watched))
        sys.stdout.write(
            f"pair {pair + 1} of {given.pairs}: {found[True][-1]:.1f} calls a core watched, "
            f"{found[False][-1]:.1f} not\n"
        )
        sys.stdout.flush()
    with_console, alone = median(found[True]), median(found[False])
    return {
        "calls_per_core_watched": with_console,
        "calls_per_core_not_watched": alone,
        "cost_percent": round((1 - with_console / alone) * 100, 1),
    }


@contextlib.contextmanager
def reached(given: argparse.Namespace) -> Iterator[Server]:
    """The gateway that was named, or one that is started for this and gone afterwards."""
    if given.pid is not None:
        yield Server(given.port, given.console_port, given.pid)
        return
    flags = ("--workers", str(given.workers), "--responder", "echo")
    room = ("--calls-per-worker", str(round(given.calls * ROOM / given.workers)))
    with (
        tempfile.TemporaryDirectory() as folder,
        running_gateway(Path(folder) / "gateway", flags + room, {}) as gateway,
    ):
        yield Server(gateway.port, gateway.console_port, gateway.pid)


def verdict(figures: dict[str, float], given: argparse.Namespace) -> str:
    """One sentence: what it costs, and whether that is allowed."""
    within = figures["cost_percent"] <= given.percent_max
    return (
        f"{'ok' if within else 'FAIL'}: {given.calls} calls with the console open and metrics "
        f"scraped each second: {figures['calls_per_core_watched']:.1f} calls a core, without: "
        f"{figures['calls_per_core_not_watched']:.1f}; costs {figures['cost_percent']:.1f} % "
        f"({given.percent_max:g} % are allowed; medians of {given.pairs})\n"
    )


def main() -> int:
    """Exit status 0, 1 when it costs more than allowed, 2 when it could not be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.console_overhead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pid", type=int, help="the supervisor of a gateway that runs [start one]")
    parser.add_argument("--port", type=int, default=4000)
    parser.add_argument("--console-port", type=int, default=4001)
    parser.add_argument("--workers", type=int, default=1, help="of a gateway that is started")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--percent-max", type=float, default=5.0)
    given = parser.parse_args()
    try:
        with reached(given) as server:
            figures = compare(server, given)
    except LoadTestError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(verdict(figures, given))
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")
    return int(figures["cost_percent"] > given.percent_max)


if __name__ == "__main__":
    sys.exit(main())
