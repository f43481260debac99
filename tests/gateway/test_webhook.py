"""Webhooks without sockets: what is answered, minted and counted."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest

from gateway.channel_events import HttpRequest, HttpResponse
from gateway.gate import rules_of
from gateway.limits import TOKEN_TTL_MS
from gateway.settings import load_settings
from gateway.webhook import Webhook
from gateway.wire.twiml import APOLOGY
from supervisor.scoreboard import Row, RowName, Scoreboard

URL = "https://gw.example"
CALL = {"CallSid": "CA1", "From": "+15550100", "To": "+15550199", "Extra": "<&>"}


class Desk:
    """A webhook, and what it did."""

    def __init__(self, **settings: object) -> None:
        made = load_settings(None, **({"public_url": URL} | settings))
        self.board = Scoreboard([RowName("worker", 0)], arenas=1)
        self.row: Row = self.board.row("worker", 0)
        self.minted: list[tuple[str, int]] = []
        self.has_room = True
        self.webhook = Webhook(
            made, rules_of(made), self.row, has_room=lambda: self.has_room, mint=self.mint
        )

    def mint(self, call_id: str, ttl_ms: int) -> str | None:
        self.minted.append((call_id, ttl_ms))
        return f"token-{len(self.minted)}"

    def post(self, path: str = "/twilio/voice", **fields: str) -> HttpResponse:
        body = urlencode(fields or CALL).encode()
        return self.webhook.answer("127.0.0.1", HttpRequest("POST", path, {}, body))

    def ask(self, **fields: str) -> ElementTree.Element:
        answer = self.post(**fields)
        assert (answer.status, answer.content_type) == (200, "text/xml; charset=utf-8")
        return ElementTree.fromstring(answer.body)


def test_a_call_gets_a_stream_of_its_own() -> None:
    desk = Desk(language="ru", after_call_url="https://x.example/after?a=b&c")
    connect, redirect = desk.ask()
    (stream,) = connect
    assert stream.get("url") == "wss://gw.example/twilio/token-1"
    assert stream.get("statusCallback") == f"{URL}/twilio/status"
    told = {p.get("name"): p.get("value") for p in stream}
    assert told == {"from": "+15550100", "to": "+15550199", "languageHint": "ru"}
    assert redirect.text == "https://x.example/after?a=b&c"
    assert desk.minted == [("CA1", TOKEN_TTL_MS)]


def test_without_room_there_is_an_apology_a_number_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "busy.xml").write_text("<Response><Play>https://x/y.wav</Play></Response>")
    kinds: dict[str, dict[str, object]] = {
        APOLOGY: {},
        "+4930123456": {"overflow_number": "+4930123456"},
        "https://x/y.wav": {"overflow_twiml": tmp_path / "busy.xml"},
    }
    for text, settings in kinds.items():
        desk = Desk(**settings)
        desk.has_room = False
        assert desk.ask()[0].text == text
        assert desk.minted == []
        assert desk.row.counter("calls_overflowed") == 1


def test_no_token_left_is_no_room() -> None:
    desk = Desk()
    desk.webhook._mint = lambda call_id, ttl_ms: None
    assert desk.ask()[0].text == APOLOGY


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("31921", "31921"),
        ("31951 - stream", "31951"),
        ("connection_closed", "connection_closed"),
        ("+49 30 1234567 said\nhello", "unknown"),
        ("", "unknown"),
    ],
)
def test_errors_of_streams_are_counted_and_logged_by_code(
    error: str, code: str, capfd: pytest.CaptureFixture[str]
) -> None:
    desk = Desk()
    assert desk.post("/twilio/status", StreamEvent="stream-error", StreamError=error).status == 200
    assert desk.row.counter("stream_errors") == 1
    assert re.search(f"code\\W+{code}\\b", capfd.readouterr().err)
    assert desk.post("/twilio/status", StreamEvent="stream-stopped").status == 200
    assert desk.row.counter("stream_errors") == 1


def test_what_is_wrong_is_said_with_a_status() -> None:
    get = HttpRequest("GET", "/twilio/voice", {}, b"")
    noise = HttpRequest("POST", "/twilio/voice", {}, b"\xff")
    assert Desk().webhook.answer("127.0.0.1", get).status == 405
    assert Desk().webhook.answer("127.0.0.1", noise).status == 400
    assert Desk().post(From="+1").status == 400
    assert Desk(public_url="").post().status == 503
    signed = Desk(twilio_auth_token="secret-of-twilio")
    assert signed.post().status == 403
    assert signed.row.counter("peers_refused") == 1
    assert signed.minted == []
