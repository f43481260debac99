"""Twilio's REST API as far as calls are updated by it: Starlette on a real socket."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.gateway.providers.serving import serving

ACCOUNT = "AC00000000000000000000000000000001"
TOKEN = "the-auth-token-of-the-test"
PATH = "/2010-04-01/Accounts/{account}/Calls/{call}.json"


@dataclass
class TwilioServer:
    """Calls by id and status; what was asked; statuses to answer with instead of obeying."""

    url: str = ""
    calls: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    next: deque[int] = field(default_factory=deque)
    delay_s: float = 0.0
    updated: threading.Event = field(default_factory=threading.Event)

    async def update(self, request: Request) -> Response:
        form = {key: str(value) for key, value in (await request.form()).items()}
        call_id = request.path_params["call"]
        self.asked.append((call_id, form))
        await asyncio.sleep(self.delay_s)
        if self.next:
            return JSONResponse({"message": "later"}, self.next.popleft())
        if not self._knows(request):
            return _fault(401, 20003, "Authenticate")
        status = self.calls.get(call_id)
        if status is None:
            return _fault(404, 20404, "The requested resource was not found")
        if status != "in-progress":
            return _fault(400, 21220, "Call is not in-progress. Cannot redirect.")
        if form.get("Status") == "completed":
            self.calls[call_id] = "completed"
        self.updated.set()
        return JSONResponse({"sid": call_id, "status": self.calls[call_id]})

    def _knows(self, request: Request) -> bool:
        expected = base64.b64encode(f"{ACCOUNT}:{TOKEN}".encode()).decode()
        told = request.headers.get("authorization") == f"Basic {expected}"
        return told and request.path_params["account"] == ACCOUNT


def _fault(status: int, code: int, message: str) -> Response:
    return JSONResponse({"code": code, "message": message, "status": status}, status)


@contextmanager
def twilio_server() -> Iterator[TwilioServer]:
    """The API on a free port, in a thread with a loop of its own."""
    twilio = TwilioServer()
    app = Starlette(routes=[Route(PATH, twilio.update, methods=["POST"])])
    with serving(app) as twilio.url:
        yield twilio
