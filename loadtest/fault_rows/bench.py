"""What all rows are made of: a gateway of a given size, and calls that are up meanwhile."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from loadtest import director
from loadtest.analysis import CallResult
from loadtest.errors import LoadTestError, NoServerError
from loadtest.fault_rows.bare import BareServer
from loadtest.fault_rows.checks import Check
from loadtest.fault_rows.gateway import Gateway, running_gateway
from loadtest.options import DEFAULT_AUDIO, Options, parse_options
from loadtest.schedule import NS_PER_SECOND, make_schedule

CLIP = DEFAULT_AUDIO / "cards-001.wav"
DRAIN_TIMEOUT_MS = 30_000
START_SECONDS = 60.0

_seeds = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Bench:
    """How large a row is: calls that are up all the time, and the gateway's processes.

    ``brief``: no longer than it takes to see that calls and order are right.
    """

    folder: Path
    calls: int = 100
    workers: int = 4
    dsp_processes: int = 2
    brief: bool = False
    _rows: Iterator[int] = field(default_factory=itertools.count)

    def seconds(self, full: float, brief: float) -> float:
        """How long something takes, by the size of the row."""
        return brief if self.brief else full

    def gateway(self, *flags: str, **settings: str) -> AbstractContextManager[Gateway]:
        """A gateway that echoes; flags and settings besides its size."""
        sized = ("--workers", str(self.workers), "--dsp-processes", str(self.dsp_processes))
        given = {"RESPONDER": "echo", "DRAIN_TIMEOUT_MS": str(DRAIN_TIMEOUT_MS)} | settings
        folder = self.folder / f"gateway-{next(self._rows)}"
        return running_gateway(folder, (*sized, *flags), given)

    def steady(self, gateway: Gateway, seconds: float) -> Traffic:
        """The row's calls, all up for that long."""
        ramp = min(1.0, self.calls / 100)
        return Traffic(gateway, self.calls, "--seconds", f"{seconds}", "--ramp", f"{ramp}")

    def at_once(self, gateway: Gateway | BareServer, seconds: float) -> Traffic:
        """The row's calls, which all connect in the same moment."""
        processes = ("--processes", "2")
        return Traffic(gateway, self.calls, "--seconds", f"{seconds}", *processes)

    def arriving(self, gateway: Gateway, rate: float, seconds: float, hold: float = 1.0) -> Traffic:
        """New calls all the time, at an even rate; each is short."""
        calls = max(1, round(rate * seconds))
        return Traffic(gateway, calls, "--hold", f"{hold}", "--ramp", f"{seconds}")


@dataclass(frozen=True, slots=True)
class Row:
    """One fault: how it is called, what must hold, and the function that does it."""

    name: str
    fault: str
    required: str
    run: Callable[[Bench], Sequence[Check]]


class Traffic:
    """Calls made by client processes, while this process does something to the gateway."""

    def __init__(self, gateway: Gateway | BareServer, calls: int, *arguments: str) -> None:
        size = ["--url", gateway.url, "--calls", str(calls), "--audio", str(CLIP)]
        self.options: Options = parse_options([*size, "--seed", str(next(_seeds)), *arguments])
        self._begun = threading.Event()
        self._start_ns = 0
        self._results: Sequence[CallResult] = ()
        self._error: LoadTestError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def start_ns(self) -> int:
        """When the run began or will; waits for the client processes."""
        if not self._begun.wait(START_SECONDS) or not self._start_ns:
            raise self._error or LoadTestError("the client processes did not start")
        return self._start_ns

    def wait(self, seconds: float) -> None:
        """Until so long after the last of them has connected."""
        wait_until(self.start_ns + round((self.options.ramp + seconds) * NS_PER_SECOND))

    def wait_for_a_lull(self) -> None:
        """Until the middle between two connects: what is seen now is not changed by the next."""
        apart_ns = round(self.options.ramp * NS_PER_SECOND) // self.options.calls
        start_ns = self.start_ns  # first of all: it may have to be waited for
        since_ns = time.monotonic_ns() - start_ns
        wait_until(start_ns + (since_ns // apart_ns + 1) * apart_ns + apart_ns // 2)

    def results(self) -> Sequence[CallResult]:
        """Wait for the end of the calls; what became of each. Raises LoadTestError."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results

    def _run(self) -> None:
        try:
            self._results = director.run(self.options, shown=False, on_start=self._begin).results
        except NoServerError as error:
            self._results = self._all_refused(str(error))
        except LoadTestError as error:
            self._error = error
        finally:
            self._begun.set()

    def _all_refused(self, reason: str) -> Sequence[CallResult]:
        """Not one call came through: that ends a load test, but here it is a result."""
        plans = make_schedule(self.options.seed, self.options.calls, 1, self.options.ramp).calls
        return [
            CallResult(
                index=plan.index,
                connected=False,
                failure=reason,
                connect_ns=self.start_ns + plan.connect_ns,
            )
            for plan in plans
        ]

    def _begin(self, start_ns: int) -> None:
        self._start_ns = start_ns
        self._begun.set()


def wait_until(at_ns: int) -> None:
    """Sleep until then."""
    time.sleep(max(0, at_ns - time.monotonic_ns()) / NS_PER_SECOND)
