"""The first words of a call, whoever answers: the greeting, and the consent sentence if any."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.conversation.language import FALLBACK, normalise
from gateway.conversation.lexicon import lexicon
from gateway.conversation.message_form import render
from gateway.conversation.profile import Profile
from gateway.responders.base import CallInfo, Say


def first_language(profile: Profile, call: CallInfo) -> str:
    """The language a call begins in."""
    return normalise(call.language) or normalise(profile.language) or FALLBACK


def opening(profile: Profile, language: str) -> Iterator[Say]:
    """The profile's own sentences, or those of the language."""
    greeting = profile.greeting.get(language) or lexicon(language).sentences["greeting"]
    yield say(greeting, profile, language)
    yield from consent(profile, language)


def consent(profile: Profile, language: str) -> Iterator[Say]:
    """What the law may ask to be said; nothing unless the profile has it."""
    sentence = profile.consent.get(language)
    if sentence:
        yield say(sentence, profile, language)


def say(sentence: str, profile: Profile, language: str) -> Say:
    """One sentence with the business's name filled in."""
    return Say(render(sentence, {}, language, profile.business(language)), language)
