"""Twilio's signature of a request, checked against the address that we were configured with.

Twilio signs the address it was given in TwiML or on its console, byte for byte, and after it each
form field of a webhook, name and value, in order of names; a WebSocket's upgrade has no fields and
its address begins with ``wss://``. The key is the account's auth token (SHA-1), or a shared key
(SHA-256) when a header says so (https://www.twilio.com/docs/usage/security). Nothing a peer sends
names the address: behind a proxy, ``Host`` and ``X-Forwarded-*`` are what somebody wrote.

Twilio has signed with and without the port over the years, so a standard port counts as none.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable, Iterator

SIGNATURE_HEADER = "x-twilio-signature"
SETTINGS_HEADER = "x-twilio-webhooks-signature-settings"

Fields = Iterable[tuple[str, str]]

_HASHES = {"HMAC_SHA1": "sha1", "HMAC_SHA256": "sha256"}
_STANDARD_PORTS = {"https": 443, "wss": 443, "http": 80, "ws": 80}


def sign(secret: str, url: str, fields: Fields = (), algorithm: str = "HMAC_SHA1") -> str:
    """The signature of a request; ``KeyError`` for an algorithm that is not Twilio's."""
    # A field that is there twice with the same value counts once.
    text = url + "".join(name + value for name, value in sorted(set(fields)))
    digest = hmac.digest(_bytes(secret), _bytes(text), _HASHES[algorithm])
    return base64.b64encode(digest).decode()


def is_genuine(
    given: str, secrets: Iterable[str], url: str, fields: Fields = (), settings: str = ""
) -> bool:
    """Whether one of the secrets makes the given signature; ``settings`` is the header's value."""
    algorithm = algorithm_of(settings)
    if algorithm not in _HASHES:
        return False
    fields, found = tuple(fields), False
    for secret in secrets:
        for spelling in spellings(url):
            expected = sign(secret, spelling, fields, algorithm)
            found |= hmac.compare_digest(_bytes(expected), _bytes(given))
    return found


def algorithm_of(settings: str) -> str:
    """The algorithm that a ``key=...,algorithm=...`` header names; SHA-1 where it names none."""
    for part in settings.split(","):
        name, _, value = part.partition("=")
        if name.strip() == "algorithm" and value.strip():
            return value.strip().upper()
    return "HMAC_SHA1"


def spellings(url: str) -> Iterator[str]:
    """An address as it is, and with or without its scheme's port where that makes no difference."""
    yield url
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    port = _STANDARD_PORTS.get(scheme)
    name, _, number = host.rpartition(":")
    if port is None:
        return
    if number == str(port):
        yield f"{scheme}{separator}{name}{slash}{path}"
    elif not name or not number.isdecimal():  # an IPv6 address has colons of its own
        yield f"{scheme}{separator}{host}:{port}{slash}{path}"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
