"""Who may ask the console, checked before any page sees the request.

*Host*: a web page elsewhere can make a name of its own resolve to 127.0.0.1 and then read what
the console answers (DNS rebinding); so the Host header must be a name of this machine. An address
cannot be rebound, so a console that listens on all addresses also answers to those.
*Peer*: calls and messages are personal data and the console asks for no password; peers on other
hosts get health and metrics only, unless INSECURE_OPEN says otherwise.
*Method*: nothing can be changed here. Every answer carries headers that keep a browser from
running, framing, caching or guessing anything.
"""

from __future__ import annotations

import ipaddress
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.settings import Settings

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
WILDCARDS = frozenset({"0.0.0.0", "::"})
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})

SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{1,5})?")


class Guard:
    """An ASGI layer around the console's pages."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._hosts = LOCAL_HOSTS | {settings.console_host.lower()}
        self._any_address = settings.console_host in WILDCARDS
        self._any_peer = settings.insecure_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refusal, or let the request through; both with the security headers."""
        app = self._refusal(scope) or self._app

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SECURITY_HEADERS)
            await send(message)

        await app(scope, receive, send_secured)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        if scope["method"] not in {"GET", "HEAD"}:
            return PlainTextResponse("Only GET is served.\n", 405, {"allow": "GET, HEAD"})
        if not self._is_our_host(Headers(scope=scope).get("host", "")):
            return PlainTextResponse("The Host header names another machine.\n", 421)
        if not (self._any_peer or scope["path"] in OPEN_PATHS or _is_local(scope["client"])):
            return PlainTextResponse("Only this machine may see calls and messages.\n", 403)
        return None

    def _is_our_host(self, header: str) -> bool:
        match = _HOST.fullmatch(header)
        if match is None:
            return False
        host = (match[1] or match[2]).lower()
        return host in self._hosts or (self._any_address and _address(host) is not None)


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
