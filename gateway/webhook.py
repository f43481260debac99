"""What Twilio asks over HTTP: what to do with a call, and where to tell what became of its stream.

``POST /twilio/voice`` is answered with TwiML: a stream to an address that is good for this call
and once, or what a caller gets while nobody can be taken. ``POST /twilio/status`` is told of
streams; their errors are logged by Twilio's code. Both only for whom the credentials let in.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from gateway import clock
from gateway.channel_events import HttpRequest, HttpResponse
from gateway.credentials import Asking, Rules, judge_webhook
from gateway.limits import TOKEN_TTL_MS
from gateway.ops.log import RateLimited, get_logger
from gateway.settings import Settings
from gateway.wire.twiml import CONTENT_TYPE, Connect, connect, overflow, read_form
from supervisor.scoreboard import Row

VOICE, STATUS = "/twilio/voice", "/twilio/status"

#: What Twilio says when a stream fails (https://www.twilio.com/docs/api/errors).
STREAM_ERRORS: Mapping[str, str] = MappingProxyType(
    {
        "31901": "Twilio could not connect in time",
        "31902": "the connection was refused",
        "31910": "the TLS handshake failed",
        "31920": "the handshake was answered with something else than 101",
        "31921": "the connection was closed",
        "31922": "the address is not wss://",
        "31923": "the address is malformed",
        "31924": "the WebSocket protocol was violated",
        "31930": "caller audio was dropped: it was read too slowly",
        "31931": "assistant audio was dropped: more than ten minutes waited",
        "31941": "the track is invalid",
        "31950": "a message could not be decoded",
        "31951": "a message had a wrong shape",
    }
)

_CALL_SID = re.compile(r"[!-~]{1,64}")
#: A number of Twilio's, or a word such as ``connection_closed``.
_CODE = re.compile(r"\b[0-9]{5}\b|^[a-z_]{1,40}$")

log = get_logger(__name__)


class Webhook:
    """Twilio's webhooks of one worker. ``mint`` makes a token of a call's SID, or None."""

    def __init__(
        self,
        settings: Settings,
        rules: Rules,
        row: Row,
        *,
        has_room: Callable[[], bool],
        mint: Callable[[str, int], str | None],
    ) -> None:
        self._settings = settings
        self._rules = rules
        self._row = row
        self._has_room = has_room
        self._mint = mint
        self._warnings = RateLimited()
        self._overflow = overflow(settings.overflow_number)
        if settings.overflow_twiml is not None:
            self._overflow = settings.overflow_twiml.read_text(encoding="utf-8")

    def answer(self, peer_host: str, request: HttpRequest) -> HttpResponse:
        """Answer a request to one of the two paths."""
        if request.method != "POST":
            return HttpResponse(405, b"use POST\n", headers={"Allow": "POST"})
        try:
            form = read_form(request.body)
        except ValueError:
            return HttpResponse(400, b"this is no form\n")
        asking = Asking(peer_host, request.target, request.headers)
        refusal = judge_webhook(self._rules, asking, form)
        if refusal:
            self._row.count("peers_refused")
            self._warn("webhook refused", reason=refusal, peer=peer_host)
            return HttpResponse(403, f"{refusal}\n".encode())
        if path_of(request.target) == STATUS:
            return self._status(dict(form))
        return self._voice(dict(form))

    def _voice(self, form: Mapping[str, str]) -> HttpResponse:
        call_id = form.get("CallSid", "")
        if not _CALL_SID.fullmatch(call_id):
            return HttpResponse(400, b"CallSid is missing\n")
        if not self._rules.public_url:
            self._warn("webhook not answered", reason="PUBLIC_URL is not set")
            return HttpResponse(503, b"PUBLIC_URL is not set\n")
        token = self._mint(call_id, TOKEN_TTL_MS) if self._has_room() else None
        if token is None:
            self._row.count("calls_overflowed")
            self._warn("call overflowed", call=call_id)
            return HttpResponse(200, self._overflow.encode(), CONTENT_TYPE)
        log.info("call announced", call=call_id)
        language = self._settings.language
        stream = Connect(
            stream_url=f"{self._rules.stream_url}/twilio/{token}",
            status_url=f"{self._rules.public_url}{STATUS}",
            after_url=self._settings.after_call_url,
            parameters={
                "from": form.get("From", ""),
                "to": form.get("To", ""),
                "languageHint": "" if language == "auto" else language,
            },
        )
        return HttpResponse(200, connect(stream).encode(), CONTENT_TYPE)

    def _status(self, form: Mapping[str, str]) -> HttpResponse:
        if form.get("StreamEvent") == "stream-error":
            told = form.get("StreamError", "")
            code = found[0] if (found := _CODE.search(told)) else "unknown"
            self._row.count("stream_errors")
            self._warn(
                "stream error",
                code=code,
                meaning=STREAM_ERRORS.get(code, ""),
                call=form.get("CallSid", "")[:64],
                stream=form.get("StreamSid", "")[:64],
            )
        return HttpResponse(200)

    def _warn(self, event: str, **fields: object) -> None:
        suppressed = self._warnings.allow(event, clock.now_ns())
        if suppressed is not None:
            log.bind(**fields).warning(event, suppressed=suppressed)


def path_of(target: str) -> str:
    """The path of a request's target."""
    return target.partition("?")[0]
