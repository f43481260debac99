"""The parent of a run: starts the client processes, measures the server, merges and reports.

Client processes are spawned, not forked, and the director makes no calls itself: reading the
memory maps of a server's processes takes milliseconds, and no frame may wait for that.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import orjson

from loadtest import generator
from loadtest.errors import LoadTestError, NoServerError, UsageError
from loadtest.generator import Failed, Over, Progress, Ready, Share
from loadtest.heard import make_folder
from loadtest.host import (
    ServerWatch,
    available_bytes,
    host_facts,
    library_versions,
    server_cost,
)
from loadtest.options import Options, parse_options
from loadtest.progress import ProgressLine
from loadtest.recorder import recording_bytes
from loadtest.report import Measured, make_report
from loadtest.schedule import NS_PER_MS, NS_PER_SECOND, make_schedule
from loadtest.table import render

#: From "all processes are ready" to the start of the run.
LEAD_NS = 200 * NS_PER_MS
START_SECONDS_MAX = 120.0
POLL_NS = 200 * NS_PER_MS
JUDGE_SECONDS_MAX = 1800.0
EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    try:
        options = parse_options(arguments)
        _check(options)
        report = make_report(run(options))
        print(render(report))
        if options.json is not None:
            options.json.write_bytes(orjson.dumps(report.figures, option=orjson.OPT_INDENT_2))
    except (LoadTestError, OSError) as error:
        print(f"twilio_sim: {error}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        print("twilio_sim: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    return report.exit_status


def _check(options: Options) -> None:
    """Refuse what cannot work before anything is started; raises UsageError."""
    needed = recording_bytes(options.calls, options.seconds, options.wire.frame_bytes)
    if 2 * needed > (free := available_bytes()):
        raise UsageError(
            f"recording {options.calls} calls of {options.seconds:g} s may take "
            f"{needed / 2**30:.1f} GiB, more than half of the free memory "
            f"({free / 2**30:.1f} GiB); make fewer or shorter calls"
        )
    if options.save_heard is not None:
        make_folder(options.save_heard)
    if options.json is not None and not os.access(options.json.resolve().parent, os.W_OK):
        raise UsageError(f"--json {options.json}: its folder is missing or not writable")


@dataclass(slots=True)
class _Client:
    """One client process and what it has said last."""

    process: BaseProcess
    pipe: Connection
    progress: Progress = field(default_factory=lambda: Progress(0, 0, 0, 0.0))
    ready: bool = False
    over: bool = False
    share: Share | None = None


def run(
    options: Options, *, shown: bool = True, on_start: Callable[[int], None] | None = None
) -> Measured:
    """Make the run; raises UsageError or NoServerError.

    ``shown``: a terminal sees how far it is. ``on_start`` is told when the run begins, in ns of
    the monotonic clock, a moment before it does.
    """
    schedule = make_schedule(
        options.seed, options.calls, options.seconds, options.ramp, options.hold
    )
    with _clients(options) as clients:
        _until(clients, lambda c: c.ready, START_SECONDS_MAX)
        server = None
        if options.pid is not None:
            server = ServerWatch(options.pid, schedule.steady_from_ns, schedule.steady_to_ns)
        start_ns = time.monotonic_ns() + LEAD_NS
        for client in clients:
            client.pipe.send(start_ns)
        if on_start is not None:
            on_start(start_ns)
        _watch(clients, start_ns, server, shown=shown)
        shares = [client.share for client in clients if client.share is not None]
    results = sorted((r for share in shares for r in share.results), key=lambda r: r.index)
    call_seconds = sum(result.steady_seconds for result in results)
    return Measured(
        options=options,
        results=results,
        client_cpu_percent=sum(share.cpu_percent for share in shares),
        server=server_cost(server.finish(), options.calls, call_seconds) if server else None,
        versions=library_versions(),
        host=host_facts(),
    )


def _watch(
    clients: Sequence[_Client], start_ns: int, server: ServerWatch | None, *, shown: bool
) -> None:
    """Until every client has delivered: show where they stand, measure the server."""
    line = ProgressLine(shown=shown)
    try:
        while not all(client.over for client in clients):
            now_ns = time.monotonic_ns() - start_ns
            wait_ns = server.look(now_ns) if server else POLL_NS
            _listen(clients, min(wait_ns, POLL_NS) / NS_PER_SECOND)
            line.show(now_ns / NS_PER_SECOND, [client.progress for client in clients])
        if server:
            server.finish()
        line.judging()
        _until(clients, lambda c: c.share is not None, JUDGE_SECONDS_MAX)
    finally:
        line.clear()


@contextmanager
def _clients(options: Options) -> Iterator[list[_Client]]:
    """The client processes; they are gone when the block is left."""
    context = multiprocessing.get_context("spawn")
    clients = []
    try:
        for part in range(options.processes):
            ours, theirs = context.Pipe()
            arguments = (options, part, theirs)
            process = context.Process(target=generator.main, args=arguments, daemon=True)
            process.start()
            theirs.close()
            clients.append(_Client(process, ours))
        yield clients
    finally:
        for client in clients:
            client.pipe.close()
            if client.share is None:
                client.process.kill()
            client.process.join()


def _listen(clients: Sequence[_Client], seconds: float) -> None:
    """Take what the clients say within that time; raises LoadTestError when one cannot go on."""
    speaking = {client.pipe: client for client in clients if client.share is None}
    for pipe in wait(list(speaking), seconds):
        assert isinstance(pipe, Connection)
        client = speaking[pipe]
        try:
            said = pipe.recv()
        except EOFError as error:
            raise LoadTestError("a client process has died") from error
        match said:
            case Ready():
                client.ready = True
            case Progress():
                client.progress = said
            case Over():
                client.over = True
            case Share():
                client.share = said
            case Failed(sentence, nobody):
                raise NoServerError(sentence) if nobody else LoadTestError(sentence)


def _until(clients: Sequence[_Client], reached: Callable[[_Client], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not all(map(reached, clients)):
        if time.monotonic() > deadline:
            raise LoadTestError(f"the client processes took longer than {seconds:g} s")
        _listen(clients, POLL_NS / NS_PER_SECOND)
