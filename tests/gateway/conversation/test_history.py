from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation.history import History, Role, heard_part
from gateway.limits import HISTORY_TURNS_MAX

TEXTS = st.text(st.sampled_from("ab я ع .\n"), max_size=60)


@given(TEXTS, st.integers(-10, 5_000), st.integers(-10, 5_000))
def test_what_was_heard_is_whole_words_from_the_beginning(
    text: str, heard_ms: int, total_ms: int
) -> None:
    heard = heard_part(text, heard_ms, total_ms)
    assert text.startswith(heard)
    assert heard.split() == text.split()[: len(heard.split())]


@given(TEXTS, st.integers(0, 2_000), st.integers(0, 2_000), st.integers(1, 2_000))
def test_more_audio_is_never_less_text(text: str, one: int, other: int, total: int) -> None:
    less, more = sorted((one, other))
    assert len(heard_part(text, less, total)) <= len(heard_part(text, more, total))


@pytest.mark.parametrize(
    ("heard_ms", "total_ms", "heard"),
    [
        (0, 1_000, ""),
        (200, 1_000, ""),
        (500, 1_000, "one"),
        (650, 1_000, "one two"),
        (1_000, 1_000, "one two three"),
        (1_200, 1_000, "one two three"),
        (100, 0, ""),
    ],
)
def test_the_share_of_the_audio_is_the_share_of_the_text(
    heard_ms: int, total_ms: int, heard: str
) -> None:
    assert heard_part("one two three", heard_ms, total_ms) == heard


def test_an_interruption_cuts_the_assistants_last_turn() -> None:
    history = History()
    assert history.interrupt(10, 100) is None
    history.add(Role.ASSISTANT, "first words")
    history.add(Role.CALLER, "wait please")
    history.add(Role.ASSISTANT, "one two three")
    history.add(Role.CALLER, "stop")
    cut = history.interrupt(600, 1_000)
    assert cut is not None
    assert (cut.text, cut.heard_text, cut.interrupted) == ("one two three", "one two", True)
    assert [turn.heard_text for turn in history.turns] == [
        "first words",
        "wait please",
        "one two",
        "stop",
    ]
    assert [turn.interrupted for turn in history.turns] == [False, False, True, False]


def test_the_oldest_turns_are_forgotten() -> None:
    history = History()
    for index in range(HISTORY_TURNS_MAX + 5):
        history.add(Role.CALLER, str(index))
    assert len(history.turns) == HISTORY_TURNS_MAX
    assert history.turns[0].text == "5"


def test_a_history_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        History(0)
