from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation.language import LANGUAGES, ReplyLanguage, normalise


@pytest.mark.parametrize(
    ("hint", "language"),
    [
        ("en-US", "en"),
        ("EN", "en"),
        ("ru_RU", "ru"),
        (" ar-SA ", "ar"),
        ("Russian", "ru"),
        ("arabic", "ar"),
        ("auto", ""),
        ("", ""),
        ("fr", ""),
        ("english please", ""),
    ],
)
def test_hints(hint: str, language: str) -> None:
    assert normalise(hint) == language


@given(st.text())
def test_any_hint_is_a_language_or_nothing(hint: str) -> None:
    assert normalise(hint) in ("", *LANGUAGES)


def test_a_hint_is_an_order() -> None:
    language = ReplyLanguage("ru-RU")
    assert language.transcription_hint == "ru"
    assert [language.heard("en", 5_000) for _ in range(5)] == ["ru"] * 5


def test_without_a_hint_the_first_long_utterance_decides() -> None:
    language = ReplyLanguage("auto", "ar")
    assert (language.current, language.transcription_hint) == ("ar", "")
    assert language.heard("ru", 1_200) == "ru"


def test_short_utterances_must_agree() -> None:
    language = ReplyLanguage("auto")
    assert language.heard("ru", 400) == "en"
    assert language.heard("ar", 400) == "en"
    assert language.heard("ru", 400) == "en"
    assert language.heard("ru", 400) == "ru"


def test_a_caller_who_goes_on_in_another_language_is_followed() -> None:
    language = ReplyLanguage("")
    language.heard("en", 2_000)
    assert language.heard("ar", 2_000) == "en"
    assert language.heard("en", 2_000) == "en"
    assert language.heard("ar", 2_000) == "en"
    assert language.heard("ar", 2_000) == "ar"
    assert language.transcription_hint == ""


def test_what_we_do_not_speak_changes_nothing() -> None:
    language = ReplyLanguage("fr", "klingon")
    assert language.current == "en"
    assert language.heard("fr", 9_000) == "en"
    assert language.heard("", 9_000) == "en"


@given(st.lists(st.tuples(st.sampled_from(["en", "ru", "ar", "de", ""]), st.integers(0, 5_000))))
def test_the_reply_is_always_in_a_language_that_we_speak(heard: list[tuple[str, int]]) -> None:
    language = ReplyLanguage("auto")
    for detected, speech_ms in heard:
        before = language.current
        after = language.heard(detected, speech_ms)
        assert after == language.current
        assert after in (before, detected)
