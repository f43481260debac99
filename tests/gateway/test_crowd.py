"""Addresses that ask for too much, and those that do not."""

from __future__ import annotations

import pytest

from gateway.bucket import NS_PER_SECOND
from gateway.crowd import Crowd, address_of
from gateway.limits import ADDRESS_KNOCKS_BURST, ADDRESS_KNOCKS_PER_SECOND_MAX, ADDRESS_LIVE_MAX

HOST, OTHER, PROXY = "203.0.113.5", "203.0.113.6", "10.0.0.1"


@pytest.fixture
def crowd() -> Crowd:
    return Crowd(lambda host: host == PROXY, addresses_max=8)


def test_a_burst_then_so_many_a_second_and_others_are_not_concerned(crowd: Crowd) -> None:
    assert [crowd.knock(HOST, 0) for _ in range(ADDRESS_KNOCKS_BURST + 1)].count(True) == (
        ADDRESS_KNOCKS_BURST
    )
    assert crowd.knock(OTHER, 0)
    later = [crowd.knock(HOST, NS_PER_SECOND) for _ in range(ADDRESS_KNOCKS_PER_SECOND_MAX + 1)]
    assert later == [True] * ADDRESS_KNOCKS_PER_SECOND_MAX + [False]


def test_so_many_live_connections(crowd: Crowd) -> None:
    for n in range(ADDRESS_LIVE_MAX):
        assert crowd.knock(HOST, n * NS_PER_SECOND)
        crowd.enter(HOST, n * NS_PER_SECOND)
    now_ns = ADDRESS_LIVE_MAX * NS_PER_SECOND
    assert not crowd.knock(HOST, now_ns)
    crowd.leave(HOST)
    assert crowd.knock(HOST, now_ns)


def test_a_proxy_is_everybodys_address(crowd: Crowd) -> None:
    for _ in range(ADDRESS_LIVE_MAX + ADDRESS_KNOCKS_BURST):
        assert crowd.knock(PROXY, 0)
        crowd.enter(PROXY, 0)
    crowd.leave(PROXY)
    assert len(crowd) == 0


def test_the_table_is_bounded_and_never_forgets_who_is_here(crowd: Crowd) -> None:
    crowd.enter(HOST, 0)
    for n in range(100):
        crowd.knock(f"198.51.100.{n}", 0)
        assert len(crowd) <= 9
    for _ in range(ADDRESS_LIVE_MAX - 1):
        crowd.enter(HOST, 0)
    assert not crowd.knock(HOST, NS_PER_SECOND)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::4%eth0", "2001:db8:1:2::/64"),
        ("", ""),
    ],
)
def test_what_counts_as_one_address(host: str, address: str) -> None:
    assert address_of(host) == address
