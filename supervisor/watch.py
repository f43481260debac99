"""What one running child is told: what follows from its last sign of life, and how it is ended.

A silent child is reported after 500 ms, asked for its stacks after 3 s and killed after 5 s (a DSP
process after 400 ms: its frames are due and another can do its work); while it starts only the
time until it is ready counts. All silences count from ``excused_ns`` at the earliest, which is
when the supervisor itself was last held up: a host that stalled makes every heartbeat old.
"""

from __future__ import annotations

from collections.abc import Iterator
from signal import SIGTERM, Signals

from supervisor.actions import Action, Dump, Kill, Ready, Sighting, Signal, Silent, Slow
from supervisor.child import NS_PER_MS, Alarm, Child, Event, State
from supervisor.kinds import RETIRE

#: A child that needs longer than this to get ready is worth a sentence to whoever waits for it.
SLOW_START_MS = 5_000


def watch(child: Child, sighting: Sighting, excused_ns: int, now_ns: int) -> Iterator[Action]:
    """Take in what a child says, and object to its silence."""
    if not child.running:
        return
    if sighting.says is Event.READY:
        is_news = child.state is State.SPAWNED
        child.ready(now_ns)
        if is_news:
            yield Ready(child.spec.name, (now_ns - child.spawned_ns) // NS_PER_MS)
    elif sighting.says is Event.DRAIN:
        child.drain()
    if child.killed:
        return
    if child.state is State.SPAWNED:
        yield from _watch_start(child, excused_ns, now_ns)
    else:
        silent_ms = (now_ns - max(sighting.heartbeat_ns, excused_ns)) // NS_PER_MS
        yield from _watch_beat(child, silent_ms)


def end(child: Child, limit_ms: int, now_ns: int) -> Iterator[Action]:
    """Tell a running child to end; to be called on, so that it is killed after ``limit_ms``."""
    if child.kill_at_ns is None or child.retiring:
        child.retiring = False
        yield from _ask(child, SIGTERM, limit_ms, now_ns)
    else:
        yield from _insist(child, now_ns)


def retire(child: Child, now_ns: int) -> Iterator[Action]:
    """Tell a worker that its successor serves; to be called on, like ``end``."""
    if child.kill_at_ns is None:
        child.retiring = True
        yield from _ask(child, RETIRE, child.spec.retire_timeout_ms, now_ns)
    else:
        yield from _insist(child, now_ns)


def kill(child: Child, reason: str) -> Kill:
    """Kill a child; whatever it does until it is reaped does not matter any more."""
    child.killed = True
    return Kill(child.spec.name, reason)


def _ask(child: Child, signum: Signals, limit_ms: int, now_ns: int) -> Iterator[Action]:
    latest_ns = now_ns + limit_ms * NS_PER_MS
    child.kill_at_ns = min(latest_ns, child.kill_at_ns or latest_ns)
    child.drain()
    yield Signal(child.spec.name, signum)


def _insist(child: Child, now_ns: int) -> Iterator[Action]:
    if child.kill_at_ns is not None and child.kill_at_ns <= now_ns and not child.killed:
        yield kill(child, "did not end in time")


def _watch_start(child: Child, excused_ns: int, now_ns: int) -> Iterator[Action]:
    waited_ms = (now_ns - child.spawned_ns) // NS_PER_MS
    if waited_ms >= SLOW_START_MS and not child.reported_slow:
        child.reported_slow = True
        yield Slow(child.spec.name, waited_ms)
    silent_ms = (now_ns - max(child.spawned_ns, excused_ns)) // NS_PER_MS
    if silent_ms > child.spec.ready_timeout_ms:
        yield kill(child, f"not ready after {silent_ms} ms")


def _watch_beat(child: Child, silent_ms: int) -> Iterator[Action]:
    name, spec, before = child.spec.name, child.spec, child.alarm
    if silent_ms > spec.hung_after_ms:
        yield kill(child, f"no sign of life for {silent_ms} ms in {child.state.name}")
    elif silent_ms > spec.dump_after_ms:
        child.alarm = Alarm.DUMPED
        if before < Alarm.DUMPED:
            yield Dump(name, silent_ms)
    elif silent_ms > spec.warn_after_ms:
        child.alarm = max(before, Alarm.WARNED)
        if before < Alarm.WARNED:
            yield Silent(name, silent_ms)
    else:
        child.alarm = Alarm.CALM
