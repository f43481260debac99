"""Types of the settings that say who may call: what cannot guard a door is refused at the start."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit
from xml.etree import ElementTree

from pydantic import AfterValidator, FilePath, SecretStr

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(text: str) -> tuple[Network, ...]:
    """Addresses and networks of a list such as ``10.0.0.0/8,::1``; ``none`` are none."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    return tuple(map(ipaddress.ip_network, parts)) if parts != ["none"] else ()


def _networks(text: str) -> str:
    parse_networks(text)
    return text


def _page(value: str) -> str:
    parts = urlsplit(value)
    if value and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError("must begin with http:// or https:// and name a host")
    return value


def _public_url(value: str) -> str:
    parts = urlsplit(_page(value))
    if parts.query or parts.fragment or "@" in parts.netloc or value != value.strip():
        raise ValueError("is the address before our paths: no query, no fragment, no user")
    if parts.netloc != parts.netloc.lower():
        raise ValueError("must name the host in lower case: signatures are made of it")
    return value.rstrip("/")


def _token(value: SecretStr) -> SecretStr:
    secret = value.get_secret_value()
    if secret and not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{16,256}", secret):
        raise ValueError("must be 16 to 256 letters, digits or signs without separators")
    return value


def _twiml(path: Path) -> Path:
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except (OSError, ElementTree.ParseError) as error:
        raise ValueError(f"is no XML: {error}") from error
    if root.tag != "Response":
        raise ValueError("is no TwiML: it must be a <Response>")
    return path


def _number(value: str) -> str:
    if value and not re.fullmatch(r"\+[0-9]{3,15}", value):
        raise ValueError("must be a number such as +4930123456")
    return value


PageUrl = Annotated[str, AfterValidator(_page)]
PublicUrl = Annotated[str, AfterValidator(_public_url)]
Token = Annotated[SecretStr, AfterValidator(_token)]
Networks = Annotated[str, AfterValidator(_networks)]
TwimlPath = Annotated[FilePath, AfterValidator(_twiml)]
PhoneNumber = Annotated[str, AfterValidator(_number)]
