"""The table of single-use keys against a plain model."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.single_use import SingleUse

KEYS_MAX = 3


class TableMachine(RuleBasedStateMachine):
    """The model: what was put and neither taken nor lapsed. No key comes twice, as in life."""

    def __init__(self) -> None:
        super().__init__()
        self.table = SingleUse(KEYS_MAX)
        self.model: dict[bytes, tuple[bytes, int]] = {}
        self.keys: list[bytes] = []
        self.now = 0

    @rule(value=st.binary(max_size=3), ttl=st.integers(1, 20))
    def put(self, value: bytes, ttl: int) -> None:
        self.keys.append(key := b"%d" % len(self.keys))
        if self.table.put(key, value, self.now + ttl, self.now):
            self.model[key] = (value, self.now + ttl)
        else:
            assert len(self.table) == KEYS_MAX

    @rule(which=st.integers(0, 5))
    def take(self, which: int) -> None:
        for key in self.keys[-1 - which :][:1]:
            assert self.table.take(key, self.now) == self.model.pop(key, (None, 0))[0]

    @rule()
    def put_again(self) -> None:
        for key in list(self.model)[:1]:
            assert not self.table.put(key, b"other", self.now + 1, self.now)

    @rule(by=st.integers(1, 15))
    def time_passes(self, by: int) -> None:
        self.now += by
        self.model = {k: kept for k, kept in self.model.items() if kept[1] > self.now}

    @invariant()
    def it_is_bounded(self) -> None:
        assert len(self.model) <= len(self.table) <= KEYS_MAX


TestTable = TableMachine.TestCase


def test_room_comes_back_when_the_oldest_has_lapsed() -> None:
    table = SingleUse(2)
    assert table.put(b"a", b"1", until_ns=5, now_ns=0)
    assert table.put(b"b", b"2", until_ns=6, now_ns=0)
    assert not table.put(b"c", b"3", until_ns=9, now_ns=4)
    assert table.put(b"c", b"3", until_ns=9, now_ns=5)
    assert table.take(b"a", now_ns=5) is None
    assert table.take(b"c", now_ns=8) == b"3"
