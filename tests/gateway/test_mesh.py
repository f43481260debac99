"""Claims and tokens among four real processes: races, the dead, the stopped, a stranger's words."""

from __future__ import annotations

import itertools
import os
import re
import select
import signal
import time
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


def waiting_for(found: Places, place: int) -> bool:
    """Whether something lies in a place's hand-over socket."""
    return bool(select.select([found.pairs[place][0]], [], [], 0)[0])


def race(found: Places, names: list[str], op: str, racers: list[int]) -> list[str]:
    """All racers want all keys at one moment; every key won, once for each time it was won."""
    at_ns = clock.now_ns() + SOON_NS
    for place in racers:
        found[place].tell(do="race", keys=names, op=op, at_ns=at_ns)
    return sorted(key for place in racers for key in found[place].hear())


def tokens(found: Places, home: int, count: int) -> list[str]:
    """Tokens of this home, once their other home has them, too."""
    return [found[home].ask(do="mint", value=f"CA{n}") for n in range(count)]


def test_of_four_that_want_a_key_at_once_exactly_one_gets_it(four: Places) -> None:
    names = keys(100)
    assert race(four, names, "take", [0, 1, 2, 3]) == sorted(names)
    assert race(four, names, "take", [3, 2, 1, 0]) == []


def test_of_four_that_redeem_a_token_at_once_exactly_one_gets_it(four: Places) -> None:
    minted = [token for home in range(COUNT) for token in tokens(four, home, 25)]
    assert race(four, minted, "redeem", [0, 1, 2, 3]) == sorted(minted)
    assert race(four, minted, "redeem", [3, 2, 1, 0]) == []


@pytest.mark.parametrize("place", range(COUNT))
def test_a_token_brings_its_value_to_any_worker_once(four: Places, place: int) -> None:
    token = four[1].ask(do="mint", value="CAé")
    assert re.fullmatch(r"[A-Za-z0-9_-]{48}", token)
    assert four[place].ask(do="redeem", key=token) == "CAé"
    assert [four[p].ask(do="redeem", key=token) for p in range(COUNT)] == [None] * COUNT


def test_what_is_no_token_of_ours_gives_nothing(four: Places) -> None:
    token = four[0].ask(do="mint", value="CA1")
    other_homes = "AAIA" + token[4:]
    for wrong in ("", "x", "é" * 48, "A" * 48, "_" * 48, token + "AAAA", token[:-1], other_homes):
        assert four[2].ask(do="redeem", key=wrong) is None
    assert four[2].ask(do="redeem", key=token) == "CA1"


def test_a_token_lapses(four: Places) -> None:
    token = four[0].ask(do="mint", value="CA1", ttl_ms=1)
    time.sleep(0.002)
    assert four[2].ask(do="redeem", key=token) is None


@pytest.mark.parametrize("dead", [0, 1])
def test_either_home_may_die_and_its_successor_gives_nothing_out_again(dead: int) -> None:
    with places(COUNT) as found:
        minted = tokens(found, 0, 20)
        assert race(found, minted[:5], "redeem", [2, 3]) == sorted(minted[:5])
        found.kill(dead)
        assert race(found, minted[5:10], "redeem", [2, 3]) == sorted(minted[5:10])
        found.fork(dead)
        wait_until(lambda: found.beats(dead), "the successor lives")
        assert race(found, minted, "redeem", [0, 1, 2, 3]) == sorted(minted[10:])


def test_with_both_its_homes_a_token_is_gone() -> None:
    with places(COUNT) as found:
        minted = tokens(found, 0, 3)
        found.kill(0)
        found.kill(1)
        assert race(found, minted, "redeem", [2, 3]) == []


@pytest.mark.parametrize("stopped", [0, 1])
def test_while_a_home_is_stopped_nobody_gets_its_tokens(stopped: int) -> None:
    with places(COUNT, answer_timeout_ms=BRIEF_MS) as found:
        minted = tokens(found, 0, 10)
        os.kill(found[stopped].pid, signal.SIGSTOP)
        assert race(found, minted[:5], "redeem", [2, 3]) == []
        os.kill(found[stopped].pid, signal.SIGCONT)
        assert race(found, minted[5:], "redeem", [2, 3]) == sorted(minted[5:])
        assert race(found, minted, "redeem", [0, 1, 2, 3]) == []


def test_a_home_that_dies_while_it_is_asked_is_passed_over() -> None:
    with places(COUNT) as found:
        (token,) = tokens(found, 0, 1)
        found.stop(0)
        found[2].tell(do="redeem", key=token)
        wait_until(lambda: waiting_for(found, 0), "the question is in its socket")
        found.kill(0)
        assert found[2].hear() == "CA0"


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


def test_what_one_asks_itself_needs_no_datagram() -> None:
    with places(1) as alone:
        assert race(alone, names := keys(5), "take", [0]) == names
        assert race(alone, names, "take", [0]) == []
        assert race(alone, minted := tokens(alone, 0, 2), "redeem", [0]) == sorted(minted)
        assert alone.count("claims/asked", 0) == 0


def test_a_dead_owner_s_claims_are_known_to_the_next_and_the_race_has_one_winner() -> None:
    with places(COUNT) as found:
        held = key_of(0)
        assert found[2].ask(do="take", key=held)
        found.kill(0)
        assert not found[3].ask(do="take", key=held)
        names = [key_of(0) for _ in range(20)]
        assert race(found, names, "take", [1, 2, 3]) == sorted(names)
        found.fork(0)  # it has forgotten everything
        wait_until(lambda: found.beats(0), "the successor lives")
        assert race(found, [*names, held], "take", [0, 1, 2, 3]) == []


def test_a_stopped_owner_has_one_winner_and_wins_nothing_when_it_goes_on() -> None:
    with places(COUNT, answer_timeout_ms=BRIEF_MS) as found:
        names = [key_of(0) for _ in range(20)]
        os.kill(found[0].pid, signal.SIGSTOP)
        assert race(found, names, "take", [1, 2, 3]) == sorted(names)
        os.kill(found[0].pid, signal.SIGCONT)
        assert race(found, names, "take", [0]) == []
        assert all(found.count("claims/timed_out", place) >= 20 for place in (1, 2, 3))
        wait_until(
            lambda: sum(found.count("claims/late", p) for p in (1, 2, 3)) >= 60,
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
    before = four.count("claims/not_understood", 1)
    nonsense = [b"Q", b"A", b"Z" * 20, b"Q" + bytes(7), b"A" * 1000, b"Q" + b"\xff" * 40]
    for datagram in nonsense:
        four.pairs[1][1].send(datagram)
    wait_until(
        lambda: four.count("claims/not_understood", 1) == before + len(nonsense),
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
