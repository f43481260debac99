"""Who may ask the console, checked before any page sees the request.

*Host*: a web page elsewhere can make a name of its own resolve to 127.0.0.1 and then read what
the console answers (DNS rebinding); so the Host header must be a name of this machine. An address
cannot be rebound, so a console that listens on all addresses also answers to those. With a token
any name will do: another page has no token.
*Peer*: calls and messages are personal data. Without a token only peers on this machine see them,
unless INSECURE_OPEN says otherwise; others get health and metrics. With one, whoever brings it as
``Authorization: Bearer`` does, from anywhere; the page itself, which asks for it, is free to all.
*Method*: what changes something is a POST of JSON from our own page. A foreign page cannot send
that type unasked, and what it asks (OPTIONS) is refused; its Origin is looked at as well.
Every answer carries headers that keep a browser from running, framing, caching or guessing
anything, and from connecting anywhere but here and to the public port on the same host.
"""

from __future__ import annotations

import hmac
import ipaddress
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.settings import Settings

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARDS = frozenset({"0.0.0.0", "::"})
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
#: What can be asked for without the token, so that the page can ask for it.
PAGE_PATHS = OPEN_PATHS | {
    "/",
    "/app.js",
    "/softphone.js",
    "/worklet.js",
    "/style.css",
    "/icon.svg",
}

SECURITY_HEADERS = {
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'{public}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_HOST = re.compile(r"(\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{1,5})?")


class Guard:
    """An ASGI layer around the console's pages."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._hosts = LOCAL_HOSTS | {settings.console_host.lower()}
        self._any_address = settings.console_host in WILDCARDS
        self._any_peer = settings.insecure_open
        self._token = settings.console_token.get_secret_value().encode()
        self._public_port = settings.gateway_port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refusal, or let the request through; both with the security headers."""
        headers = Headers(scope=scope)
        app = self._refusal(scope, headers) or self._app
        policy = self._policy(headers.get("host", ""))

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                secured = MutableHeaders(scope=message)
                secured.update(SECURITY_HEADERS)
                secured["content-security-policy"] = policy
            await send(message)

        await app(scope, receive, send_secured)

    def _refusal(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        if scope["method"] not in {"GET", "HEAD", "POST"}:
            return PlainTextResponse("Use GET or POST.\n", 405, {"allow": "GET, HEAD, POST"})
        if not self._is_our_host(headers.get("host", "")):
            return PlainTextResponse("The Host header names another machine.\n", 421)
        if scope["method"] == "POST" and not _is_our_page(headers):
            return PlainTextResponse("Only the console's own page may change anything.\n", 403)
        return self._stranger(scope, headers)

    def _stranger(self, scope: Scope, headers: Headers) -> ASGIApp | None:
        if self._token:
            if scope["path"] in PAGE_PATHS or self._brings_token(headers):
                return None
            return PlainTextResponse(
                "The console's token is needed.\n", 401, {"www-authenticate": "Bearer"}
            )
        if self._any_peer or scope["path"] in OPEN_PATHS or _is_local(scope["client"]):
            return None
        return PlainTextResponse(
            "Only this machine may see calls and messages; CONSOLE_TOKEN lets others in.\n", 403
        )

    def _brings_token(self, headers: Headers) -> bool:
        kind, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip().encode("latin-1", "replace")
        return kind.lower() == "bearer" and hmac.compare_digest(given, self._token)

    def _policy(self, host: str) -> str:
        match = _HOST.fullmatch(host)
        place = f"{match[1]}:{self._public_port}" if match else ""
        return _POLICY.format(public=f" ws://{place} wss://{place}" if place else "")

    def _is_our_host(self, header: str) -> bool:
        match = _HOST.fullmatch(header)
        if match is None:
            return False
        host = (match[2] or match[3]).lower()
        if self._token:
            return True
        return host in self._hosts or (self._any_address and _address(host) is not None)


def _is_our_page(headers: Headers) -> bool:
    """Whether a POST is JSON, and its Origin, if it has one, is the host it was sent to."""
    if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return False
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2] == headers.get("host")


def _is_local(client: tuple[str, int] | None) -> bool:
    address = _address(client[0]) if client is not None else None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address is not None and address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
