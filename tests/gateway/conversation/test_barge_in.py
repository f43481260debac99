from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation.barge_in import BargeIn, is_acknowledgement
from gateway.conversation.language import LANGUAGES

# One letter a frame: voice or silence over the assistant, x = the assistant is not heard.
FRAMES = st.lists(
    st.tuples(st.sampled_from("VVsx"), st.integers(1, 9)).map(lambda run: run[0] * run[1]),
    max_size=12,
).map("".join)


def _feed(barge_in: BargeIn, frames: str) -> list[bool]:
    return [barge_in.feed(voiced=frame != "s", assistant_audible=frame != "x") for frame in frames]


def test_200_ms_of_speech_interrupt_and_go_on_interrupting() -> None:
    assert _feed(BargeIn(), "V" * 12) == [False] * 9 + [True] * 3


def test_short_gaps_are_bridged_and_long_ones_are_not() -> None:
    assert _feed(BargeIn(), "VVVVVssssVVVVV")[-1]
    assert not _feed(BargeIn(), "VVVVVsssssVVVVV")[-1]


def test_speech_while_the_assistant_is_silent_interrupts_nothing() -> None:
    barge_in = BargeIn()
    assert not any(_feed(barge_in, "x" * 50))
    assert not any(_feed(barge_in, "V" * 9))


@given(FRAMES)
def test_it_agrees_with_a_search_of_the_whole_history(frames: str) -> None:
    for end, held in enumerate(_feed(BargeIn(), frames), 1):
        since = re.split("x|s{5,}", frames[:end])[-1]
        assert held == (since.count("V") >= 10)


@pytest.mark.parametrize(("after_ms", "frames"), [(20, 1), (30, 2), (200, 10), (210, 11)])
def test_the_setting_rounds_up_to_whole_frames(after_ms: int, frames: int) -> None:
    assert _feed(BargeIn(after_ms), "V" * 20).index(True) == frames - 1


def test_a_setting_below_one_frame_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 20"):
        BargeIn(10)


def test_reset_forgets() -> None:
    barge_in = BargeIn()
    _feed(barge_in, "V" * 10)
    barge_in.reset()
    assert not any(_feed(barge_in, "V" * 9))


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Mhm."),
        ("en", "Okay, right."),
        ("en", "uh-huh"),
        ("ru", "Угу."),
        ("ru", "Да, да."),
        ("ar", "نعم"),
        ("ar", "نَعَم، تَمَام"),
    ],
)
def test_acknowledgements(language: str, text: str) -> None:
    assert is_acknowledgement(text, language)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", ""),
        ("en", "okay stop"),
        ("en", "no"),
        ("ru", "подождите"),
        ("ru", "нет"),
        ("ar", "لا"),
        ("ar", "لحظة من فضلك"),
    ],
)
def test_anything_else_is_a_turn(language: str, text: str) -> None:
    assert not is_acknowledgement(text, language)


@given(st.text(), st.sampled_from([*LANGUAGES, "", "xx"]))
def test_any_text_in_any_language_is_answered(text: str, language: str) -> None:
    assert is_acknowledgement(text, language) in (True, False)
