"""How a child is born: forked, given what its spec names and nothing else, and run.

Fork, not spawn: a child shares the arenas and the board as inherited mappings, nothing has a
name, and it is running 4 ms later. What makes that safe is that this process never has a second
thread (checked before every fork: a lock held by another thread at that moment would stay locked
in the child for ever) and that a child keeps no descriptor but those its spec names: one that
kept a sibling's listener would hold callers in a queue that nobody serves any more.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import os
import signal
import sys
import traceback
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from supervisor.scoreboard import Field, Row
from supervisor.signals import held_back, reset_in_child
from supervisor.spec import ChildSpec

#: Exit status of a child whose main raised, and of one that could not be forked.
EXIT_CRASHED = 1

_STDERR = 2
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Process:
    """A running child: to be waited for by ``pid``, which ``pidfd`` says when to do."""

    spec: ChildSpec
    pid: int
    pidfd: int

    @property
    def name(self) -> str:
        """How logs call it."""
        return self.spec.name


def fork(spec: ChildSpec, row: Row) -> Process:
    """Start a child; ``OSError`` when the system has no room for one more."""
    threads = len(os.listdir("/proc/self/task"))  # Python's own count misses native threads
    if threads != 1:
        raise RuntimeError(f"the supervisor has {threads} threads: a fork could deadlock the child")
    _flush()  # else the child would write our buffered text a second time
    parent = os.getpid()
    with held_back():
        pid = os.fork()
        if pid == 0:
            _become(spec, row, parent)
    try:
        return Process(spec, pid, os.pidfd_open(pid))
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _become(spec: ChildSpec, row: Row, parent: int) -> NoReturn:
    """In the child: be what the spec says, then end without running the parent's clean-up."""
    status = EXIT_CRASHED
    try:
        _prepare(spec, parent)
        row.set(Field.PID, os.getpid())
        status = _run_target(spec)
    except SystemExit as request:
        status = _status_of(request)
    except BaseException:  # noqa: BLE001 - nothing may climb into the parent's frames below us
        traceback.print_exc()
    finally:
        _flush()
        os._exit(status & 0xFF)


def _run_target(spec: ChildSpec) -> int:
    module, _, function = spec.target.partition(":")
    status: object = getattr(importlib.import_module(module), function)(**spec.kwargs)
    if not isinstance(status, int):
        raise TypeError(f"{spec.target} returned {status!r}, which is no exit status")
    return status


def _status_of(request: SystemExit) -> int:
    if request.code is None or isinstance(request.code, int):
        return request.code or 0
    sys.stderr.write(f"{request.code}\n")
    return EXIT_CRASHED


def _prepare(spec: ChildSpec, parent: int) -> None:
    reset_in_child()
    if spec.dies_with_parent:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before we could ask to be told
            os._exit(0)
    close_all_but(spec.keep_fds)
    faulthandler.register(signal.SIGUSR1, file=_STDERR, all_threads=True)
    _pin(spec)
    with contextlib.suppress(PermissionError):  # to go first is a privilege; without it, in turn
        os.nice(spec.nice)
    os.environ.update(spec.environment)


def _pin(spec: ChildSpec) -> None:
    if not spec.cpus:
        return
    try:
        os.sched_setaffinity(0, spec.cpus)
    except OSError as error:  # it has been taken from us since the start: go on without it
        sys.stderr.write(f"{spec.name}: cannot be pinned to {sorted(spec.cpus)}: {error}\n")


def close_all_but(keep: Collection[int]) -> None:
    """Close every descriptor of this process above 2 that is not in ``keep``.

    Python objects that own a closed one must stay referenced: their finaliser would close
    whatever has taken the number since. The parent's frames below a child's main do just that.
    """
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd not in keep:
            with suppress(OSError):  # one of them was the listing itself
                os.close(fd)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads any more: no reason not to go on
            stream.flush()
