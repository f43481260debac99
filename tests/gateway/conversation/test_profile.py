from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation.profile import Profile, choose, number_key, parse
from gateway.errors import ConfigurationError

WHOLE = """
business_name = "Example"
language = "ru"
voice = "nova"
instructions = "Be brief."
facts = ["Parking is free.", "We are closed in August."]
[business_names]
ru = "Пример"
[greeting]
en = "Hello from {business}."
[consent]
en = "This call is recorded {{for training}}."
[questions.en]
reason = "How can we help?"
[opening_hours]
mon = "09:00-12:00, 13:00-17:00"
sun = "closed"
[transfer_targets]
sales = "+15551234567"
"""


def test_every_key_reaches_its_field() -> None:
    assert parse(WHOLE) == Profile(
        business_name="Example",
        language="ru",
        voice="nova",
        instructions="Be brief.",
        facts=("Parking is free.", "We are closed in August."),
        business_names={"ru": "Пример"},
        greeting={"en": "Hello from {business}."},
        consent={"en": "This call is recorded {{for training}}."},
        questions={"en": {"reason": "How can we help?"}},
        opening_hours={"mon": "09:00-12:00, 13:00-17:00", "sun": "closed"},
        transfer_targets={"sales": "+15551234567"},
    )


def test_only_the_name_is_required() -> None:
    profile = parse('business_name = "Example"')
    assert profile == Profile(business_name="Example")
    assert profile.business("ru") == "Example"
    assert parse(WHOLE).business("ru") == "Пример"


@pytest.mark.parametrize(
    ("toml", "fault"),
    [
        ("", "business_name: is missing"),
        ("business_name = 5", "business_name: must be text"),
        ('business_name = " "', "business_name: must be text"),
        ("business_name = ", "not valid TOML"),
        ('busines_name = "x"', "busines_name: unknown key; did you mean business_name?"),
        ("zzz = 1", "zzz: unknown key; known are business_name"),
        ('language = "fr"', "language: must be one of en, ar, ru or auto"),
        ("language = []", "language: must be one of"),
        ("voice = 1", "voice: must be text"),
        ('greeting = "hello"', "greeting: must be a table"),
        ('[greeting]\nfr = "x"', "greeting.fr: unknown key; known are en, ar, ru"),
        ("[greeting]\nen = 1", "greeting.en: must be text"),
        ('[greeting]\nen = "{name}"', "greeting.en: only {business} is filled in, not ['name']"),
        ('[greeting]\nen = "{}"', "greeting.en: only {business}"),
        ('[greeting]\nen = "{business!r}"', "greeting.en: {business} must hold a name"),
        ('[greeting]\nen = "{business:>99}"', "greeting.en: {business} must hold a name"),
        ('[greeting]\nen = "{business"', "greeting.en: expected '}'"),
        ('[consent]\nen = "a } b"', "consent.en: Single '}'"),
        ("[questions]\nen = 1", "questions.en: must be a table"),
        ('[questions.en]\nnmae = "x"', "questions.en.nmae: unknown key; did you mean name?"),
        ('[questions.en]\nname = ""', "questions.en.name: must be text"),
        ('[opening_hours]\nmonday = "closed"', "opening_hours.monday: unknown key"),
        ('[opening_hours]\nmon = "9-17"', 'opening_hours.mon: must be like "09:00-17:00"'),
        ('[opening_hours]\nmon = "09:00-25:00"', "opening_hours.mon: must be like"),
        ('[transfer_targets]\nsales = "555-CALL"', "transfer_targets.sales: must be a number"),
        ("[transfer_targets]\nsales = 5551234", "transfer_targets.sales: must be a number"),
        ('facts = "x"', "facts: must be a list"),
        ('facts = ["x", 1]', "facts[1]: must be text"),
    ],
)
def test_a_mistake_is_told_with_its_key(toml: str, fault: str) -> None:
    whole = toml if "name =" in toml.split("\n")[0] or not toml else f'business_name = "x"\n{toml}'
    with pytest.raises(ConfigurationError, match="^" + re.escape(fault)):
        parse(whole)


@given(st.text() | st.text("abn_={}[]\"'\n.12 "))
def test_any_text_is_a_profile_or_a_sentence_about_it(text: str) -> None:
    with contextlib.suppress(ConfigurationError):
        assert parse(text).business_name


@pytest.mark.parametrize(
    ("called_number", "business_name"),
    [
        ("+15551234567", "mine"),
        ("1 (555) 123-4567", "mine"),
        ("+15550000000", "default"),
        ("", "default"),
        ("default", "default"),
        ("sip:reception@example.com", "default"),
    ],
)
def test_a_number_chooses_its_profile(called_number: str, business_name: str) -> None:
    profiles = {
        "default": Profile(business_name="default"),
        number_key("+15551234567"): Profile(business_name="mine"),
    }
    assert choose(profiles, called_number).business_name == business_name
