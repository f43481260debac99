"""The workers' places, and how a worker is replaced without a call noticing. Pure.

There is one place more than workers: a row, an arena and a hand-over socket that nobody uses. A
successor starts there with its predecessor's listener; when it is ready the predecessor drains;
when that has exited, its place is the spare one, and only then the next worker's turn comes. So
no arena ever has two workers, and there is never more than one replacement under way::

            BEGIN            READY             GONE
    IDLE ─────────► WARMING ───────► DRAINING ──────► IDLE
                       │ FAILED
                       └────────► IDLE

* The predecessor's calls end by themselves, however long they last: it is not in anybody's way.
* Until its successor is ready the predecessor goes its own way: it serves, and if it crashes it is
  restarted as usual. A successor that does not get ready leaves everything as it was and ends the
  roll: with the next one it would be the same.
* A worker in back-off or parked is replaced like the others, and before them.
* New settings that come meanwhile are used from the next replacement on; whoever runs with older
  ones by then has another turn.
* A worker that holds too much memory is replaced by one with the settings it has, at most once in
  the time after which a worker counts as healthy: a limit that is too low must not turn into a
  restart loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum, auto
from types import MappingProxyType

from supervisor.actions import Action, Rest, RollEnded, RollFailed, Rolling, Succeed
from supervisor.child import NS_PER_MS, Child, State
from supervisor.kinds import WORKER
from supervisor.spec import Crew
from supervisor.watch import end, retire


class Stage(Enum):
    """How far the present replacement is."""

    IDLE = auto()
    WARMING = auto()
    DRAINING = auto()


class News(Enum):
    """What moves a replacement on."""

    BEGIN = auto()
    READY = auto()
    FAILED = auto()
    GONE = auto()


TABLE: Mapping[tuple[Stage, News], Stage] = MappingProxyType(
    {
        (Stage.IDLE, News.BEGIN): Stage.WARMING,
        (Stage.WARMING, News.READY): Stage.DRAINING,
        (Stage.WARMING, News.FAILED): Stage.IDLE,
        (Stage.DRAINING, News.GONE): Stage.IDLE,
    }
)


class Roll:
    """The workers in their places; told what happens, answers with actions."""

    def __init__(self, crew: Crew, now_ns: int) -> None:
        #: By name: who is in a place, or about to be restarted in it.
        self.children: dict[str, Child] = {}
        self._crews: dict[str, Crew] = {}
        for place in range(crew.workers):
            self._add(crew, place, place, now_ns)
        self._spare = crew.workers
        self._stage = Stage.IDLE
        #: Of the present replacement; without meaning while IDLE.
        self._old: Child | None = None
        self._new: Child | None = None
        #: The newest settings while not everybody has them.
        self._wanted: Crew | None = None
        self._wanted_ns = now_ns
        self._heavy: Child | None = None
        self._heavy_not_before_ns = now_ns

    @property
    def stage(self) -> Stage:
        """How far the present replacement is."""
        return self._stage

    def start(self) -> Iterator[Action]:
        """At first the last place is the spare one."""
        yield Rest(f"{WORKER}-{self._spare}")

    def reload(self, crew: Crew, now_ns: int) -> Iterator[Action]:
        """From now on every worker is to be one of this crew."""
        self._wanted, self._wanted_ns = crew, now_ns
        yield Rolling(len(self._outdated()))

    def weigh(self, child: Child, rss_bytes: int, now_ns: int) -> None:
        """Take note of a worker that holds too much memory."""
        spec = child.spec
        is_heavy = 0 < spec.rss_bytes_max < rss_bytes
        if not is_heavy or child.ready_ns is None or self._stage is not Stage.IDLE:
            return
        healthy_ns = child.ready_ns + spec.restart.healthy_after_ms * NS_PER_MS
        if child.state is State.READY and now_ns >= max(healthy_ns, self._heavy_not_before_ns):
            self._heavy = child

    def settles(self, child: Child) -> bool:
        """Whether this exit belongs to the present replacement and asks for no restart."""
        awaited = {Stage.WARMING: self._new, Stage.DRAINING: self._old}
        return child is awaited.get(self._stage)

    def on_exit(self, child: Child, now_ns: int) -> Iterator[Action]:
        """Somebody has exited whose exit ``settles`` the present replacement."""
        if self._stage is Stage.WARMING:
            yield from self._fail(child, now_ns)
        else:
            yield from self._release(child)

    def go_on(self, now_ns: int) -> Iterator[Action]:
        """The next step, if it is time for one."""
        if self._stage is Stage.WARMING:
            yield from self._warm(now_ns)
        if self._stage is Stage.DRAINING:
            yield from self._drain(now_ns)
        if self._stage is Stage.IDLE:
            yield from self._next(now_ns)

    def _add(self, crew: Crew, place: int, listener: int, now_ns: int) -> Child:
        child = Child(crew.spec(place, listener), now_ns)
        self.children[child.spec.name] = child
        self._crews[child.spec.name] = crew
        return child

    def _remove(self, child: Child) -> Rest:
        del self.children[child.spec.name], self._crews[child.spec.name]
        return Rest(child.spec.name)

    def _apply(self, news: News) -> None:
        self._stage = TABLE[self._stage, news]

    def _outdated(self) -> list[Child]:
        if self._wanted is None:
            return []
        return [c for name, c in self.children.items() if self._crews[name] is not self._wanted]

    def _warm(self, now_ns: int) -> Iterator[Action]:
        assert self._new is not None
        if self._new.state is State.READY:
            self._apply(News.READY)
        elif self._new.state is State.DRAINING:  # it ends before it was any use
            yield from end(self._new, self._new.spec.stop_timeout_ms, now_ns)

    def _drain(self, now_ns: int) -> Iterator[Action]:
        assert self._old is not None
        if self._old.running:
            yield from retire(self._old, now_ns)
        else:  # in back-off or parked: there is nobody to wait for
            yield from self._release(self._old)

    def _next(self, now_ns: int) -> Iterator[Action]:
        if any(child.state is State.SPAWNED for child in self.children.values()):
            return  # one unready worker at a time is enough
        outdated = self._outdated()
        if outdated:
            assert self._wanted is not None
            old = min(outdated, key=lambda child: (child.running, child.spec.listener))
            yield from self._begin(old, self._wanted, "new settings", now_ns)
        elif self._wanted is not None:
            yield self._end_of_roll(now_ns)
        elif self._heavy is not None:
            yield from self._lighten(self._heavy, now_ns)

    def _lighten(self, heavy: Child, now_ns: int) -> Iterator[Action]:
        self._heavy = None
        if heavy.state is State.READY and self.children.get(heavy.spec.name) is heavy:
            crew = self._crews[heavy.spec.name]
            yield from self._begin(heavy, crew, "it holds too much memory", now_ns)

    def _begin(self, old: Child, crew: Crew, reason: str, now_ns: int) -> Iterator[Action]:
        self._apply(News.BEGIN)
        self._old = old
        self._new = self._add(crew, self._spare, old.spec.listener, now_ns)
        yield Succeed(old.spec.name, self._new.spec.name, reason)

    def _release(self, old: Child) -> Iterator[Action]:
        self._apply(News.GONE)
        self._spare = old.spec.index
        yield self._remove(old)

    def _fail(self, new: Child, now_ns: int) -> Iterator[Action]:
        assert self._old is not None
        self._apply(News.FAILED)
        self._heavy_not_before_ns = now_ns + new.spec.restart.healthy_after_ms * NS_PER_MS
        crew = self._crews[new.spec.name]
        yield self._remove(new)
        yield RollFailed(self._old.spec.name, new.spec.name)
        if crew is self._wanted:
            yield self._end_of_roll(now_ns)

    def _end_of_roll(self, now_ns: int) -> RollEnded:
        kept = len(self._outdated())
        self._wanted = None
        return RollEnded(kept, (now_ns - self._wanted_ns) // NS_PER_MS)
