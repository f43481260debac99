"""What of a call may appear in a log line: a pure function of field names and values.

Three kinds of fields are personal or secret, and each has its rule. *Speech* (what was said or
typed) appears only when the operator asked for it. *Numbers* show their last two digits, enough
to find a call in a list, too little to ring anybody up. *Secrets* never appear. Names are
compared in lower case, without underscores at their ends and with ``-`` as ``_``, also inside
nested mappings. Because a secret or a number can also hide inside an error message, every string
is searched for the known secrets and for numbers in E.164 form (``+`` and 7 to 15 digits).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache

from pydantic import SecretStr

from gateway.settings import Settings

REDACTED = "[redacted]"

#: Longest string that is logged whole; a stack trace may be several times that.
STRING_CHARS_MAX = 4_096
EXCEPTION_CHARS_MAX = 32_768
DEPTH_MAX = 4
ITEMS_MAX = 64

_SPEECH = frozenset({"text", "transcript", "said", "heard", "digit", "digits", "fields", "prompt"})
_SPEECH_ENDS = ("_text", "_transcript", "_digits")
_NUMBERS = frozenset(
    {"caller_number", "called_number", "phone_number", "number", "phone", "caller", "from", "to"}
)
_SECRETS = frozenset({"api_key", "token", "authorization", "password", "secret", "cookie"})
_SECRET_ENDS = ("_key", "_token", "_secret", "_password", "_signature")
_E164 = re.compile(r"\+[0-9]{7,15}(?![0-9])")
_DIGIT = re.compile(r"[0-9]")
_NUMBER_DIGITS_MIN = 5


class _Kind(Enum):
    """What a field may hold, by its name."""

    PLAIN = auto()
    SECRET = auto()
    SPEECH = auto()
    NUMBER = auto()


@lru_cache(maxsize=1024)  # the names of our own fields are few; a peer's may be anything
def _kind_of(name: str) -> _Kind:
    plain = name.lower().replace("-", "_").strip("_")
    if plain in _SECRETS or plain.endswith(_SECRET_ENDS):
        return _Kind.SECRET
    if plain in _SPEECH or plain.endswith(_SPEECH_ENDS):
        return _Kind.SPEECH
    return _Kind.NUMBER if plain in _NUMBERS else _Kind.PLAIN


@dataclass(frozen=True, slots=True)
class Redactor:
    """The rules of one process; ``secrets`` are values that must not appear anywhere."""

    log_transcripts: bool = False
    secrets: tuple[str, ...] = ()

    def fields(self, fields: Mapping[str, object]) -> dict[str, object]:
        """The same fields in the same order, fit to be logged."""
        return {name: self.value(name, value) for name, value in fields.items()}

    def value(self, name: str, value: object, depth: int = 0) -> object:
        """One field's value, fit to be logged: JSON types as they are, the rest as a string."""
        kind = _kind_of(name)
        if kind is _Kind.SECRET or (kind is _Kind.SPEECH and not self.log_transcripts):
            return REDACTED
        if kind is _Kind.NUMBER:
            return last_digits(str(value))
        return self._cleaned(name, value, depth)

    def text(self, text: str, chars_max: int = STRING_CHARS_MAX) -> str:
        """A string without known secrets and full numbers, cut to a length."""
        for secret in self.secrets:
            text = text.replace(secret, REDACTED)
        if "+" in text:
            text = _E164.sub(lambda match: last_digits(match[0]), text)
        if len(text) > chars_max:
            text = f"{text[:chars_max]}… [{len(text) - chars_max} more]"
        return text

    def _cleaned(self, name: str, value: object, depth: int) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        if depth < DEPTH_MAX and isinstance(value, Mapping):
            items = list(value.items())[:ITEMS_MAX]
            return {
                self.text(str(key)): self.value(str(key), item, depth + 1) for key, item in items
            }
        if depth < DEPTH_MAX and isinstance(value, list | tuple | set | frozenset):
            return [self.value(name, item, depth + 1) for item in list(value)[:ITEMS_MAX]]
        if name == "exception":  # the end of a stack trace tells most
            return self.text(str(value)[-EXCEPTION_CHARS_MAX:], EXCEPTION_CHARS_MAX)
        return self.text(str(value))


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """The values of all secret settings."""
    values = (getattr(settings, name) for name in type(settings).model_fields)
    return tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))


def last_digits(number: str) -> str:
    """``+4915112345642`` as ``…42``; ``…`` alone for what is too short to hide anything."""
    digits = _DIGIT.findall(number)
    return "…" + "".join(digits[-2:]) if len(digits) >= _NUMBER_DIGITS_MIN else "…"
