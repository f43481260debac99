"""What is prepared is what will be asked for."""

from __future__ import annotations

from gateway.conversation.profile import Profile
from gateway.conversation.repertoire import repertoire


def test_greetings_come_first_and_each_clause_once() -> None:
    one = Profile(business_name="One", language="en", greeting={"en": "Hi, {business}. Welcome."})
    two = Profile(business_name="Two", language="en", voice="marin", consent={"en": "We record."})
    found = repertoire([one, two], ["en", "ru"])
    assert found[:3] == [
        ("Hi, One.", "en", ""),
        ("Welcome.", "en", ""),
        ("Hello, you have reached Two.", "en", "marin"),
    ]
    assert found[3] == ("We record.", "en", "marin")
    assert ("How can I help you?", "en", "") in found
    assert len(found) == len(set(found))
    assert not any("{" in text for text, _, _ in found)


def test_only_languages_that_are_spoken() -> None:
    profile = Profile(business_name="One", language="auto")
    assert {language for _, language, _ in repertoire([profile], ["ru", "en"])} == {"en", "ru"}
    assert repertoire([profile], ["ru", "en"])[0][1] == "en"
    assert repertoire([Profile(business_name="One", language="ar")], ["en"]) == []
