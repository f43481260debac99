"""What is said in many calls, word for word: greetings, questions, goodbyes. Pure.

Text-to-speech can have these ready before anybody calls. They are given as the clauses that the
pipeline will ask for, the first heard first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gateway.conversation.clauses import ClauseSplitter
from gateway.conversation.language import LANGUAGES
from gateway.conversation.lexicon import SENTENCES, lexicon
from gateway.conversation.message_form import render
from gateway.conversation.profile import Profile

#: A clause, its language, the voice ("" = the usual one).
Clause = tuple[str, str, str]


def repertoire(profiles: Iterable[Profile], spoken: Iterable[str]) -> list[Clause]:
    """Each clause once: the greetings of all profiles, then the fixed sentences."""
    known, profiles = sorted(spoken), list(profiles)
    found: dict[Clause, None] = {}
    for sentences in (_greetings, _sentences):
        for profile in profiles:
            for language in _languages(profile, known):
                for sentence in sentences(profile, language):
                    text = render(sentence, {}, language, profile.business(language))
                    found.update(dict.fromkeys(_clauses(text, language, profile.voice)))
    return list(found)


def _languages(profile: Profile, spoken: list[str]) -> list[str]:
    """The languages a profile's calls may be in; the one they are likely to begin in first."""
    if profile.language in LANGUAGES:
        return [profile.language] if profile.language in spoken else []
    return sorted(spoken, key=lambda language: language != "en")


def _greetings(profile: Profile, language: str) -> Iterator[str]:
    yield profile.greeting.get(language) or lexicon(language).sentences["greeting"]
    if language in profile.consent:
        yield profile.consent[language]


def _sentences(profile: Profile, language: str) -> Iterator[str]:
    """Those that nothing has to be filled into, and the profile's own."""
    yield from profile.questions.get(language, {}).values()
    sentences = lexicon(language).sentences
    yield from (sentences[name] for name, needs in SENTENCES.items() if not needs)


def _clauses(text: str, language: str, voice: str) -> Iterator[Clause]:
    splitter = ClauseSplitter()
    for clause in splitter.feed(text) + splitter.flush():
        yield clause, language, voice
