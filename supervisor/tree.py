"""The shell around the policy: fork, watch, signal, reap.

One thread, no event loop library: an epoll over the signal pipe and a pidfd a child, and a tick
every 50 or 100 ms that shows the board to the policy. The policy answers with actions; there is
one method here for each, and one for each signal.

Fork, not spawn: a child shares the arenas and the board as inherited mappings, nothing has a
name, and it is running 4 ms later. What makes that safe is that this process never has a second
thread (checked before every fork: a lock held by another thread at that moment would stay locked
in the child for ever) and that a child keeps no descriptor but those its spec names: one that
kept a sibling's listener would hold callers in a queue that nobody serves any more.

Children are waited for by pid, never "any child": whatever else this process may have started is
not ours to reap.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import logging
import os
import random
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import singledispatchmethod
from typing import NoReturn

from supervisor.child import Event
from supervisor.policy import (
    NOBODY,
    Action,
    Assign,
    Finish,
    GiveUp,
    Kill,
    Park,
    Policy,
    Ready,
    Serving,
    Sighting,
    Signal,
    Slow,
    Spawn,
)
from supervisor.scoreboard import Field, Phase, Row, Scoreboard
from supervisor.signals import SignalInbox, held_back, reset_in_child
from supervisor.spec import ChildSpec, StopPolicy

TICK_S = 0.1
TICK_STARTING_S = 0.05

#: Exit status of a child whose main raised, and of one that could not be forked.
EXIT_CRASHED = 1

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

#: By the board's number: a child may have written any.
_SAYS: dict[int, Event] = {Phase.READY: Event.READY, Phase.DRAINING: Event.DRAIN}

log = logging.getLogger("supervisor")


def _nothing() -> None:
    """No one wants to know."""


def _nothing_slow(child: str, waited_ms: int) -> None:
    """No one wants to know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run: the children, the board they share, and whom to tell.

    ``dsp_wake_fds[i]`` is the event fd that wakes DSP process ``i``. ``on_serving`` is called
    once, when everything is ready; ``on_slow`` with the name and the milliseconds waited when a
    child takes long to start.
    """

    specs: tuple[ChildSpec, ...]
    board: Scoreboard
    dsp_wake_fds: tuple[int, ...] = ()
    stop: StopPolicy = field(default_factory=StopPolicy)
    on_serving: Callable[[], None] = _nothing
    on_slow: Callable[[str, int], None] = _nothing_slow


@dataclass(frozen=True, slots=True)
class _Process:
    """A running child: to be waited for by ``pid``, which ``pidfd`` says when to do."""

    name: str
    pid: int
    pidfd: int


class Tree:
    """Runs a plan until it ends; one a process, from its only thread."""

    def __init__(self, plan: Plan) -> None:
        if not __debug__:
            raise RuntimeError("the supervisor relies on assertions: run Python without -O")
        self._plan = plan
        self._specs = {spec.name: spec for spec in plan.specs}
        self._rows = {spec.name: plan.board.row(spec.kind, spec.index) for spec in plan.specs}
        self._policy = Policy(plan.specs, plan.board.arenas, plan.stop, time.monotonic_ns())
        self._processes: dict[str, _Process] = {}
        self._unborn: list[str] = []
        self._epoll = select.epoll()
        self._status: int | None = None
        self._on_signal = {
            signal.SIGTERM: self.on_sigterm,
            signal.SIGINT: self.on_sigint,
            signal.SIGHUP: self.on_sighup,
        }

    def run(self, inbox: SignalInbox) -> int:
        """Run every child until a signal or the policy ends it; returns the exit status."""
        gc.freeze()  # what is here now is shared with every child: do not write into its pages
        with self._epoll:
            self._epoll.register(inbox.fileno(), select.EPOLLIN)
            self._hear(inbox)
            self._do(self._policy.start(time.monotonic_ns()))
            while self._status is None:
                self._wait(inbox)
                self._tick()
        return self._status

    def on_sigterm(self) -> None:
        """Drain; the second time: now."""
        log.info("stopping signal=SIGTERM drain_ms=%d", self._plan.stop.drain_timeout_ms)
        self._do(self._policy.on_stop(time.monotonic_ns(), fast=False))

    def on_sigint(self) -> None:
        """Stop with little patience; the second time: now."""
        log.info("stopping signal=SIGINT timeout_ms=%d", self._plan.stop.fast_timeout_ms)
        self._do(self._policy.on_stop(time.monotonic_ns(), fast=True))

    def on_sighup(self) -> None:
        """Nothing is reloaded."""
        log.info("ignored signal=SIGHUP note='settings are read at start only'")

    def _wait(self, inbox: SignalInbox) -> None:
        tick_s = TICK_STARTING_S if self._policy.starting else TICK_S
        ready = {fd for fd, _ in self._epoll.poll(tick_s)}
        if inbox.fileno() in ready:
            self._hear(inbox)
        for process in [p for p in self._processes.values() if p.pidfd in ready]:
            self._reap(process)

    def _hear(self, inbox: SignalInbox) -> None:
        for signum in inbox.read():
            self._on_signal[signal.Signals(signum)]()

    def _tick(self) -> None:
        unborn, self._unborn = self._unborn, []
        for name in unborn:
            self._on_exit(name, EXIT_CRASHED)
        sightings = {name: _sighting(self._rows[name]) for name in self._processes}
        self._do(self._policy.tick(sightings, time.monotonic_ns()))

    def _reap(self, process: _Process) -> None:
        pid, wait_status = os.waitpid(process.pid, os.WNOHANG)
        if pid == 0:
            return
        status = os.waitstatus_to_exitcode(wait_status)
        self._epoll.unregister(process.pidfd)
        os.close(process.pidfd)
        del self._processes[process.name]
        log.info("exited child=%s pid=%d status=%d", process.name, pid, status)
        self._on_exit(process.name, status)

    def _on_exit(self, name: str, status: int) -> None:
        self._rows[name].leave()
        jitter = random.uniform(-1, 1)
        self._do(self._policy.on_exit(name, status, time.monotonic_ns(), jitter))

    def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            self._carry_out(action)

    @singledispatchmethod
    def _carry_out(self, action: Action) -> None:
        raise AssertionError(f"nobody carries out {action}")

    @_carry_out.register
    def _(self, action: Spawn) -> None:
        spec, row = self._specs[action.child], self._rows[action.child]
        row.take(0, time.monotonic_ns())  # the child writes its own pid: it may be faster than us
        if action.again:
            row.count("restarts")
        try:
            process = _fork(spec, row)
        except OSError as error:
            log.error("cannot_fork child=%s error='%s'", spec.name, error)  # noqa: TRY400
            self._unborn.append(spec.name)
            return
        self._processes[spec.name] = process
        self._epoll.register(process.pidfd, select.EPOLLIN)
        log.info("started child=%s pid=%d", spec.name, process.pid)

    @_carry_out.register
    def _(self, action: Signal) -> None:
        self._send(action.child, action.signum)

    @_carry_out.register
    def _(self, action: Kill) -> None:
        log.error("killing child=%s reason='%s'", action.child, action.reason)
        self._send(action.child, signal.SIGKILL)

    @_carry_out.register
    def _(self, action: Park) -> None:
        log.error("parked child=%s note='it crashed too often and is not restarted'", action.child)
        self._rows[action.child].set(Field.PHASE, Phase.PARKED)

    @_carry_out.register
    def _(self, action: Assign) -> None:
        self._plan.board.assign(action.arena, action.dsp)
        if action.dsp != NOBODY:
            log.info("assigned arena=%d dsp=%d", action.arena, action.dsp)
            os.eventfd_write(self._plan.dsp_wake_fds[action.dsp], 1)

    @_carry_out.register
    def _(self, action: Ready) -> None:
        log.info("ready child=%s took_ms=%d", action.child, action.took_ms)

    @_carry_out.register
    def _(self, action: Slow) -> None:
        self._plan.on_slow(action.child, action.waited_ms)

    @_carry_out.register
    def _(self, action: Serving) -> None:
        self._plan.on_serving()

    @_carry_out.register
    def _(self, action: GiveUp) -> None:
        log.error("giving_up status=%d reason='%s'", action.status, action.sentence)

    @_carry_out.register
    def _(self, action: Finish) -> None:
        log.info("stopped status=%d", action.status)
        self._status = action.status

    def _send(self, name: str, signum: int) -> None:
        process = self._processes.get(name)
        if process is not None:  # it is not there when it could not be forked
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(process.pidfd, signum)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads any more: no reason not to go on
            stream.flush()


def _sighting(row: Row) -> Sighting:
    return Sighting(row.get(Field.HEARTBEAT_NS), _SAYS.get(row.get(Field.PHASE)))


def _fork(spec: ChildSpec, row: Row) -> _Process:
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
        return _Process(spec.name, pid, os.pidfd_open(pid))
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
    if spec.nice:
        os.nice(spec.nice)
    os.environ.update(spec.environment)


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
