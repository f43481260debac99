"""What a connection says, and what it is answered with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A complete plain request. Header names are lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What to answer to a request or to refuse an upgrade with."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A peer asks for a WebSocket; answer with ``accept`` or ``refuse``."""

    target: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Binary:
    """A binary message."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Closed:
    """The WebSocket is over: the peer's close code, or the one it was failed with."""

    code: int


#: A plain ``str`` is a text message: the hot path makes no object for it.
ChannelEvent = str | Binary | HttpRequest | Upgrade | Closed

#: What stands beside a status (RFC 9110).
REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
