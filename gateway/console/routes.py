"""The console's page and JSON: health, metrics, children, calls, messages, what happens just now.

One thing can be changed here: whether a message is done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from gateway import clock
from gateway.console.children import Crew
from gateway.console.database import Database, StoreUnavailableError
from gateway.console.export import messages_csv
from gateway.console.feed import Feed
from gateway.console.guard import Guard
from gateway.console.view import View
from gateway.ops.health import Readiness, readiness
from gateway.ops.metrics import Exposition
from gateway.ops.store import RecordsStore, StoredCall, StoredMessage
from gateway.settings import Settings
from supervisor.scoreboard import Scoreboard

LIMIT_DEFAULT = 50
LIMIT_MAX = 200
EXPORT_MAX = 10_000
#: Without it Excel takes UTF-8 for the system's own code page, and Cyrillic for noise.
BYTE_ORDER_MARK = "\ufeff"
BODY_BYTES_MAX = 4_096
SEQUENCE_DIGITS_MAX = 18 + 1

_STATIC = Path(__file__).parent / "static"

#: Path -> file and media type. Read once: so few small files need no file server.
_FILES = {
    "/": ("index.html", "text/html"),
    "/style.css": ("style.css", "text/css"),
    "/app.js": ("app.js", "text/javascript"),
    "/softphone.js": ("softphone.js", "text/javascript"),
    "/worklet.js": ("worklet.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PagesParts:
    """What the pages show."""

    board: Scoreboard
    settings: Settings
    database: Database
    exposition: Exposition
    view: View


class Pages:
    """The pages; ``feed`` must be run beside them."""

    def __init__(self, parts: PagesParts) -> None:
        self._board = parts.board
        self._settings = parts.settings
        self._database = parts.database
        self._exposition = parts.exposition
        self._view = parts.view
        self._crew = Crew(parts.board)
        self.feed = Feed(parts.view.live, self._facts)

    def app(self) -> Guard:
        """The ASGI application."""
        routes = [
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", self.metrics),
            Route("/api/live", self.live),
            Route("/api/softphone", self.softphone),
            Route("/api/workers", self.workers),
            Route("/api/calls", self.calls),
            Route("/api/messages", self.messages),
            Route("/api/messages.csv", self.export),
            Route("/api/messages/done", self.mark_done, methods=["POST"]),
            *(Route(path, _file(*file)) for path, file in _FILES.items()),
        ]
        return Guard(Starlette(routes=routes), self._settings)

    async def healthz(self, _: Request) -> Response:
        """The console is alive; says nothing of the others."""
        return _json({"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        """Whether a call can be taken now, and why not: 200 or 503."""
        found = self._readiness()
        return _json(found, 200 if found.ready else 503)

    async def metrics(self, request: Request) -> Response:
        """The board, and what its processes use, for Prometheus."""
        usage = await self._crew.usage()
        body, content_type = self._exposition.render(request.headers.get("accept", ""), usage)
        return Response(body, headers={"content-type": content_type})

    async def live(self, _: Request) -> Response:
        """Server-sent events: everything at first, then what has changed, once a second."""
        if self.feed.is_full:
            return PlainTextResponse("Too many pages are open.\n", 503)
        return StreamingResponse(self.feed.listen(), media_type="text/event-stream")

    async def softphone(self, _: Request) -> Response:
        """Where and how the page calls: the public port of the host that the page came from."""
        settings = self._settings
        return _json(
            {
                "scheme": "wss" if settings.tls_cert is not None else "ws",
                "port": settings.gateway_port,
                "token": settings.plain_token.get_secret_value(),
                "speaks": settings.responder,
            }
        )

    async def workers(self, _: Request) -> Response:
        """Every child of the supervisor."""
        return _json({"children": await self._crew.children()})

    async def calls(self, request: Request) -> Response:
        """The latest calls with their turns."""
        return await self._stored(request, "calls", RecordsStore.calls)

    async def messages(self, request: Request) -> Response:
        """The latest messages."""
        return await self._stored(request, "messages", RecordsStore.messages)

    async def export(self, _: Request) -> Response:
        """The latest messages, as a file for a spreadsheet."""
        try:
            found = await self._database.use(lambda store: store.messages(EXPORT_MAX))
        except StoreUnavailableError as error:
            return PlainTextResponse(f"{error}\n", 503)
        name = {"content-disposition": 'attachment; filename="messages.csv"'}
        body = BYTE_ORDER_MARK + messages_csv(found)
        return Response(body, media_type="text/csv", headers=name)

    async def mark_done(self, request: Request) -> Response:
        """Note that a message is done, or open again."""
        asked = await _read_mark(request)
        if asked is None:
            return PlainTextResponse("Give call_id, sequence (text) and done.\n", 400)
        call_id, sequence, done = asked
        at_ms = clock.wall_ms() if done else None
        try:
            found = await self._database.use(lambda store: store.mark(call_id, sequence, at_ms))
        except StoreUnavailableError as error:
            return PlainTextResponse(f"{error}\n", 503)
        if not found:
            return PlainTextResponse("There is no such message.\n", 404)
        self._view.stored()
        return _json({"done_at_ms": at_ms})

    async def _facts(self) -> dict[str, object]:
        """What a listener is told beside the calls."""
        return {
            "readiness": self._readiness(),
            "children": await self._crew.children(),
            **self._view.facts(),
        }

    def _readiness(self) -> Readiness:
        fault = self._database.fault
        warnings = [fault] if fault else []
        return readiness(self._board, self._settings, clock.now_ns(), warnings)

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
            return _json({name: await self._database.use(lambda store: query(store, limit))})
        except StoreUnavailableError as error:
            return PlainTextResponse(f"{error}\n", 503)


def _limit(text: str) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(LIMIT_MAX))):
        return None
    return int(text) if 1 <= int(text) <= LIMIT_MAX else None


async def _read_mark(request: Request) -> tuple[str, int, bool] | None:
    """The three values of a mark; None when they are not what they should be."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > BODY_BYTES_MAX:
            return None
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(asked, dict):
        return None
    call_id, sequence, done = (asked.get(name) for name in ("call_id", "sequence", "done"))
    if not (isinstance(call_id, str) and isinstance(sequence, str) and isinstance(done, bool)):
        return None
    if not (sequence.isascii() and sequence.isdigit() and len(sequence) <= SEQUENCE_DIGITS_MAX):
        return None
    return call_id, int(sequence), done


def _file(name: str, media_type: str) -> Endpoint:
    body = (_STATIC / name).read_bytes()

    async def endpoint(_: Request) -> Response:
        return Response(body, media_type=media_type)

    return endpoint


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
