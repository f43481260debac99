"""One client process: makes its share of the calls, then judges them.

One timer drives all calls: every millisecond it sends the frames that have come due, from a heap
ordered by due time. (A timer or a task for each frame costs more than the frame.) During the run a
call costs one ``send`` and one JSON parse for each frame; the garbage collector is off.

The process speaks to the director over a pipe: ``Ready``, then ``Progress`` every second, ``Over``
when the calls have ended, and ``Share`` (the results) or ``Failed``. These messages are small and
the director always reads, so sending them from the loop does not block it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import uvloop

from loadtest.analysis import CallResult, Study, judge
from loadtest.caller import Caller, Line
from loadtest.errors import LoadTestError, NoServerError
from loadtest.heard import save_heard
from loadtest.network import Network
from loadtest.options import Options
from loadtest.peer import ConnectError
from loadtest.scenario import SCENARIOS, Scenario
from loadtest.schedule import FRAME_NS, NS_PER_MS, NS_PER_SECOND, Schedule, make_schedule

TICK_SECONDS = 0.001
PROGRESS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Ready:
    """The material is made; waiting for the start."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a process stands; ``late_ms`` is the worst lateness since the last report."""

    calls_up: int
    frames_out: int
    frames_in: int
    late_ms: float


@dataclass(frozen=True, slots=True)
class Over:
    """All calls of the process have ended; it begins to judge them."""


@dataclass(frozen=True, slots=True)
class Share:
    """The results of a process's calls, and the CPU it used in the steady window."""

    results: Sequence[CallResult]
    cpu_percent: float


@dataclass(frozen=True, slots=True)
class Failed:
    """The process could not do its part; the sentence says why.

    ``nobody``: not one of its calls could be connected.
    """

    sentence: str
    nobody: bool = False


def main(options: Options, part: int, pipe: Connection) -> None:
    """Body of a client process; ``part`` of ``options.processes``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the director's business
    try:
        generator = Generator(options, part, pipe)
        pipe.send(Ready())
        start_ns = int(pipe.recv())
        uvloop.run(generator.run(start_ns))
        pipe.send(Over())
        share = generator.judge(start_ns)
    except LoadTestError as error:
        pipe.send(Failed(str(error), isinstance(error, NoServerError)))
    except (EOFError, BrokenPipeError):
        pass  # the director is gone, and with it the reason to go on
    else:
        pipe.send(share)


class Generator:
    """Runs the calls of one process. Raises UsageError when the material cannot be made."""

    def __init__(self, options: Options, part: int, pipe: Connection) -> None:
        self._options = options
        self._pipe = pipe
        self._wire = options.wire
        self._scenario: Scenario = SCENARIOS[options.scenario](
            self._wire, options.audio, options.seed
        )
        self._schedule: Schedule = make_schedule(
            options.seed, options.calls, options.seconds, options.ramp, options.hold
        )
        self._plans = self._schedule.calls[part :: options.processes]
        self._callers: list[Caller] = []
        self._due: list[tuple[int, int, Caller]] = []
        self._late_ns = 0
        self._steady = [(0, 0), (0, 0)]

    async def run(self, start_ns: int) -> None:
        """Make the calls from ``start_ns`` on; raises NoServerError."""
        self._callers = [self._caller(index, start_ns) for index in range(len(self._plans))]
        self._due = [(c.first_ns, c.plan.index, c) for c in self._callers]
        heapq.heapify(self._due)
        for edge, at_ns in enumerate((self._schedule.steady_from_ns, self._schedule.steady_to_ns)):
            delay = max(0, start_ns + at_ns - time.monotonic_ns()) / NS_PER_SECOND
            asyncio.get_running_loop().call_later(delay, self._read_cpu, edge)
        with _no_collector():
            self._tick()
            reporter = asyncio.create_task(self._report())
            try:
                await self._calls()
            finally:
                reporter.cancel()
                self._due.clear()
        if self._steady[1] == (0, 0):  # all callers have hung up before the end of the window
            self._read_cpu(1)

    def judge(self, start_ns: int) -> Share:
        """The results of the calls that were made."""
        schedule, options = self._schedule, self._options
        study = Study(
            self._scenario,
            self._wire,
            start_ns + schedule.steady_from_ns,
            start_ns + schedule.steady_to_ns,
        )
        if options.save_heard is not None:
            for caller in self._callers:
                save_heard(options.save_heard, caller, self._wire)
        return Share([judge(caller, study) for caller in self._callers], self._cpu_percent())

    def _caller(self, index: int, start_ns: int) -> Caller:
        plan = self._plans[index]
        stream = self._wire.open_stream(plan, dict(self._options.parameters))
        network = Network(self._options.weather, f"network:{self._options.seed}:{plan.index}")
        line = Line(self._options.url, self._wire, stream, self._scenario.echoes, network)
        return Caller(plan, start_ns, line, self._scenario.behaviour(plan))

    async def _calls(self) -> None:
        """Run all calls to their end; give up at once when there is nobody to call."""
        tasks = [asyncio.create_task(caller.run()) for caller in self._callers]
        reason = ""
        try:
            for next_done in asyncio.as_completed(tasks):
                try:
                    await next_done
                except ConnectError as error:
                    reason = str(error)
                    if not error.reachable and not self._any_opened():
                        break
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if not self._any_opened():
            reason = reason or next((c.record.failure for c in self._callers), "")
            raise NoServerError(f"no call could be made to {self._options.url}: {reason}")

    def _any_opened(self) -> bool:
        return any(caller.record.opened_ns for caller in self._callers)

    def _tick(self) -> None:
        """Send every frame that is due; come back in a millisecond."""
        now_ns = time.monotonic_ns()
        due = self._due
        if due and now_ns - due[0][0] > self._late_ns:
            self._late_ns = now_ns - due[0][0]
        while due and due[0][0] <= now_ns:
            due_ns, index, caller = due[0]
            if caller.send_due(now_ns):
                heapq.heapreplace(due, (due_ns + FRAME_NS, index, caller))
            else:
                heapq.heappop(due)
        if due:
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            self._pipe.send(
                Progress(
                    calls_up=sum(c.up for c in self._callers),
                    frames_out=sum(c.record.sent for c in self._callers),
                    frames_in=sum(len(c.record.audio) for c in self._callers)
                    // self._wire.frame_bytes,
                    late_ms=self._late_ns / NS_PER_MS,
                )
            )
            self._late_ns = 0

    def _read_cpu(self, edge: int) -> None:
        self._steady[edge] = (time.monotonic_ns(), time.process_time_ns())

    def _cpu_percent(self) -> float:
        (from_ns, used_before), (to_ns, used_after) = self._steady
        return 100 * (used_after - used_before) / (to_ns - from_ns) if from_ns else 0.0


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
