"""The console's pages and JSON: health, metrics, children, calls, messages. Nothing is changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from gateway import clock
from gateway.console.children import Memory, children
from gateway.console.database import Database, StoreUnavailableError
from gateway.console.guard import Guard
from gateway.ops.health import readiness
from gateway.ops.metrics import Exposition
from gateway.ops.store import RecordsStore, StoredCall, StoredMessage
from gateway.settings import Settings
from supervisor.scoreboard import Scoreboard

LIMIT_DEFAULT = 50
LIMIT_MAX = 200

_STATIC = Path(__file__).parent / "static"

#: Path -> file and media type. Read once: three small files need no file server.
_FILES = {
    "/": ("index.html", "text/html"),
    "/console.css": ("console.css", "text/css"),
    "/console.js": ("console.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Pages:
    """What the pages show, and the pages."""

    board: Scoreboard
    settings: Settings
    database: Database
    exposition: Exposition
    memory: Memory = field(default_factory=Memory)

    def app(self) -> Guard:
        """The ASGI application."""
        routes = [
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", self.metrics),
            Route("/api/workers", self.workers),
            Route("/api/calls", self.calls),
            Route("/api/messages", self.messages),
            *(Route(path, _file(*file)) for path, file in _FILES.items()),
        ]
        return Guard(Starlette(routes=routes), self.settings)

    async def healthz(self, _: Request) -> Response:
        """The console is alive; says nothing of the others."""
        return _json({"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        """Whether a call can be taken now, and why not: 200 or 503."""
        fault = self.database.fault
        found = readiness(self.board, self.settings, clock.now_ns(), [fault] if fault else [])
        return _json(found, 200 if found.ready else 503)

    async def metrics(self, request: Request) -> Response:
        """The board for Prometheus."""
        body, content_type = self.exposition.render(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type})

    async def workers(self, _: Request) -> Response:
        """Every child of the supervisor."""
        return _json({"children": await children(self.board, self.memory)})

    async def calls(self, request: Request) -> Response:
        """The latest calls with their turns."""
        return await self._stored(request, "calls", RecordsStore.calls)

    async def messages(self, request: Request) -> Response:
        """The latest messages."""
        return await self._stored(request, "messages", RecordsStore.messages)

    async def _stored(
        self,
        request: Request,
        name: str,
        query: Callable[[RecordsStore, int], Iterable[StoredCall | StoredMessage]],
    ) -> Response:
        limit = _limit(request.query_params.get("limit", str(LIMIT_DEFAULT)))
        if limit is None:
            return PlainTextResponse(f"limit must be 1 to {LIMIT_MAX}\n", 400)
        try:
            return _json({name: await self.database.use(lambda store: query(store, limit))})
        except StoreUnavailableError as error:
            return PlainTextResponse(f"{error}\n", 503)


def _limit(text: str) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(LIMIT_MAX))):
        return None
    return int(text) if 1 <= int(text) <= LIMIT_MAX else None


def _file(name: str, media_type: str) -> Endpoint:
    body = (_STATIC / name).read_bytes()

    async def endpoint(_: Request) -> Response:
        return Response(body, media_type=media_type)

    return endpoint


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
