"""Workers are replaced one by one, and never at the cost of calls."""

from __future__ import annotations

import itertools

import pytest

from supervisor.actions import (
    Action,
    Kill,
    Park,
    Rest,
    RollEnded,
    RollFailed,
    Rolling,
    Serving,
    Signal,
    Succeed,
)
from supervisor.child import Event
from supervisor.roll import TABLE, News, Stage
from supervisor.spec import EXIT_CONFIG
from tests.supervisor.world import (
    RETIRE_LIMIT_MS,
    RSS_MAX,
    TICK_MS,
    World,
    gateway,
    kinds,
    ready_gateway,
    spawned,
)

#: What cannot happen: nothing is under way, or something is already.
IMPOSSIBLE = {
    *itertools.product([Stage.IDLE], set(News) - {News.BEGIN}),
    *itertools.product([Stage.WARMING], [News.BEGIN, News.GONE]),
    *itertools.product([Stage.DRAINING], set(News) - {News.GONE}),
}


@pytest.mark.parametrize(("stage", "news"), list(itertools.product(Stage, News)))
def test_table_is_total_over_what_can_happen(stage: Stage, news: News) -> None:
    assert ((stage, news) in TABLE) != ((stage, news) in IMPOSSIBLE)


def of_kind(actions: list[Action], kind: type) -> list[Action]:
    return [a for a in actions if isinstance(a, kind)]


def roll_on(world: World) -> list[Action]:
    """Whoever starts gets ready, whoever is told to end ends; until nothing more happens."""
    done: list[Action] = []
    quiet = 0
    while quiet < 5:
        world.say()
        happened = len(world.happened)
        world.tick()
        world.obey()
        done += world.happened[happened:]
        quiet = 0 if len(world.happened) > happened else quiet + 1
    return done


def heavy_after(world: World, name: str, healthy_ms: int) -> None:
    world.processes[name].rss_bytes = RSS_MAX + 1
    for _ in range(healthy_ms // TICK_MS):
        world.tick()


def test_last_place_is_spare_at_the_start() -> None:
    world = gateway(workers=3)
    assert world.spares == {"worker-3"}
    assert world.running() == ["worker-0", "worker-1", "worker-2"]


def test_everybody_is_replaced_in_turn_through_the_spare_place() -> None:
    world = ready_gateway(workers=3)
    actions = [*world.reload(), *roll_on(world)]
    assert of_kind(actions, Rolling) == [Rolling(3)]
    assert [(a.old, a.new) for a in actions if isinstance(a, Succeed)] == [
        ("worker-0", "worker-3"),
        ("worker-1", "worker-0"),
        ("worker-2", "worker-1"),
    ]
    assert kinds(of_kind(actions, RollEnded)) == [RollEnded]
    assert world.crew_numbers() == {1}
    assert world.listeners() == {0: 1, 1: 1, 2: 1}
    assert world.spares == {"worker-2"}


def test_old_worker_serves_until_its_successor_is_ready_and_nobody_else_is_touched() -> None:
    world = ready_gateway()
    world.reload()
    assert spawned(world.happened)[-1] == "worker-2"
    for _ in range(100):
        world.tick()
    assert not any(p.told_ns for p in world.processes.values())
    world.say()
    (_, told) = [a for a in world.tick() if not isinstance(a, Serving)]
    assert told == Signal("worker-0", told.signum)  # type: ignore[union-attr]
    for _ in range(100):
        assert world.tick() == []  # the next one's turn comes when this one has gone
    world.processes["worker-0"].says = Event.DRAIN
    assert kinds(world.die("worker-0", 0))[:2] == [Rest, Succeed]


def test_old_worker_that_does_not_end_is_killed_at_its_deadline() -> None:
    world = ready_gateway()
    world.reload()
    world.say()
    world.tick()
    for _ in range(RETIRE_LIMIT_MS // TICK_MS - 1):
        assert world.tick() == []
    assert world.tick() == [Kill("worker-0", "did not end in time")]
    assert world.die("worker-0", -9)[0] == Rest("worker-0")


@pytest.mark.parametrize("status", [1, EXIT_CONFIG, -9])
def test_successor_that_fails_leaves_everything_as_it_was(status: int) -> None:
    world = ready_gateway()
    before = dict(world.processes)
    world.reload()
    actions = world.die("worker-2", status)
    assert actions == [
        Rest("worker-2"),
        RollFailed("worker-0", "worker-2"),
        RollEnded(2, 0),
    ]
    assert world.processes == before
    assert roll_on(world) == []
    assert world.crew_numbers() == {0}


def test_failure_half_way_keeps_those_that_are_done_and_those_that_are_not() -> None:
    world = ready_gateway(workers=3)
    world.reload()
    world.say()
    world.tick()
    world.obey()
    assert world.running() == ["worker-1", "worker-2", "worker-3", "worker-0"]
    world.die("worker-0", 1)
    assert RollEnded(2, TICK_MS) in world.happened
    roll_on(world)
    assert world.crew_numbers() == {0, 1}


def test_successor_that_is_never_ready_is_killed_and_ends_the_roll() -> None:
    world = ready_gateway()
    world.reload()
    while not world.processes["worker-2"].doomed:
        world.tick()
    world.bury()
    assert RollFailed("worker-0", "worker-2") in world.happened
    assert world.running() == ["worker-0", "worker-1"]


def test_successor_that_ends_before_it_is_ready_is_a_failure() -> None:
    world = ready_gateway()
    world.reload()
    world.processes["worker-2"].says = Event.DRAIN
    assert of_kind(world.tick(), Signal)
    world.die("worker-2", 0)
    assert RollFailed("worker-0", "worker-2") in world.happened


def test_old_worker_that_crashes_meanwhile_is_restarted_and_then_replaced() -> None:
    world = ready_gateway()
    world.reload()
    assert spawned(world.die("worker-0", -11)) == ["worker-0"]
    actions = roll_on(world)
    assert kinds(of_kind(actions, RollEnded)) == [RollEnded]
    assert world.crew_numbers() == {1}


def test_old_worker_in_back_off_needs_no_goodbye() -> None:
    world = ready_gateway()
    world.reload()
    world.die("worker-0", -11)
    world.die("worker-0", -11)
    world.say()
    world.tick()
    assert Rest("worker-0") in world.happened
    roll_on(world)
    assert world.listeners() == {0: 1, 1: 1}


def test_old_worker_that_crashes_while_it_drains_is_simply_gone() -> None:
    world = ready_gateway()
    world.reload()
    world.say()
    world.tick()
    assert world.die("worker-0", -11)[0] == Rest("worker-0")
    assert RollFailed not in kinds(world.happened)


def test_parked_worker_comes_back_with_new_settings_and_first() -> None:
    world = ready_gateway(workers=3)
    while Park("worker-1") not in world.happened:
        if "worker-1" in world.processes:
            world.die("worker-1", 1)
        world.tick()
    actions = [*world.reload(), *roll_on(world)]
    assert of_kind(actions, Succeed)[0] == Succeed("worker-1", "worker-3", "new settings")
    assert world.listeners() == {0: 1, 1: 1, 2: 1}
    assert world.parked == set()


def test_second_reload_within_a_roll_replaces_those_with_older_settings_again() -> None:
    world = ready_gateway()
    world.reload()
    assert world.reload() == [Rolling(3)]  # the successor under way will be too old as well
    actions = roll_on(world)
    assert [(a.old, a.new) for a in actions if isinstance(a, Succeed)] == [
        ("worker-2", "worker-0"),
        ("worker-1", "worker-2"),
    ]
    assert world.crew_numbers() == {2}
    assert len(of_kind(world.happened, RollEnded)) == 1


def test_failure_of_outdated_settings_does_not_end_the_roll_with_newer_ones() -> None:
    world = ready_gateway()
    world.reload()
    world.reload()
    world.die("worker-2", EXIT_CONFIG)
    assert RollEnded not in kinds(world.happened)
    roll_on(world)
    assert world.crew_numbers() == {2}


def test_reload_before_everything_is_ready_waits() -> None:
    world = gateway()
    assert kinds(world.reload()) == [Rolling]
    for _ in range(5):
        assert world.tick() == []
    roll_on(world)
    assert world.crew_numbers() == {1}


def test_reload_while_stopping_is_ignored() -> None:
    world = ready_gateway()
    world.stop()
    assert world.reload() == []


def test_stop_within_a_roll_ends_old_and_new() -> None:
    world = ready_gateway()
    world.reload()
    told = of_kind(world.stop(), Signal)
    assert [a.child for a in told if isinstance(a, Signal)] == ["worker-0", "worker-1", "worker-2"]
    world.obey()
    world.obey()
    assert world.status == 0


def test_heavy_worker_is_replaced_alone_and_with_the_settings_it_has() -> None:
    world = ready_gateway()
    heavy_after(world, "worker-1", 59_900)
    assert Succeed not in kinds(world.happened)  # it has to show first that it works
    heavy_after(world, "worker-1", 200)
    roll_on(world)
    succeeded = of_kind(world.happened, Succeed)
    assert succeeded == [Succeed("worker-1", "worker-2", "it holds too much memory")]
    assert RollEnded not in kinds(world.happened)
    assert world.crew_numbers() == {0}
    assert world.listeners() == {0: 1, 1: 1}


def test_limit_that_is_too_low_is_no_restart_loop() -> None:
    world = ready_gateway(workers=1)
    world.settle(60_000)
    while world.now_ns < 600 * 10**9:
        for name in world.running():
            world.processes[name].rss_bytes = RSS_MAX + 1
        world.settle(500)
    assert len(of_kind(world.happened, Succeed)) == 9


def test_heavy_worker_whose_successor_fails_stays_for_a_while() -> None:
    world = ready_gateway()
    world.settle(60_000)
    heavy_after(world, "worker-1", 100)
    assert world.die("worker-2", 1)[1] == RollFailed("worker-1", "worker-2")
    heavy_after(world, "worker-1", 59_000)
    assert len(of_kind(world.happened, Succeed)) == 1
    heavy_after(world, "worker-1", 2_000)
    assert len(of_kind(world.happened, Succeed)) == 2


def test_worker_without_a_limit_may_grow() -> None:
    world = ready_gateway()
    world.processes["console-0"].rss_bytes = RSS_MAX + 1
    world.settle(70_000)
    assert Succeed not in kinds(world.happened)
