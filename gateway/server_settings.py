"""Types of the settings that name servers: what can be no address is refused at the start."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

#: A provider base URL with this value means the supervised local speech server.
LOCAL = "local"
OPENAI = "https://api.openai.com/v1"


def in_order(text: str) -> tuple[str, ...]:
    """The entries of a comma-separated list in which places count: an empty one is ""."""
    return tuple(entry.strip() for entry in text.split(","))


def is_openai(urls: str) -> bool:
    """Whether a server of OpenAI's own is among these."""
    hosts = (urlsplit(url).hostname or "" for url in in_order(urls))
    return any(host == "api.openai.com" or host.endswith(".api.openai.com") for host in hosts)


def _is_url(value: str) -> bool:
    return value.startswith(("http://", "https://"))


def _speech_urls(value: str) -> str:
    if not all(url == LOCAL or _is_url(url) for url in in_order(value)):
        raise ValueError("must be `local` or begin with http:// or https://")
    return value


def _urls(value: str) -> str:
    if not all(map(_is_url, in_order(value))):
        raise ValueError("must begin with http:// or https://")
    return value


def _url(value: str) -> str:
    if not _is_url(value):
        raise ValueError("must begin with http:// or https://")
    return value


def _web_address(value: str) -> str:
    return _url(value) if value else value


def _account(value: str) -> str:
    if value and not (value.startswith("AC") and value.isalnum() and value.isascii()):
        raise ValueError("must begin with AC, as in Twilio's console")
    return value


SpeechUrls = Annotated[str, AfterValidator(_speech_urls)]
Urls = Annotated[str, AfterValidator(_urls)]
Url = Annotated[str, AfterValidator(_url)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
TwilioAccount = Annotated[str, AfterValidator(_account)]
