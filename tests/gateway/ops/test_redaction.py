"""Nothing personal or secret gets through, whatever it is wrapped in."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ops.redaction import REDACTED, STRING_CHARS_MAX, Redactor, last_digits, secrets_of
from gateway.settings import load_settings

SECRET = "sk-canary-7f3a9"
SPEECH = "my cat is called Behemoth"

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)


def wrapped(inner: str) -> st.SearchStrategy[object]:
    """Any small structure that holds ``inner`` somewhere."""
    leaf = st.just(inner) | st.text(max_size=5).map(lambda text: f"{text}{inner}{text}")
    return st.recursive(
        leaf,
        lambda below: (
            st.lists(below, min_size=1, max_size=3)
            | st.dictionaries(st.text(max_size=8), below, min_size=1, max_size=3)
            | st.tuples(below, plain)
            | st.builds(lambda value: {inner: value}, below)
        ),
        max_leaves=5,
    )


@given(st.text(max_size=10), wrapped(SECRET))
def test_a_known_secret_never_gets_through(name: str, value: object) -> None:
    redactor = Redactor(log_transcripts=True, secrets=(SECRET,))
    assert SECRET not in repr(redactor.value(name, value))


@given(
    st.sampled_from(["text", "Transcript", "heard_text", "digits", "_text", "fields", "last-text"]),
    wrapped(SPEECH),
)
def test_speech_gets_through_only_when_asked_for(name: str, value: object) -> None:
    assert SPEECH not in repr(Redactor().fields({name: value}))
    assert Redactor().value(name, value) == REDACTED
    shown = Redactor(log_transcripts=True).fields({name: SPEECH})
    assert shown == {name: SPEECH}


@given(st.from_regex(r"\+[0-9]{7,15}", fullmatch=True), st.text(alphabet="abc .:", max_size=20))
def test_a_number_is_cut_to_two_digits_wherever_it_stands(number: str, around: str) -> None:
    for name in ("caller_number", "called_number", "from_", "to", "phone"):
        assert Redactor().value(name, number) == "…" + number[-2:]
    in_message = Redactor().value("error", f"{around} {number} {around}")
    assert in_message == f"{around} …{number[-2:]} {around}"


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "token",
        "authorization",
        "Authorization",
        "auth-token",
        "openai_api_key",
        "cookie",
    ],
)
def test_secret_fields_never_appear(name: str) -> None:
    assert Redactor(log_transcripts=True).fields({name: "abc"}) == {name: REDACTED}
    assert Redactor().fields({"headers": {name: "abc"}}) == {"headers": {name: REDACTED}}


@pytest.mark.parametrize(
    ("number", "shown"),
    [("+4915112345642", "…42"), ("030 / 123 45", "…45"), ("anonymous", "…"), ("1234", "…")],
)
def test_last_digits(number: str, shown: str) -> None:
    assert last_digits(number) == shown


@given(st.dictionaries(st.text(max_size=8), plain | st.binary() | st.just(object()), max_size=5))
def test_ordinary_fields_keep_their_names_and_simple_values(fields: dict[str, object]) -> None:
    shown = Redactor().fields(fields)
    assert list(shown) == list(fields)
    for name, value in fields.items():
        if shown[name] != REDACTED and isinstance(value, bool | int | float | None):
            assert shown[name] is value or str(shown[name]).startswith("…")


def test_long_strings_are_cut_and_deep_structures_flattened() -> None:
    shown = Redactor().value("reason", "x" * (STRING_CHARS_MAX + 7))
    assert shown == "x" * STRING_CHARS_MAX + "… [7 more]"
    endless: list[object] = []
    endless.append(endless)
    orjson.dumps(Redactor().value("loop", endless))


def test_the_end_of_a_stack_trace_is_kept() -> None:
    shown = Redactor().value("exception", "x" * 100_000 + "ValueError: the point")
    assert str(shown).endswith("ValueError: the point")


def test_secrets_of_settings_are_found() -> None:
    settings = load_settings(None, openai_api_key=SECRET)
    assert SECRET in secrets_of(settings)
