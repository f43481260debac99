"""The table of claims against a plain model, and the order in which places are asked."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.claims import DIGEST_BYTES, Claims, digest, places_for

KEYS = st.sampled_from([digest(name) for name in "abcdef"])
HOLDERS = st.integers(0, 2)
TTL = st.integers(1, 20)
CLAIMS_MAX = 4


class TableMachine(RuleBasedStateMachine):
    """The model: key -> (holder, until), everything lapsed taken out as time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.claims = Claims(CLAIMS_MAX)
        self.model: dict[bytes, tuple[int, int]] = {}
        self.now = 0

    def add(self, key: bytes, holder: int, ttl: int) -> bool:
        if key in self.model or len(self.model) == CLAIMS_MAX:
            return False
        self.model[key] = (holder, self.now + ttl)
        return True

    @rule(key=KEYS, holder=HOLDERS, ttl=TTL)
    def take(self, key: bytes, holder: int, ttl: int) -> None:
        assert self.claims.take(key, holder, self.now + ttl, self.now) == self.add(key, holder, ttl)

    @rule(key=KEYS, holder=HOLDERS, ttl=TTL)
    def renew(self, key: bytes, holder: int, ttl: int) -> None:
        mine = self.model.get(key, (holder, 0))[0] == holder
        expected = mine and (key in self.model or self.add(key, holder, ttl))
        if expected:
            self.model[key] = (holder, self.now + ttl)
        assert self.claims.renew(key, holder, self.now + ttl, self.now) == expected

    @rule(key=KEYS, holder=HOLDERS)
    def release(self, key: bytes, holder: int) -> None:
        self.claims.release(key, holder)
        if self.model.get(key, (None, 0))[0] == holder:
            del self.model[key]

    @rule(holder=HOLDERS)
    def release_all(self, holder: int) -> None:
        self.claims.release_all(holder)
        self.model = {k: claim for k, claim in self.model.items() if claim[0] != holder}

    @rule(by=st.integers(1, 15))
    def time_passes(self, by: int) -> None:
        self.now += by
        self.model = {k: claim for k, claim in self.model.items() if claim[1] > self.now}

    @precondition(lambda self: self.model)
    @rule(holder=HOLDERS)
    def what_is_held_is_refused(self, holder: int) -> None:
        for key in self.model:
            assert not self.claims.take(key, holder, self.now + 1, self.now)

    @invariant()
    def it_is_bounded(self) -> None:
        assert len(self.model) <= len(self.claims) <= CLAIMS_MAX


TestTable = TableMachine.TestCase


def test_a_full_table_takes_again_when_something_has_lapsed() -> None:
    claims = Claims(2)
    assert claims.take(b"a", 0, until_ns=10, now_ns=0)
    assert claims.take(b"b", 0, until_ns=5, now_ns=0)
    assert not claims.take(b"c", 0, until_ns=14, now_ns=4)
    assert claims.take(b"c", 0, until_ns=15, now_ns=5)
    assert not claims.take(b"d", 0, until_ns=19, now_ns=9)
    assert claims.take(b"d", 0, until_ns=20, now_ns=10)


@given(st.text(), st.integers(1, 65))
def test_every_place_is_asked_once_and_by_all_in_the_same_order(key: str, places: int) -> None:
    order = list(places_for(digest(key), places))
    assert sorted(order) == list(range(places))
    assert order == list(places_for(digest(key), places))


def test_keys_are_spread_over_the_places() -> None:
    owners = [next(places_for(digest(f"MZ{n}"), 4)) for n in range(4000)]
    for place in range(4):
        assert owners.count(place) == pytest.approx(1000, rel=0.15)


def test_digests_are_short_and_differ() -> None:
    made = {digest(f"{kind}:{n}") for kind, n in itertools.product(("call", "stream"), range(100))}
    assert len(made) == 200
    assert {len(one) for one in made} == {DIGEST_BYTES}
