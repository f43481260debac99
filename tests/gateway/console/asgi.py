"""Ask an ASGI application without a server."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.types import ASGIApp

LOOPBACK = ("127.0.0.1", 50_000)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


async def ask(
    app: ASGIApp,
    target: str = "/",
    *,
    method: str = "GET",
    host: str | None = "127.0.0.1:4001",
    client: tuple[str, int] | None = LOOPBACK,
    headers: dict[str, str] | None = None,
    body: bytes = b"",
) -> Answer:
    """Send one request and wait for the whole answer; a POST is JSON unless ``headers`` differ."""
    given = {"content-type": "application/json"} if method == "POST" else {}
    given |= headers or {}
    if host is not None:
        given["host"] = host
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in given.items()],
        "client": client,
    }
    sent: list[MutableMapping[str, Any]] = []

    over = asyncio.Event()
    parts = [body]

    async def receive() -> MutableMapping[str, Any]:
        if not parts:
            await over.wait()  # nobody hangs up
        return {"type": "http.request", "body": parts.pop(), "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, b"".join(m.get("body", b"") for m in sent[1:]))
