"""A network that loses and overtakes: the same for the same seed, and never by much."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loadtest.network import OVERTAKEN_BY_MAX, Network, Weather

percent = st.floats(0, 50)


def travel(weather: Weather, seed: str, count: int = 200) -> tuple[list[int], list[int], Network]:
    """Numbers that arrived, in order, and those that were lost."""
    network, arrived, lost = Network(weather, seed), [], []
    for n in range(count):
        found = network.carry(b"%d" % n)
        if found is None:
            lost.append(n)
        arrived += found or []
    return [int(n) for n in (*arrived, *network.rest())], lost, network


@given(percent, percent, st.text(max_size=4))
def test_everything_arrives_once_or_is_lost(reorder: float, loss: float, seed: str) -> None:
    arrived, lost, network = travel(Weather(reorder, loss), seed)
    assert sorted(arrived + lost) == list(range(200))
    for at, n in enumerate(arrived):
        assert sum(later > n for later in arrived[:at]) <= OVERTAKEN_BY_MAX
    late = sum(any(later > n for later in arrived[:at]) for at, n in enumerate(arrived))
    assert late <= network.reordered
    assert travel(Weather(reorder, loss), seed)[:2] == (arrived, lost)


def test_fair_weather_changes_nothing_and_foul_weather_something() -> None:
    assert travel(Weather(), "a")[0] == list(range(200))
    arrived, lost, network = travel(Weather(reorder=20, loss=10), "a")
    assert 5 <= len(lost) <= 40
    assert network.reordered > 10
    assert arrived != sorted(arrived)
