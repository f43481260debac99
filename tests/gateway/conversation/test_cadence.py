from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation.cadence import Cadence

VOICE = [-20.0] * 50
ROOM = -70.0


def cadence(voice: list[float], room: float = ROOM) -> Cadence:
    heard = Cadence()
    for level in voice:
        heard.feed(level, voiced=True)
    for _ in range(15):
        heard.feed(room, voiced=False)
    return heard


@pytest.mark.parametrize(
    ("end", "falls"),
    [
        ([-20.0] * 10, False),  # stopped at full strength
        ([-25.9] * 15, False),
        ([-26.0] * 15, True),  # half as loud
        ([*[-23.0] * 5, *[-26.0] * 10], True),
        ([-26.0] * 10, False),  # of a sudden: a soft word, with more to come
        ([-34.0] * 5, False),  # a word broken off
        ([-20.0 - n for n in range(13)], True),
        ([-14.0] * 10, False),  # louder than all before: an exclamation, or a word begun
    ],
)
def test_a_voice_that_comes_to_rest_is_told_from_one_that_stops(
    end: list[float], *, falls: bool
) -> None:
    assert cadence(VOICE + end).falls is falls


def test_what_the_voice_detector_hears_on_is_no_fall() -> None:
    assert not cadence([*VOICE, -55.0, -62.0, -70.0, -70.0, -70.0, -70.0]).falls
    assert cadence([*VOICE, *[-27.0] * 15, -62.0, -70.0, -70.0]).falls


def test_in_a_loud_room_the_words_alone_decide() -> None:
    assert not cadence(VOICE, room=-51.0).falls
    assert cadence(VOICE, room=-49.0).falls


def test_a_pause_inside_is_no_part_of_the_voice() -> None:
    heard = cadence(VOICE)
    for level in [-20.0] * 10:
        heard.feed(level, voiced=True)
    assert not heard.falls


def test_each_utterance_is_judged_by_itself() -> None:
    heard = cadence(VOICE)
    heard.forget()
    for level in [-30.0] * 30:
        heard.feed(level, voiced=True)
    assert not heard.falls, "softer than the last one, but level"


def test_nothing_heard_is_nothing_against_the_words() -> None:
    assert Cadence().falls


@given(
    st.lists(st.floats(-90, 0), min_size=1, max_size=200),
    st.lists(st.floats(-90, 0), max_size=20),
    st.integers(-20, 20),
)
def test_how_loud_the_line_is_changes_nothing(
    voice: list[float], room: list[float], gain: int
) -> None:
    soft, loud = Cadence(), Cadence()
    for levels, voiced in ((voice, True), (room, False)):
        for level in levels:
            soft.feed(round(level), voiced=voiced)
            loud.feed(round(level) + gain, voiced=voiced)
    assert soft.falls is loud.falls
