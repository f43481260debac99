"""What the receptionist of one called number knows and says. Pure: ``parse`` text, ``choose`` one.

A profile is a TOML file that people edit by hand, so every mistake is told with its key: an
unknown key is an error (with the nearest known one), never ignored. ``profiles/default.toml``
documents each key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import TypeVar

from gateway.conversation.language import LANGUAGES
from gateway.conversation.lexicon import placeholders
from gateway.errors import ConfigurationError

T = TypeVar("T")

#: The profile for every number that has none of its own.
DEFAULT = "default"

_SENTENCE_CHARS_MAX = 1_000
_TEXT_CHARS_MAX = 20_000
_ENTRIES_MAX = 200
_KEYWORDS_MAX = 50
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_QUESTIONS = ("offer", "reason", "name", "number")
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d"
_HOURS = re.compile(rf"closed|{_TIME}-{_TIME}(?:, ?{_TIME}-{_TIME})*")
_PHONE_NUMBER = re.compile(r"\+?\d{3,15}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One receptionist. Sentences are keyed by language; those that are absent have defaults.

    ``questions`` maps a language to texts for the message taker's sentences (offer, reason, name,
    number). ``transfer_targets`` maps a spoken name to the number that it may be put through to.
    """

    business_name: str
    business_names: Mapping[str, str] = field(default_factory=dict)
    language: str = "auto"
    voice: str = ""
    greeting: Mapping[str, str] = field(default_factory=dict)
    consent: Mapping[str, str] = field(default_factory=dict)
    instructions: str = ""
    facts: tuple[str, ...] = ()
    opening_hours: Mapping[str, str] = field(default_factory=dict)
    questions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    transfer_targets: Mapping[str, str] = field(default_factory=dict)

    def business(self, language: str) -> str:
        """The business's name as it is said in a language."""
        return self.business_names.get(language, self.business_name)

    @property
    def keywords(self) -> tuple[str, ...]:
        """Names that callers are likely to say."""
        names = (self.business_name, *self.business_names.values(), *self.transfer_targets)
        return tuple(dict.fromkeys(names))[:_KEYWORDS_MAX]

    def transfer_number(self, target: str) -> str:
        """The number a target may be put through to, named by its name or number; "" for none."""
        wanted, digits = target.strip().casefold(), number_key(target)
        for name, number in self.transfer_targets.items():
            if name.casefold() == wanted or (digits and number_key(number) == digits):
                return number
        return ""


def parse(text: str) -> Profile:
    """A profile from TOML; ``ConfigurationError`` names each key that is wrong, a line each."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"not valid TOML: {error}") from error
    if "business_name" not in data:
        data["business_name"] = None  # the first fault of all
    values = _checked("", data, _KEYS, lambda key, value: _KEYS[key](key, value))
    return Profile(**values)  # type: ignore[arg-type] # each entry of _KEYS returns its field's type


def choose(profiles: Mapping[str, Profile], called_number: str) -> Profile:
    """The profile of a called number, else the default one (which must be there)."""
    return profiles.get(number_key(called_number), profiles[DEFAULT])


def number_key(number: str) -> str:
    """What telephone numbers are compared by: their digits, without "+", spaces or hyphens."""
    return "".join(char for char in number if char in "0123456789")


def _checked(
    prefix: str,
    table: Mapping[str, object],
    known: Iterable[str],
    check: Callable[[str, object], T],
) -> dict[str, T]:
    """Each entry of a table, checked; all faults together, a line each. No ``known``: any key."""
    names, values, faults = tuple(known), dict[str, T](), list[str]()
    for key, value in table.items():
        try:
            if names and key not in names:
                raise ConfigurationError(f"{prefix}{key}: unknown key; {_hint(key, names)}")
            values[key] = check(key, value)
        except ConfigurationError as error:
            faults.append(str(error))
    if faults:
        raise ConfigurationError("\n".join(faults))
    return values


def _hint(key: str, known: Sequence[str]) -> str:
    near = get_close_matches(key, known, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


def _text(key: str, value: object, chars_max: int = _TEXT_CHARS_MAX) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > chars_max:
        raise ConfigurationError(f"{key}: must be text of 1 to {chars_max} characters")
    return value.strip()


def _voice(key: str, value: object) -> str:
    return "" if value == "" else _text(key, value, _SENTENCE_CHARS_MAX)


def _instructions(key: str, value: object) -> str:
    return "" if value == "" else _text(key, value)


def _name(key: str, value: object) -> str:
    if value is None:
        raise ConfigurationError(f"{key}: is missing")
    return _text(key, value, _SENTENCE_CHARS_MAX)


def _language(key: str, value: object) -> str:
    if value not in (*LANGUAGES, "auto"):
        raise ConfigurationError(f"{key}: must be one of {', '.join(LANGUAGES)} or auto")
    return str(value)


def _sentence(key: str, value: object) -> str:
    text = _text(key, value, _SENTENCE_CHARS_MAX)
    try:
        unknown = placeholders(text) - {"business"}
    except ValueError as error:
        raise ConfigurationError(f"{key}: {error}; write {{{{ and }}}} for braces") from error
    if unknown:
        raise ConfigurationError(f"{key}: only {{business}} is filled in, not {sorted(unknown)}")
    return text


def _table(key: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, dict) or len(value) > _ENTRIES_MAX:
        raise ConfigurationError(f"{key}: must be a table of at most {_ENTRIES_MAX} entries")
    return value


def _of_languages(
    check: Callable[[str, object], str],
) -> Callable[[str, object], Mapping[str, str]]:
    def parse_table(key: str, value: object) -> Mapping[str, str]:
        return _checked(
            f"{key}.",
            _table(key, value),
            LANGUAGES,
            lambda language, text: check(f"{key}.{language}", text),
        )

    return parse_table


def _facts(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _ENTRIES_MAX:
        raise ConfigurationError(f"{key}: must be a list of at most {_ENTRIES_MAX} texts")
    return tuple(
        _text(f"{key}[{index}]", fact, _SENTENCE_CHARS_MAX) for index, fact in enumerate(value)
    )


def _opening_hours(key: str, value: object) -> Mapping[str, str]:
    def hours(day: str, text: object) -> str:
        if not isinstance(text, str) or not _HOURS.fullmatch(text):
            raise ConfigurationError(
                f'{key}.{day}: must be like "09:00-17:00", "09:00-12:00, 13:00-17:00" or "closed"'
            )
        return text

    return _checked(f"{key}.", _table(key, value), _DAYS, hours)


def _questions(key: str, value: object) -> Mapping[str, Mapping[str, str]]:
    def of_language(language: str, texts: object) -> Mapping[str, str]:
        inner = f"{key}.{language}"
        return _checked(
            f"{inner}.",
            _table(inner, texts),
            _QUESTIONS,
            lambda question, text: _sentence(f"{inner}.{question}", text),
        )

    return _checked(f"{key}.", _table(key, value), LANGUAGES, of_language)


def _transfer_targets(key: str, value: object) -> Mapping[str, str]:
    def number(target: str, text: object) -> str:
        if not isinstance(text, str) or not _PHONE_NUMBER.fullmatch(text):
            raise ConfigurationError(f'{key}.{target}: must be a number like "+15551234567"')
        return text

    return _checked(f"{key}.", _table(key, value), (), number)


_KEYS: Mapping[str, Callable[[str, object], object]] = {
    "business_name": _name,
    "business_names": _of_languages(_name),
    "language": _language,
    "voice": _voice,
    "greeting": _of_languages(_sentence),
    "consent": _of_languages(_sentence),
    "instructions": _instructions,
    "facts": _facts,
    "opening_hours": _opening_hours,
    "questions": _questions,
    "transfer_targets": _transfer_targets,
}
