"""A conversation backend as its users write them: Starlette on a real socket, strict like NestJS.

It answers 201, refuses unknown keys, nulls and wrong types with a 400, keeps conversations in
memory, and answers a message with an echo. A test may put other answers before that one.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.gateway.providers.serving import serving

Misbehave = Callable[[Request], Awaitable[Response]]

#: Key -> whether it must be there, and its type.
CONTRACT: Mapping[str, Mapping[str, tuple[bool, type]]] = {
    "/conversation/start": {
        "callerName": (False, str),
        "phoneNumber": (False, str),
        "languageHint": (False, str),
        "context": (False, dict),
    },
    "/conversation/message": {
        "conversationId": (True, str),
        "from": (True, str),
        "text": (True, str),
    },
}


@dataclass(frozen=True)
class Asked:
    """One request."""

    path: str
    headers: dict[str, str]
    content: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.content)


@dataclass
class BackendServer:
    """What it was asked, and what it will do next instead of answering well."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    next: deque[Misbehave] = field(default_factory=deque)
    opening: str = "How can I help you?"
    #: What is done besides the echo, by the caller's words.
    actions: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    conversations: set[str] = field(default_factory=set)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def forget(self) -> None:
        """As if it had just been started."""
        for kept in (self.asked, self.next, self.actions, self.conversations):
            kept.clear()
        self._ids = itertools.count(1)

    def paths(self) -> list[str]:
        return [asked.path.rpartition("/")[2] for asked in self.asked]

    async def endpoint(self, request: Request) -> Response:
        content = await request.body()
        self.asked.append(Asked(request.url.path, dict(request.headers), content))
        if self.next:
            return await self.next.popleft()(request)
        fault = _fault(request.url.path, json.loads(content))
        if fault:
            body = {"statusCode": 400, "message": [fault], "error": "Bad Request"}
            return JSONResponse(body, 400)
        return self._answer(request.url.path, json.loads(content))

    def _answer(self, path: str, body: dict[str, Any]) -> Response:
        if path.endswith("start"):
            name = f"conv-{next(self._ids)}"
            self.conversations.add(name)
            meta = {"region": "test"}
            started = {"conversationId": name, "initialAssistantMessage": self.opening}
            return JSONResponse(started | {"meta": meta}, 201)
        if body["conversationId"] not in self.conversations:
            return JSONResponse({"statusCode": 404, "message": "Not Found"}, 404)
        reply: dict[str, Any] = {"reply": f"You said {body['text']}."}
        reply["actions"] = self.actions.get(body["text"], [])
        return JSONResponse(reply | {"updatedSummary": f"about {body['text']}"}, 201)


def _fault(path: str, body: object) -> str:
    """What a strict ValidationPipe would say; "" for nothing."""
    known = CONTRACT[path]
    if not isinstance(body, dict):
        return "body must be an object"
    for key, value in body.items():
        if key not in known:
            return f"property {key} should not exist"
        if not isinstance(value, known[key][1]):
            return f"{key} must be a {known[key][1].__name__}"
    missing = [key for key, (needed, _) in known.items() if needed and key not in body]
    return f"{missing[0]} is missing" if missing else ""


@contextmanager
def backend_server(port: int = 0) -> Iterator[BackendServer]:
    """A backend on a port, in a thread with a loop of its own."""
    backend = BackendServer()
    app = Starlette(routes=[Route(path, backend.endpoint, methods=["POST"]) for path in CONTRACT])
    with serving(app, port) as backend.url:
        yield backend


def status(code: int, **headers: str) -> Misbehave:
    """Answer with a status and NestJS's kind of body."""

    async def answer(_: Request) -> Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return JSONResponse({"statusCode": code, "message": "no"}, code, headers=names)

    return answer


def content(body: bytes, media_type: str = "application/json", code: int = 201) -> Misbehave:
    """Answer with these bytes."""

    async def answer(_: Request) -> Response:
        return Response(body, code, media_type=media_type)

    return answer


def slow(seconds: float) -> Misbehave:
    """Answer well, but late."""

    async def answer(_: Request) -> Response:
        await asyncio.sleep(seconds)
        start = {"conversationId": "late", "initialAssistantMessage": ""}
        return JSONResponse({"reply": "At last."} | start, 201)

    return answer
