"""The shell around the policy: fork, watch, signal, reap.

One thread, no event loop library: an epoll over the signal pipe, a pidfd a child and the queues
that we serve for a worker that cannot, and a tick every 50 ms that shows the board to the policy.
The policy answers with actions; there is one method here for each, and one for each signal.

Children are waited for by pid, never "any child": whatever else this process may have started is
not ours to reap.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import resource
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import singledispatchmethod
from pathlib import Path

from supervisor.actions import (
    Action,
    Assign,
    Dump,
    Finish,
    GiveUp,
    Kill,
    Park,
    Ready,
    Rest,
    RollEnded,
    RollFailed,
    Rolling,
    Serving,
    Sighting,
    Signal,
    Silent,
    Slow,
    Spawn,
    Succeed,
)
from supervisor.child import Event
from supervisor.fork import EXIT_CRASHED, Process, fork
from supervisor.kinds import WORKER
from supervisor.notify import READY, STOPPING, Notifier
from supervisor.policy import FAST_TIMEOUT_MS, Policy
from supervisor.scoreboard import Field, Phase, Row, Scoreboard
from supervisor.signals import SignalInbox
from supervisor.spec import NOBODY, ChildSpec, Crew, ReloadError
from supervisor.stand_in import StandIn

TICK_S = 0.05

#: A worker's memory is looked at this often.
WEIGH_EVERY_NS = 1_000_000_000

#: By the board's number: a child may have written any.
_SAYS: dict[int, Event] = {Phase.READY: Event.READY, Phase.DRAINING: Event.DRAIN}

log = logging.getLogger("supervisor")


def _nothing() -> None:
    """No one wants to know."""


def _nothing_slow(child: str, waited_ms: int) -> None:
    """No one wants to know."""


def _nothing_new() -> Crew:
    raise ReloadError("there are no settings to read again")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run: the workers, the other children, the board they share, and whom to tell.

    ``listeners[l]`` is what worker ``l`` serves, ``handovers[p]`` the reading and the writing end
    of place ``p``'s hand-over socket, ``dsp_wake_fds[i]`` the event fd that wakes DSP process
    ``i``. ``reload`` reads the settings again and returns the workers they make, or raises
    ``ReloadError``. ``on_serving`` is called once, when everything is ready; ``on_slow`` with the
    name and the milliseconds waited when a child takes long to start.
    """

    specs: tuple[ChildSpec, ...]
    crew: Crew
    board: Scoreboard
    listeners: tuple[socket.socket, ...] = ()
    handovers: tuple[tuple[socket.socket, socket.socket], ...] = ()
    dsp_wake_fds: tuple[int, ...] = ()
    notifier: Notifier = field(default_factory=Notifier)
    reload: Callable[[], Crew] = _nothing_new
    on_serving: Callable[[], None] = _nothing
    on_slow: Callable[[str, int], None] = _nothing_slow


class Tree:
    """Runs a plan until it ends; one a process, from its only thread."""

    def __init__(self, plan: Plan) -> None:
        if not __debug__:
            raise RuntimeError("the supervisor relies on assertions: run Python without -O")
        self._plan = plan
        self._rows = {f"{row.name.kind}-{row.name.index}": row for row in plan.board.rows()}
        now_ns = time.monotonic_ns()
        self._policy = Policy(plan.specs, plan.crew, plan.board.arenas, now_ns)
        self._processes: dict[str, Process] = {}
        self._unborn: list[str] = []
        self._weigh_at_ns = now_ns
        self._epoll = select.epoll()
        self._stand_in = StandIn(plan.board, plan.listeners, plan.handovers, self._epoll)
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
            self._stand_in.close()
        return self._status

    def on_sigterm(self) -> None:
        """Drain; the second time: now."""
        log.info("stopping signal=SIGTERM note='calls may go on for DRAIN_TIMEOUT_MS'")
        self._stop(fast=False)

    def on_sigint(self) -> None:
        """Stop with little patience; the second time: now."""
        log.info("stopping signal=SIGINT timeout_ms=%d", FAST_TIMEOUT_MS)
        self._stop(fast=True)

    def on_sighup(self) -> None:
        """Read the settings again and replace the workers one by one; bad ones change nothing."""
        if self._policy.stopping:
            log.info("ignored signal=SIGHUP note='we are stopping'")
            return
        now_ns = time.monotonic_ns()
        if self._policy.serving:  # else systemd is still to hear its first READY
            self._plan.notifier.reloading(now_ns)
        try:
            crew = self._plan.reload()
        except ReloadError as error:
            log.error("reload_refused reason='%s' note='nothing has changed'", error)  # noqa: TRY400
            if self._policy.serving:
                self._plan.notifier.tell(READY)
            return
        self._do(self._policy.on_reload(crew, now_ns))

    def _stop(self, *, fast: bool) -> None:
        self._plan.notifier.tell(STOPPING, status="Draining" if not fast else "Stopping")
        self._do(self._policy.on_stop(time.monotonic_ns(), fast=fast))

    def _wait(self, inbox: SignalInbox) -> None:
        ready = {fd for fd, _ in self._epoll.poll(TICK_S)}
        if inbox.fileno() in ready:
            self._hear(inbox)
        for process in [p for p in self._processes.values() if p.pidfd in ready]:
            self._reap(process)
        self._stand_in.serve(ready, time.monotonic_ns())

    def _hear(self, inbox: SignalInbox) -> None:
        for signum in inbox.read():
            self._on_signal[signal.Signals(signum)]()

    def _tick(self) -> None:
        unborn, self._unborn = self._unborn, []
        for name in unborn:
            self._on_exit(name, EXIT_CRASHED)
        now_ns = time.monotonic_ns()
        weigh = now_ns >= self._weigh_at_ns
        if weigh:
            self._weigh_at_ns = now_ns + WEIGH_EVERY_NS
        sightings = {
            name: _sighting(process, self._rows[name], weigh=weigh)
            for name, process in self._processes.items()
        }
        self._do(self._policy.tick(sightings, now_ns))
        self._stand_in.look(now_ns)
        self._plan.notifier.alive(now_ns)

    def _reap(self, process: Process) -> None:
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
        row, now_ns = self._rows[name], time.monotonic_ns()
        row.leave()
        if row.name.kind == WORKER:
            self._stand_in.bury(row.name.index, now_ns)
        self._do(self._policy.on_exit(name, status, now_ns, random.uniform(-1, 1)))

    def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            self._carry_out(action)

    @singledispatchmethod
    def _carry_out(self, action: Action) -> None:
        raise AssertionError(f"nobody carries out {action}")

    @_carry_out.register
    def _(self, action: Spawn) -> None:
        spec, row = action.spec, self._rows[action.spec.name]
        row.take(0, time.monotonic_ns())  # the child writes its own pid: it may be faster than us
        row.set(Field.LISTENER, spec.listener)
        if action.again:
            row.count("restarts")
        try:
            process = fork(spec, row)
        except OSError as error:
            log.error("cannot_fork child=%s error='%s'", spec.name, error)  # noqa: TRY400
            self._unborn.append(spec.name)
            return
        self._processes[spec.name] = process
        self._epoll.register(process.pidfd, select.EPOLLIN)
        log.info("started child=%s pid=%d", spec.name, process.pid)

    @_carry_out.register
    def _(self, action: Signal) -> None:
        log.info("told child=%s signal=%s", action.child, action.signum.name)
        self._send(action.child, action.signum)

    @_carry_out.register
    def _(self, action: Kill) -> None:
        log.error("killing child=%s reason='%s'", action.child, action.reason)
        self._send(action.child, signal.SIGKILL)

    @_carry_out.register
    def _(self, action: Park) -> None:
        log.error("parked child=%s note='it is not restarted any more'", action.child)
        self._rows[action.child].set(Field.PHASE, Phase.PARKED)
        self._plan.notifier.tell(status=f"Degraded: {action.child} is parked")

    @_carry_out.register
    def _(self, action: Rest) -> None:
        row = self._rows[action.child]
        row.set(Field.LISTENER, NOBODY)
        row.set(Field.PHASE, Phase.SPARE)

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
    def _(self, action: Silent) -> None:
        log.warning("silent child=%s silent_ms=%d", action.child, action.silent_ms)

    @_carry_out.register
    def _(self, action: Dump) -> None:
        log.warning(
            "silent child=%s silent_ms=%d note='its stacks follow'", action.child, action.silent_ms
        )
        self._send(action.child, signal.SIGUSR1)

    @_carry_out.register
    def _(self, action: Rolling) -> None:
        log.info("rolling places=%d", action.places)
        self._plan.notifier.tell(READY, status="Replacing workers one by one")

    @_carry_out.register
    def _(self, action: Succeed) -> None:
        log.info("replacing old=%s new=%s reason='%s'", action.old, action.new, action.reason)

    @_carry_out.register
    def _(self, action: RollFailed) -> None:
        log.error("not_replaced old=%s reason='%s did not get ready'", action.old, action.new)

    @_carry_out.register
    def _(self, action: RollEnded) -> None:
        if action.kept:
            log.error("roll_ended kept=%d note='they go on as they were'", action.kept)
        else:
            log.info("rolled took_ms=%d", action.took_ms)
        self._plan.notifier.tell(READY, status="Serving")

    @_carry_out.register
    def _(self, action: Serving) -> None:
        self._plan.notifier.tell(READY, status="Serving")
        self._plan.on_serving()

    @_carry_out.register
    def _(self, action: GiveUp) -> None:
        log.error("giving_up status=%d reason='%s'", action.status, action.sentence)
        self._plan.notifier.tell(STOPPING, status=action.sentence)

    @_carry_out.register
    def _(self, action: Finish) -> None:
        log.info("stopped status=%d", action.status)
        self._status = action.status

    def _send(self, name: str, signum: int) -> None:
        process = self._processes.get(name)
        if process is not None:  # it is not there when it could not be forked
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(process.pidfd, signum)


def _sighting(process: Process, row: Row, *, weigh: bool) -> Sighting:
    rss_bytes = _rss_bytes(process.pid) if weigh and process.spec.rss_bytes_max else 0
    return Sighting(row.get(Field.HEARTBEAT_NS), _SAYS.get(row.get(Field.PHASE)), rss_bytes)


def _rss_bytes(pid: int) -> int:
    """Resident memory; 0 for a process that is just ending."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * resource.getpagesize()
