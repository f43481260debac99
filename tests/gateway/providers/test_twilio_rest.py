"""Ending and handing over calls by Twilio's REST API, with its own library as the oracle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from twilio.http import HttpClient
from twilio.http.response import Response
from twilio.rest import Client

from gateway.errors import ProviderError
from gateway.ops.log import get_logger
from gateway.providers import twilio_rest
from gateway.providers.twilio_rest import TwilioRest
from tests.gateway.providers.stand_in import answer, standing_in
from tests.gateway.providers.twilio_server import ACCOUNT, TOKEN, TwilioServer, twilio_server

CALL = "CA00000000000000000000000000000001"
LOG = get_logger(__name__)


@pytest.fixture(scope="module")
def server() -> Iterator[TwilioServer]:
    with twilio_server() as server:
        yield server


@pytest.fixture
def twilio(server: TwilioServer) -> TwilioServer:
    for kept in (server.asked, server.next, server.calls):
        kept.clear()
    server.delay_s = 0.0
    server.calls[CALL] = "in-progress"
    return server


def with_rest(url: str, scene: Callable[[TwilioRest], Coroutine[Any, Any, None]]) -> None:
    async def play() -> None:
        rest = TwilioRest(url, ACCOUNT, TOKEN)
        try:
            await scene(rest)
        finally:
            await rest.aclose()

    asyncio.run(play())


def test_a_call_is_ended(twilio: TwilioServer) -> None:
    with_rest(twilio.url, lambda rest: rest.hang_up(CALL, LOG))
    assert twilio.asked == [(CALL, {"Status": "completed"})]
    assert twilio.calls[CALL] == "completed"


@pytest.mark.parametrize("status", [None, "completed"])
def test_a_call_that_is_over_is_ended_already(twilio: TwilioServer, status: str | None) -> None:
    twilio.calls = {CALL: status} if status else {}
    with_rest(twilio.url, lambda rest: rest.hang_up(CALL, LOG))
    assert len(twilio.asked) == 1


def test_a_call_is_handed_over(twilio: TwilioServer) -> None:
    with_rest(twilio.url, lambda rest: rest.transfer(CALL, "+15550001111", LOG))
    (asked,) = twilio.asked
    assert asked == (CALL, {"Twiml": "<Response><Dial>+15550001111</Dial></Response>"})


@pytest.mark.parametrize("status", [None, "completed"])
def test_a_call_that_is_over_cannot_be_handed_over(
    twilio: TwilioServer, status: str | None
) -> None:
    twilio.calls = {CALL: status} if status else {}

    async def scene(rest: TwilioRest) -> None:
        with pytest.raises(ProviderError, match="the call is over"):
            await rest.transfer(CALL, "+15550001111", LOG)

    with_rest(twilio.url, scene)


def test_a_hiccup_is_tried_once_more(twilio: TwilioServer) -> None:
    twilio.next.append(503)
    with_rest(twilio.url, lambda rest: rest.hang_up(CALL, LOG))
    assert twilio.calls[CALL] == "completed"
    assert len(twilio.asked) == 2


def test_a_refusal_is_an_error_with_twilios_own_number(twilio: TwilioServer) -> None:
    async def play() -> None:
        rest = TwilioRest(twilio.url, ACCOUNT, "wrong")
        with pytest.raises(ProviderError, match="answered 401, code 20003"):
            await rest.hang_up(CALL, LOG)
        await rest.aclose()

    asyncio.run(play())


def test_silence_ends_by_the_deadline(
    twilio: TwilioServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twilio_rest, "TIMEOUT_MS", 300)
    twilio.delay_s = 10

    async def scene(rest: TwilioRest) -> None:
        with pytest.raises(ProviderError, match="no answer in time"):
            await rest.hang_up(CALL, LOG)

    with_rest(twilio.url, scene)


def test_no_call_id_leads_anywhere_else() -> None:
    async def play() -> None:
        async with standing_in(answer(404, b"{}")) as server:
            rest = TwilioRest(server.url.removesuffix("/v1"), ACCOUNT, TOKEN)
            await rest.hang_up("../../Accounts/AC2?x=\r\nHost: a/", LOG)
            (head, _), *_ = server.asked
            line = head.split(b"\r\n")[0]
            assert line.startswith(b"POST /2010-04-01/Accounts/%b/Calls/" % ACCOUNT.encode())
            assert line.count(b"/Calls/") == 1
            assert b"?" not in line
            assert head.count(b"\r\nHost:") + head.count(b"\r\nhost:") == 1
            await rest.aclose()

    asyncio.run(play())


class Recorded(HttpClient):  # type: ignore[misc] # the library's classes are untyped
    """What Twilio's own library would send."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], tuple[str, str]]] = []

    def request(self, method: str, uri: str, **how: Any) -> Response:
        self.asked.append((method, uri, dict(how["data"]), how["auth"]))
        return Response(200, "{}")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda rest: rest.hang_up(CALL, LOG), {"status": "completed"}),
        (
            lambda rest: rest.transfer(CALL, "+15550001111", LOG),
            {"twiml": "<Response><Dial>+15550001111</Dial></Response>"},
        ),
    ],
)
def test_we_ask_what_twilios_own_library_asks(
    twilio: TwilioServer,
    ours: Callable[[TwilioRest], Coroutine[Any, Any, None]],
    theirs: dict[str, str],
) -> None:
    recorded = Recorded()
    Client(ACCOUNT, TOKEN, http_client=recorded).calls(CALL).update(**theirs)
    ((method, uri, form, auth),) = recorded.asked
    with_rest(twilio.url, ours)  # the server knows path, account, token and method
    assert (method, auth) == ("POST", (ACCOUNT, TOKEN))
    assert uri == f"https://api.twilio.com/2010-04-01/Accounts/{ACCOUNT}/Calls/{CALL}.json"
    assert twilio.asked == [(CALL, form)]
