"""One call's conversation with a real backend server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing

import pytest

from gateway import clock
from gateway.conversation.lexicon import lexicon
from gateway.conversation.profile import Profile
from gateway.errors import ConfigurationError, ProviderError
from gateway.responders.backend import Backend, Backends, BackendStart
from gateway.responders.base import CallInfo, HangUp, Reply, Responder, Say, Transfer
from gateway.responders.registry import Staff
from gateway.settings import load_settings
from tests.gateway.providers.backend_server import (
    BackendServer,
    backend_server,
    content,
    slow,
    status,
)
from tests.gateway.providers.rig import make_row
from tests.gateway.responders.reports import Reports

PROFILE = Profile(
    business_name="Clinic",
    greeting={"en": "Welcome to {business}."},
    consent={"en": "You are talking to an assistant."},
    transfer_targets={"Sales": "+15550001111"},
)
CALL = CallInfo("CA1", "+15551234567", "+15550000000", "en", "Ann", transferable=True)
SENTENCES = lexicon("en").sentences


@pytest.fixture(scope="module")
def server() -> Iterator[BackendServer]:
    with backend_server() as server:
        yield server


@pytest.fixture
def backend(server: BackendServer) -> BackendServer:
    server.forget()
    server.opening = "Hello from the backend."
    return server


def talk(
    backend: BackendServer,
    scene: Callable[[Responder], Awaitable[None]],
    start: BackendStart = "utterance",
    call: CallInfo = CALL,
    timeout_ms: int = 5_000,
) -> Reports:
    """Play a scene with one call's responder."""
    reports = Reports()
    settings = load_settings(
        None,
        responder="backend",
        backend_api_base_url=backend.url,
        backend_start=start,
        backend_api_timeout_ms=timeout_ms,
    )

    async def play() -> None:
        backends = Backends.open(settings)
        responder = backends.responder(PROFILE, call, reports)
        await scene(responder)
        await responder.aclose()
        await backends.aclose()

    asyncio.run(play())
    return reports


async def replies(turn: AsyncGenerator[Reply, None]) -> list[Reply]:
    async with aclosing(turn):
        return [reply async for reply in turn]


async def said(turn: AsyncGenerator[Reply, None]) -> list[str]:
    return [reply.text for reply in await replies(turn) if isinstance(reply, Say)]


async def asked(backend: BackendServer, requests: int) -> None:
    async with asyncio.timeout(10):
        while len(backend.asked) < requests:
            await clock.sleep_ms(5)


def test_we_greet_and_the_first_utterance_starts_the_conversation(backend: BackendServer) -> None:
    async def scene(responder: Responder) -> None:
        assert await said(responder.greet()) == [
            "Welcome to Clinic.",
            "You are talking to an assistant.",
            SENTENCES["how_help"],
        ]
        assert backend.asked == []
        assert await said(responder.answer("I am ill", "en")) == ["Hello from the backend."]
        assert await said(responder.answer("my head", "en")) == ["You said my head."]
        assert await said(responder.digits("123#")) == ["You said 123."]

    reports = talk(backend, scene)
    assert backend.paths() == ["start", "message", "message"]
    assert backend.asked[0].body == {
        "callerName": "Ann",
        "phoneNumber": "+15551234567",
        "languageHint": "en",
        "context": {"callId": "CA1", "firstUtterance": "I am ill"},
    }
    assert reports.told == [
        ("started", "conv-1"),
        ("summary", "about my head"),
        ("summary", "about 123"),
    ]


def test_a_backend_that_has_no_first_words_is_sent_the_callers(backend: BackendServer) -> None:
    backend.opening = ""

    async def scene(responder: Responder) -> None:
        assert await said(responder.answer("I am ill", "en")) == ["You said I am ill."]

    talk(backend, scene)
    assert backend.paths() == ["start", "message"]


def test_a_backend_may_greet_itself(backend: BackendServer) -> None:
    async def scene(responder: Responder) -> None:
        assert await said(responder.greet()) == [
            "Hello from the backend.",
            "You are talking to an assistant.",
        ]
        assert await said(responder.answer("I am ill", "en")) == ["You said I am ill."]

    talk(backend, scene, start="call")
    assert backend.asked[0].body["context"] == {"callId": "CA1"}


def test_a_caller_who_goes_on_cancels_the_turn_and_not_the_start(backend: BackendServer) -> None:
    async def scene(responder: Responder) -> None:
        turn = asyncio.create_task(said(responder.answer("I am", "en")))
        await asked(backend, 1)
        turn.cancel()
        await asyncio.gather(turn, return_exceptions=True)
        assert await said(responder.answer("I am ill", "en")) == ["You said I am ill."]

    reports = talk(backend, scene)
    assert backend.paths() == ["start", "message"], "one start, and the whole of what was said"
    assert reports.told[0] == ("started", "conv-1")


def test_a_cancelled_message_leaves_its_turn_number_unused(backend: BackendServer) -> None:
    async def scene(responder: Responder) -> None:
        await said(responder.answer("hello", "en"))
        backend.next.append(slow(20))
        turn = asyncio.create_task(said(responder.answer("I am", "en")))
        await asked(backend, 2)
        turn.cancel()
        await asyncio.gather(turn, return_exceptions=True)
        assert await said(responder.answer("I am ill", "en")) == ["You said I am ill."]

    talk(backend, scene)
    keys = [asked.headers["idempotency-key"] for asked in backend.asked]
    assert len(set(keys)) == len(keys) == 3


def test_the_backend_is_told_how_much_was_heard(backend: BackendServer) -> None:
    async def scene(responder: Responder) -> None:
        await said(responder.answer("hello", "en"))
        responder.heard("Hello from")
        await said(responder.answer("a", "en"))
        await said(responder.answer("b", "en"))

    talk(backend, scene)
    told = [asked.headers.get("x-heard-chars") for asked in backend.asked]
    assert told == [None, "10", None]


@pytest.mark.parametrize(
    ("actions", "deeds"),
    [
        ([], []),
        ([{"type": "hangup"}], [HangUp()]),
        ([{"type": "HANG_UP"}, {"type": "transfer", "target": "sales"}], [HangUp()]),
        ([{"type": "wink"}, {"type": "endCall"}], [HangUp()]),
        ([{"type": "transfer", "target": "SALES"}], [Transfer("+15550001111")]),
        ([{"type": "transfer", "to": "+1 555 000 1111"}], [Transfer("+15550001111")]),
        ([{"type": "transfer", "number": "+15559999999"}], []),
        ([{"type": "transfer", "target": 5}, {"type": "transfer"}], []),
    ],
)
def test_what_is_to_be_done_comes_after_the_words(
    backend: BackendServer, actions: list[dict[str, object]], deeds: list[Reply]
) -> None:
    backend.actions["do it"] = actions

    async def scene(responder: Responder) -> None:
        await said(responder.answer("hello", "en"))
        found = await replies(responder.answer("do it", "en"))
        assert found == [Say("You said do it.", "en"), *deeds]

    talk(backend, scene)


def test_a_call_that_no_carrier_can_hand_over_stays(backend: BackendServer) -> None:
    backend.actions["do it"] = [{"type": "transfer", "target": "sales"}]

    async def scene(responder: Responder) -> None:
        await said(responder.answer("hello", "en"))
        assert await replies(responder.answer("do it", "en")) == [Say("You said do it.", "en")]

    talk(backend, scene, call=CallInfo("CA1", "", "", "en"))


def test_an_empty_reply_says_nothing(backend: BackendServer) -> None:
    async def scene(responder: Responder) -> None:
        await said(responder.answer("hello", "en"))
        backend.next.append(content(b'{"reply": " ", "actions": null}'))
        assert await replies(responder.answer("a", "en")) == []

    talk(backend, scene)


def test_one_deadline_bounds_start_and_message_together(backend: BackendServer) -> None:
    backend.next.extend([slow(0.3), slow(20)])
    begun_ns = clock.now_ns()

    async def scene(responder: Responder) -> None:
        with pytest.raises(ProviderError, match="no answer in time"):
            await said(responder.answer("hello", "en"))

    talk(backend, scene, timeout_ms=800)
    assert backend.paths() == ["start", "message"]
    assert clock.now_ns() - begun_ns < 20_000 * clock.NS_PER_MS


@pytest.mark.parametrize("start", ["utterance", "call"])
def test_a_backend_that_fails_is_followed_by_the_message_taker(
    backend: BackendServer, start: BackendStart
) -> None:
    reports = Reports()
    settings = load_settings(
        None, responder="backend", backend_api_base_url=backend.url, backend_start=start
    )
    backend.next.append(status(500))

    async def play() -> list[list[str]]:
        staff = Staff.open(settings, make_row())
        responder = staff.responder(settings.responder_names, PROFILE, CALL, reports)
        heard = [await said(responder.greet()), await said(responder.answer("I am ill", "en"))]
        await responder.aclose()
        await staff.aclose()
        return heard

    greeting, answer = asyncio.run(play())
    assert greeting[0] == "Welcome to Clinic."
    if start == "call":
        assert greeting[-1] == SENTENCES["ask_reason"]
    else:
        assert answer[0] == SENTENCES["take_over"]
    assert any("I am ill" in sentence for sentence in answer)
    assert backend.paths() == ["start"], "not asked again in this call"
    assert [kind for kind, _ in reports.told] == ["failed", "followed"]


def test_the_last_words_need_no_backend() -> None:
    async def scene(responder: Responder) -> None:
        assert await said(responder.part("en")) == [SENTENCES["parting"]]
        assert responder.pending() is None

    talk(BackendServer(url="http://127.0.0.1:9"), scene)


def test_an_end_in_the_midst_of_a_start_leaves_nothing_behind(backend: BackendServer) -> None:
    backend.next.append(slow(20))

    async def scene(responder: Responder) -> None:
        assert isinstance(responder, Backend)
        turn = asyncio.create_task(said(responder.answer("I am", "en")))
        await asked(backend, 1)
        turn.cancel()
        await asyncio.gather(turn, return_exceptions=True)
        await responder.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    assert talk(backend, scene).told == []


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({}, "RESPONDER=backend needs BACKEND_API_BASE_URL"),
        ({"backend_api_base_url": "backend:3000"}, "must begin with http"),
        ({"backend_api_base_url": "http://a", "backend_start": "later"}, "BACKEND_START"),
    ],
)
def test_settings_that_cannot_work_are_told(values: dict[str, str], fault: str) -> None:
    with pytest.raises(ConfigurationError, match=fault):
        load_settings(None, responder="backend", **values)
