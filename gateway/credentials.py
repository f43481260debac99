"""Who may call: which wires a peer may speak, judged by what it shows before the handshake. Pure.

Each wire has a credential of its own: Twilio signs its requests, Telnyx brings the token it was
given, a plain client a bearer token (a browser, which cannot set headers, brings it as a WebSocket
subprotocol). A wire whose credential is configured demands it from everybody, also from this
machine: behind a proxy all peers look as if they were on it. A wire without one serves this
machine only, unless INSECURE_OPEN says otherwise.

The first segment of the path may name the wire (``/twilio``, ``/twilio/<token>``, ``/telnyx``,
``/plain``); on any other path the first message tells, so the verdict is a set of wires, and a
message of another wire ends the connection.

*This machine*: the peer is on loopback and nobody says that it asks for another. A forwarding
header takes rights away, whoever wrote it; it gives some back only when a trusted proxy wrote it.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.wire.detect import WireName, wire_of_path
from gateway.wire.signature import SETTINGS_HEADER, SIGNATURE_HEADER, Fields, is_genuine

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Headers = Mapping[str, str]

NAMES: tuple[WireName, ...] = ("twilio", "telnyx", "plain")
TELNYX_HEADER = "x-telnyx-streaming-auth-token"
#: Beside its subprotocol ``plain`` a client may offer this, followed by its token.
BEARER_SUBPROTOCOL = "bearer."

_FORWARDED = ("x-forwarded-for", "forwarded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the operator configured; an empty credential is none. Secrets do not print."""

    public_url: str = ""
    twilio_secrets: tuple[str, ...] = field(default=(), repr=False)
    telnyx_token: str = field(default="", repr=False)
    plain_token: str = field(default="", repr=False)
    insecure_open: bool = False
    origins: frozenset[str] = frozenset()
    proxies: tuple[Network, ...] = ()

    def has_credential(self, wire: WireName) -> bool:
        """Whether a wire demands something."""
        held = {
            "twilio": self.twilio_secrets,
            "telnyx": self.telnyx_token,
            "plain": self.plain_token,
        }
        return bool(held[wire])

    @property
    def stream_url(self) -> str:
        """The public address as a WebSocket's."""
        return self.public_url.replace("http", "ws", 1)


@dataclass(frozen=True, slots=True)
class Asking:
    """What a peer shows: its address, the raw target and the headers, names in lower case."""

    peer_host: str
    target: str
    headers: Headers


class Verdict(NamedTuple):
    """The wires a peer may speak (none, and the sentence to refuse it with), and its token."""

    wires: frozenset[WireName]
    refusal: str = ""
    token: str = ""


_NOBODY: frozenset[WireName] = frozenset()
_WANTS: Mapping[WireName, str] = {
    "twilio": "X-Twilio-Signature is missing or not of this address",
    "telnyx": "the stream's token is missing or wrong",
    "plain": "the bearer token is missing or wrong",
}
_LOCAL_ONLY = "without credentials only this machine is served"


def judge_upgrade(rules: Rules, asking: Asking) -> Verdict:
    """Which wires may be spoken on a WebSocket."""
    origin = asking.headers.get("origin")
    if origin is not None and origin not in rules.origins:
        return Verdict(_NOBODY, "this origin is not allowed")
    asked = wires_of(asking.target)
    local = rules.insecure_open or is_local(rules, asking)
    wires = frozenset(wire for wire in asked if _lets_in(rules, wire, asking, local=local))
    if not wires:
        return Verdict(_NOBODY, _why(rules, asked))
    return Verdict(wires, token=token_of(asking.target))


def judge_webhook(rules: Rules, asking: Asking, fields: Fields) -> str:
    """Why a webhook of Twilio's is refused; "" when it is not."""
    if rules.twilio_secrets:
        url = rules.public_url + asking.target
        return "" if _is_signed(rules, asking.headers, url, fields) else _WANTS["twilio"]
    return "" if rules.insecure_open or is_local(rules, asking) else _LOCAL_ONLY


def wires_of(target: str) -> tuple[WireName, ...]:
    """The wire that a path names, or all of them."""
    named = wire_of_path(target)
    return NAMES if named is None else (named,)


def token_of(target: str) -> str:
    """The single-use token in ``/twilio/<token>``, or ""."""
    if wire_of_path(target) != "twilio":
        return ""
    return target.partition("?")[0].strip("/").partition("/")[2]


def is_local(rules: Rules, asking: Asking) -> bool:
    """Whether a request comes from this machine, as far as anybody knows."""
    return _is_loopback(client_of(rules, asking))


def client_of(rules: Rules, asking: Asking) -> str:
    """Whose request it is: the peer's, or of whom a trusted proxy says so; "" when nobody can say.

    Each proxy adds the address it was asked from at the end, so what counts is the last one that
    is not a trusted proxy: everything before it anybody may have written.
    """
    if not any(name in asking.headers for name in _FORWARDED):
        return asking.peer_host
    listed = asking.headers.get("x-forwarded-for", "")
    if not is_proxy(rules, asking.peer_host) or not listed:
        return ""
    hosts = [host.strip() for host in listed.split(",")]
    return next((host for host in reversed(hosts) if not is_proxy(rules, host)), hosts[0])


def is_proxy(rules: Rules, host: str) -> bool:
    """Whether an address is a trusted proxy's."""
    address = _address(host)
    return address is not None and any(address in network for network in rules.proxies)


def _lets_in(rules: Rules, wire: WireName, asking: Asking, *, local: bool) -> bool:
    return _CHECKS[wire](rules, asking) if rules.has_credential(wire) else local


def _shows_signature(rules: Rules, asking: Asking) -> bool:
    return _is_signed(rules, asking.headers, rules.stream_url + asking.target, ())


def _is_signed(rules: Rules, headers: Headers, url: str, fields: Fields) -> bool:
    given, settings = headers.get(SIGNATURE_HEADER, ""), headers.get(SETTINGS_HEADER, "")
    return is_genuine(given, rules.twilio_secrets, url, fields, settings)


def _shows_telnyx_token(rules: Rules, asking: Asking) -> bool:
    given = asking.headers.get(TELNYX_HEADER) or _bearer(asking.headers)
    return _same(given, rules.telnyx_token)


def _shows_plain_token(rules: Rules, asking: Asking) -> bool:
    offered = asking.headers.get("sec-websocket-protocol", "").split(",")
    tokens = [_bearer(asking.headers)] + [
        name.strip().removeprefix(BEARER_SUBPROTOCOL)
        for name in offered
        if name.strip().startswith(BEARER_SUBPROTOCOL)
    ]
    return any(_same(token, rules.plain_token) for token in tokens)


_CHECKS: Mapping[WireName, Callable[[Rules, Asking], bool]] = {
    "twilio": _shows_signature,
    "telnyx": _shows_telnyx_token,
    "plain": _shows_plain_token,
}


def _why(rules: Rules, asked: tuple[WireName, ...]) -> str:
    if len(asked) == 1 and rules.has_credential(asked[0]):
        return _WANTS[asked[0]]
    if any(rules.has_credential(wire) for wire in asked):
        return "no credential of any wire was shown"
    return _LOCAL_ONLY


def _bearer(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _same(given: str, secret: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode("utf-8", "backslashreplace"), secret.encode())


def _is_loopback(host: str) -> bool:
    address = _address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address is not None and address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
