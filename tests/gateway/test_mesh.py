"""Claims among four real processes: races, a dead owner, a stopped one, a stranger's datagrams."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator

import pytest

from gateway import clock
from gateway.claims import digest, places_for
from gateway.mesh import Mesh
from supervisor.handover import receive, send, socket_pair
from supervisor.scoreboard import Field, Phase
from tests.gateway.places import Places, board_of, places, wait_until

COUNT = 4
SOON_NS = 50_000_000
#: For tests in which somebody is asked who cannot answer.
BRIEF_MS = 300


@pytest.fixture(scope="module")
def four() -> Iterator[Places]:
    with places(COUNT) as made:
        yield made


_names = itertools.count()


def key_of(owner: int) -> str:
    """A fresh key of this owner; the next in line is the place after it."""
    fresh = (f"stream:MZ{n}" for n in _names)
    return next(key for key in fresh if next(places_for(digest(key), COUNT)) == owner)


def keys(count: int) -> list[str]:
    return [f"token:{next(_names)}" for _ in range(count)]


def race(found: Places, names: list[str], op: str, racers: list[int]) -> list[str]:
    """All racers want all keys at one moment; every key won, once for each time it was won."""
    at_ns = clock.now_ns() + SOON_NS
    for place in racers:
        found[place].tell(do="race", keys=names, op=op, at_ns=at_ns)
    return sorted(key for place in racers for key in found[place].hear())


@pytest.mark.parametrize("op", ["take", "redeem"])
def test_of_four_that_want_a_key_at_once_exactly_one_gets_it(four: Places, op: str) -> None:
    names = keys(100)
    assert race(four, names, op, [0, 1, 2, 3]) == sorted(names)
    assert race(four, names, op, [3, 2, 1, 0]) == []


def test_a_worker_refuses_its_own_second_claim(four: Places) -> None:
    key = key_of(2)
    assert four[0].ask(do="take", key=key)
    assert not four[0].ask(do="take", key=key)
    four[0].ask(do="release", key=key)
    assert four[0].ask(do="take", key=key)


def test_a_released_id_is_free_for_all_and_only_its_holder_can_release(four: Places) -> None:
    key = key_of(1)
    assert four[3].ask(do="take", key=key)
    four[2].ask(do="release", key=key)
    assert not four[2].ask(do="take", key=key)
    four[3].ask(do="release", key=key)
    wait_until(lambda: bool(four[2].ask(do="take", key=key)), "the release has arrived")


def test_a_spent_key_stays_spent(four: Places) -> None:
    key = key_of(0)
    assert four[1].ask(do="redeem", key=key)
    assert not four[2].ask(do="redeem", key=key)
    four[1].ask(do="release", key=key)
    assert not four[1].ask(do="redeem", key=key)
    assert not four[3].ask(do="take", key=key)


def test_what_one_asks_itself_needs_no_datagram() -> None:
    with places(1) as alone:
        assert race(alone, names := keys(5), "take", [0]) == names
        assert race(alone, names, "take", [0]) == []
        assert alone[0].ask(do="counts")["asked"] == 0


def test_a_dead_owner_s_claims_are_known_to_the_next_and_the_race_has_one_winner() -> None:
    with places(COUNT) as found:
        held, spent = key_of(0), key_of(0)
        assert found[2].ask(do="take", key=held)
        assert found[2].ask(do="redeem", key=spent)
        found.kill(0)
        assert not found[3].ask(do="take", key=held)
        assert not found[3].ask(do="redeem", key=spent)
        names = [key_of(0) for _ in range(20)]
        assert race(found, names, "redeem", [1, 2, 3]) == sorted(names)
        found.fork(0)  # it has forgotten everything
        wait_until(lambda: found.beats(0), "the successor lives")
        assert race(found, [*names, held, spent], "redeem", [0, 1, 2, 3]) == []


def test_a_stopped_owner_has_one_winner_and_wins_nothing_when_it_goes_on() -> None:
    with places(COUNT, answer_timeout_ms=BRIEF_MS) as found:
        names = [key_of(0) for _ in range(20)]
        os.kill(found[0].pid, signal.SIGSTOP)
        assert race(found, names, "redeem", [1, 2, 3]) == sorted(names)
        os.kill(found[0].pid, signal.SIGCONT)
        assert race(found, names, "redeem", [0]) == []
        counts = [found[place].ask(do="counts") for place in (1, 2, 3)]
        assert all(count["unanswered"] >= 20 for count in counts)
        wait_until(
            lambda: sum(found[p].ask(do="counts")["late"] for p in (1, 2, 3)) >= 60,
            "its late answers have come, and were of no use",
        )


def test_what_the_dead_held_is_free_again() -> None:
    with places(COUNT) as found:
        key = key_of(1)
        assert found[0].ask(do="take", key=key)
        found.kill(0)
        wait_until(lambda: bool(found[3].ask(do="take", key=key)), "the death was noticed")
        found.fork(0)
        wait_until(lambda: found.beats(0), "the successor lives")
        assert not found[0].ask(do="take", key=key), "its predecessor's claim is not its own"


def test_a_full_socket_is_no_answer() -> None:
    """The one that reads nothing is passed over, and we do not wait for it."""
    with places(2) as found:
        os.kill(found[1].pid, signal.SIGSTOP)
        sender = found.pairs[1][1]
        while send(sender, b"Q"):
            pass
        key = next(k for k in keys(99) if next(places_for(digest(k), 2)) == 1)
        assert found[0].ask(do="take", key=key)
        assert not found[0].ask(do="take", key=key)


def test_nonsense_is_counted_and_hurts_nobody(four: Places) -> None:
    before = four[1].ask(do="counts")["not_understood"]
    nonsense = [b"Q", b"A", b"Z" * 20, b"Q" + bytes(7), b"A" * 1000, b"Q" + b"\xff" * 40]
    for datagram in nonsense:
        four.pairs[1][1].send(datagram)
    wait_until(
        lambda: four[1].ask(do="counts")["not_understood"] == before + len(nonsense),
        "all of it was counted",
    )
    assert four[1].ask(do="take", key=key_of(1))


def test_what_is_held_is_renewed_where_it_was_forgotten() -> None:
    """A place that has come back empty is told again, by its holder's beats."""
    board = board_of(2)
    for row in board.rows():
        row.set(Field.HEARTBEAT_NS, clock.now_ns() + 10**15)
    pairs = [socket_pair() for _ in range(2)]
    senders = [sender for _, sender in pairs]
    one, other = Mesh(0, board, senders), Mesh(1, board, senders)

    def deliver() -> None:
        for (receiver, _), mesh in zip(pairs, (one, other), strict=True):
            while (datagram := receive(receiver)) is not None:
                mesh.received(datagram.body)

    try:
        board.row("worker", 1).set(Field.PHASE, Phase.EXITED)
        claim = one.take("stream:MZ1")
        with pytest.raises(StopIteration) as granted:
            claim.send(None)  # nobody else is there to be waited for
        assert granted.value.value is True
        board.row("worker", 1).set(Field.PHASE, Phase.READY)
        deliver()
        assert not len(other._claims)
        one.beat(clock.now_ns())
        deliver()
        assert not len(other._claims), "not due yet"
        one.beat(clock.now_ns() + 10**12)
        deliver()
        assert len(other._claims) == 1
        one.release("stream:MZ1")
        deliver()
        assert not len(other._claims)
    finally:
        for pair in pairs:
            for end in pair:
                end.close()
