"""Who gets in by the public port, and what is answered there over HTTP.

Every request and every upgrade is asked three things, in this order: does its address ask for too
much, do its credentials let it in, is there room. The judgements are pure and elsewhere; here they
are executed, counted, and logged a few times a second at most.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import orjson

from gateway import clock
from gateway.admission import Admits
from gateway.channel_events import HttpRequest, HttpResponse, Upgrade
from gateway.credentials import Asking, Rules, is_proxy, judge_upgrade
from gateway.crowd import Crowd
from gateway.door_settings import parse_networks
from gateway.limits import RETRY_AFTER_S
from gateway.listener import Connection
from gateway.ops.health import Readiness, readiness
from gateway.ops.log import RateLimited, get_logger
from gateway.settings import Settings
from gateway.webhook import STATUS, VOICE, Webhook, path_of
from supervisor.placement import candidates
from supervisor.scoreboard import Field, Phase, Row, Scoreboard

log = get_logger(__name__)


class Gate:
    """One worker's. ``has_room`` is asked for each call, ``mint`` makes a token of a call's SID."""

    def __init__(
        self,
        settings: Settings,
        board: Scoreboard,
        row: Row,
        has_room: Callable[[], bool],
        mint: Callable[[str, int], str | None],
    ) -> None:
        self._settings = settings
        self._board = board
        self._row = row
        self._has_room = has_room
        self._rules = rules_of(settings)
        self._crowd = Crowd(partial(is_proxy, self._rules))
        self._webhook = Webhook(
            settings, self._rules, row, has_room=self._somebody_has_room, mint=mint
        )
        self._warnings = RateLimited()
        #: What an operator should know although calls are taken; shown by /readyz.
        self.warnings: list[str] = []

    def request(self, connection: Connection, request: HttpRequest) -> HttpResponse:
        """Health for load balancers, webhooks for Twilio; nothing else is served here."""
        if self._is_crowding(connection):
            return too_many()
        if path_of(request.target) in (VOICE, STATUS):
            return self._webhook.answer(connection.peer_host, request)
        if request.target not in ("/healthz", "/readyz"):
            return HttpResponse(404, b"not found\n")
        if request.method not in ("GET", "HEAD"):
            return HttpResponse(405, b"use GET\n", headers={"Allow": "GET, HEAD"})
        if request.target == "/healthz":
            # By its name, a supervisor knows orphans of its own kind on its port from a stranger.
            return HttpResponse(200, b"ok\n", headers={"Server": "voice-gateway"})
        state = self._readiness()
        return HttpResponse(200 if state.ready else 503, orjson.dumps(state), "application/json")

    def admit(self, connection: Connection, upgrade: Upgrade) -> HttpResponse | None:
        """Refuse an upgrade with a response, or None, with the verdict noted on the connection."""
        if self._is_crowding(connection):
            return too_many()
        asking = Asking(connection.peer_host, upgrade.target, upgrade.headers)
        verdict = connection.verdict = judge_upgrade(self._rules, asking)
        if not verdict.wires:
            self._row.count("peers_refused")
            self._warn("peer refused", reason=verdict.refusal, peer=connection.peer_host)
            return HttpResponse(403, f"{verdict.refusal}\n".encode())
        if not self._has_room():
            self._row.count("calls_refused")
            draining = self._row.get(Field.PHASE) == Phase.DRAINING
            self._row.count("refusals/draining" if draining else "refusals/full")
            self._warn("connection refused", reason="no room", peer=connection.peer_host)
            return no_room()
        return None

    def entered(self, connection: Connection) -> None:
        """A WebSocket was opened."""
        self._crowd.enter(connection.peer_host, clock.now_ns())

    def left(self, connection: Connection) -> None:
        """A WebSocket is gone."""
        self._crowd.leave(connection.peer_host)

    def _is_crowding(self, connection: Connection) -> bool:
        if self._crowd.knock(connection.peer_host, clock.now_ns()):
            return False
        self._row.count("peers_limited")
        self._warn("address limited", peer=connection.peer_host)
        return True

    def _somebody_has_room(self) -> bool:
        """Whether any worker takes a call; the last free place may be held by who asks just now."""
        if any(found.takes for found in candidates(self._board, clock.now_ns())):
            return True
        return self._has_room() and self._row.get(Field.ADMITS) == Admits.YES

    def _readiness(self) -> Readiness:
        return readiness(self._board, self._settings, clock.now_ns(), self.warnings)

    def _warn(self, event: str, **fields: object) -> None:
        suppressed = self._warnings.allow(event, clock.now_ns())
        if suppressed is not None:
            log.bind(**fields).warning(event, suppressed=suppressed)


def rules_of(settings: Settings) -> Rules:
    """The rules that the settings make."""
    return Rules(
        public_url=settings.public_url,
        twilio_secrets=settings.twilio_secrets,
        telnyx_token=settings.telnyx_stream_token.get_secret_value(),
        plain_token=settings.plain_token.get_secret_value(),
        insecure_open=settings.insecure_open,
        origins=settings.allowed_origins,
        proxies=parse_networks(settings.trusted_proxies),
    )


def no_room() -> HttpResponse:
    """The answer of a full gateway to a peer that asks for a WebSocket."""
    return HttpResponse(503, b"the gateway is full\n", headers=_RETRY)


def too_many() -> HttpResponse:
    """The answer to an address that asks for too much."""
    return HttpResponse(429, b"too many connections from this address\n", headers=_RETRY)


_RETRY = {"Retry-After": str(RETRY_AFTER_S)}
