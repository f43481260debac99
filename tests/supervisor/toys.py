"""Toy mains for the process tests: each is a child with one way to behave or to misbehave."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

from supervisor.handover import receive
from supervisor.kinds import RETIRE
from supervisor.scoreboard import Field, Phase, Row, Scoreboard, counts

BEAT_S = 0.02


class _Told:
    """True once SIGTERM or RETIRE has arrived."""

    def __init__(self) -> None:
        self._told = False
        signal.signal(signal.SIGTERM, self._tell)
        signal.signal(RETIRE, self._tell)

    def __bool__(self) -> bool:
        return self._told

    def _tell(self, signum: int, frame: object) -> None:
        self._told = True


def _beat(row: Row) -> None:
    row.beat(time.monotonic_ns())
    time.sleep(BEAT_S)


def serves(*, row: Row, drains_s: float = 0.0) -> int:
    """Takes one call, beats until SIGTERM, then drains for a while."""
    told = _Told()
    if counts(row.name.kind, "calls"):
        row.count("calls")
    row.set(Field.CALLS, 1)
    row.ready()
    while not told:
        _beat(row)
    row.set(Field.PHASE, Phase.DRAINING)
    end = time.monotonic() + drains_s
    while time.monotonic() < end:
        _beat(row)
    return 0


def serves_as(*, row: Row, colour: str, gone_at: str = "") -> int:
    """Serves, unless its colour is ``gone_at``: then its configuration cannot work."""
    if colour == gone_at:
        return exits_with(row=row, status=2)
    return serves(row=row)


def answers(
    *, row: Row, board: Scoreboard, listener: socket.socket, handover_rx: socket.socket
) -> int:
    """Tells every caller its place and hangs up; takes from its listener and what is handed over.

    It ends with SIGTERM, after a last look.
    """
    told = _Told()
    row.set(Field.CAPACITY, 1_000)
    row.set(Field.ADMITS, 1)
    row.ready()
    last = False
    while not last:
        last = bool(told)
        row.beat(time.monotonic_ns())
        select.select([listener, handover_rx], [], [], BEAT_S)
        with suppress(BlockingIOError):
            while True:
                _answer(row, listener.accept()[0])
        while (datagram := receive(handover_rx)) is not None:
            board.count_got(row.name.index)
            _answer(row, socket.socket(fileno=datagram.fd))
    return 0


def _answer(row: Row, caller: socket.socket) -> None:
    with caller:
        caller.sendall(b"%d" % row.name.index)


def serves_while_needed(*, row: Row, alive_fd: int) -> int:
    """As ``serves``, but also ends with the end of file of ``alive_fd``."""
    told = _Told()
    row.ready()
    while not told:
        row.beat(time.monotonic_ns())
        if select.select([alive_fd], [], [], BEAT_S)[0]:
            return 0
    return 0


def crashes(*, row: Row) -> int:
    """Raises before it is ready."""
    raise RuntimeError(f"{row.name.kind} fell over")


def hangs_once(*, row: Row) -> int:
    """Its first process is ready and then silent; its successor serves."""
    if row.counter("restarts"):
        return serves(row=row)
    row.ready()
    time.sleep(600)
    return 0


def never_ready_once(*, row: Row) -> int:
    """Its first process does not get ready; its successor serves."""
    if row.counter("restarts"):
        return serves(row=row)
    while True:
        _beat(row)


def exits_with(*, row: Row, status: int) -> int:
    """Says why it cannot work and exits at once."""
    sys.stderr.write(f"{row.name.kind} cannot find its model\n")
    return status


def raises_exit(*, row: Row, code: int | str | None) -> int:
    """Leaves by SystemExit, as command-line libraries do, once the test has seen it alive."""
    row.ready()
    raise SystemExit(code)


def returns_nothing(*, row: Row) -> None:
    """Forgets to return an exit status."""
    row.ready()


def ignores_sigterm(*, row: Row) -> int:
    """Beats for ever."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(RETIRE, signal.SIG_IGN)
    row.ready()
    while True:
        _beat(row)


def writes_nonsense(*, row: Row) -> int:
    """Puts a phase on the board that does not exist, then serves."""
    row.set(Field.PHASE, 4711)
    time.sleep(0.1)
    return serves(row=row)


def describes_itself(*, row: Row, path: str) -> int:
    """Writes what it was born with to a file, then serves."""
    listed = [int(name) for name in os.listdir("/proc/self/fd")]
    fds = sorted(fd for fd in listed if os.path.exists(f"/proc/self/fd/{fd}"))  # not the listing
    ignored = next(
        int(line.split()[1], 16)
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("SigIgn")
    )
    facts = {
        "fds": fds,
        "nice": os.nice(0),
        "cpus": sorted(os.sched_getaffinity(0)),
        "colour": os.environ.get("COLOUR"),
        "ignores": [int(s) for s in signal.Signals if ignored >> (s - 1) & 1],
        "blocked": sorted(int(s) for s in signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    }
    Path(path).write_text(json.dumps(facts))
    return serves(row=row)


def stands_in(*, row: Row, **given: object) -> int:
    """Any main of the gateway: every descriptor it was given must be open; then serves."""
    for name, value in given.items():
        if name.endswith(("_fd", "_fds")):
            for fd in value if isinstance(value, tuple) else (value,):
                os.fstat(fd)
    for end in (given.get("handover_rx"), *given.get("handover_tx", ())):  # type: ignore[misc]
        assert end is None or end.family is socket.AF_UNIX
    listener = given.get("listener")
    if isinstance(listener, socket.socket):
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return serves(row=row)
