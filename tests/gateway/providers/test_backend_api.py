"""The backend's contract against a real server: what is sent, what is read, what is retried."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from gateway import clock
from gateway.errors import ConfigurationError, ProviderError
from gateway.ops.log import ExcInfo, Log
from gateway.providers import backend_api, retry
from gateway.providers.backend_api import (
    ACTIONS_MAX,
    REPLY_CHARS_MAX,
    Action,
    BackendApi,
    Opening,
    Reply,
    Started,
    Utterance,
    parse_reply,
    parse_started,
)
from gateway.providers.breaker import FAILURES_MAX
from gateway.providers.http_service import ANSWER_BYTES_MAX, Answer
from tests.gateway.providers.backend_server import (
    BackendServer,
    Misbehave,
    backend_server,
    content,
    slow,
    status,
)
from tests.gateway.providers.stand_in import StandIn, chunk, raw, standing_in
from tests.gateway.providers.stand_in import answer as raw_answer

OPENING = Opening("CA1", "I want to book a table", "Ann", "+15551234567", "en")
WORDS = Utterance("CA1", "conv-1", 1, "for four people")
TIMEOUT_MS = 5_000


class Lines(Log):
    """A log that a test reads."""

    def __init__(self) -> None:
        super().__init__(None, [], {})
        self.told: list[tuple[str, str, dict[str, object]]] = []

    @override
    def _emit(
        self, level: str, event: str, fields: dict[str, object], exc_info: ExcInfo = None
    ) -> None:
        self.told.append((level, event, fields))

    def events(self) -> list[str]:
        return [event for _, event, _ in self.told]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "PAUSE_MS", (10, 40))
    monkeypatch.setattr(retry, "POLL_MS", (10, 40))


@pytest.fixture(scope="module")
def server() -> Iterator[BackendServer]:
    with backend_server() as server:
        yield server


@pytest.fixture
def backend(server: BackendServer) -> BackendServer:
    server.forget()
    server.conversations.add("conv-1")
    return server


def with_api(url: str, scene: Callable[[BackendApi], Coroutine[Any, Any, Any]], **how: Any) -> Any:
    async def play() -> Any:
        api = BackendApi(url, **how)
        try:
            return await scene(api)
        finally:
            await api.aclose()

    return asyncio.run(play())


def test_a_conversation_starts_and_goes_on(backend: BackendServer) -> None:
    lines = Lines()

    async def scene(api: BackendApi) -> tuple[Started, Reply]:
        started = await api.start(OPENING, TIMEOUT_MS, lines)
        words = Utterance("CA1", started.conversation_id, 1, "for four people", heard_chars=7)
        return started, await api.say(words, TIMEOUT_MS, lines)

    backend.actions["for four people"] = [{"type": "hangup", "soon": True}]
    started, reply = with_api(backend.url, scene, key="s3cret-key")
    assert started == Started("conv-1", "How can I help you?")
    assert reply == Reply(
        "You said for four people.",
        (Action("hangup", {"type": "hangup", "soon": True}),),
        "about for four people",
    )
    start, message = backend.asked
    assert start.body == {
        "callerName": "Ann",
        "phoneNumber": "+15551234567",
        "languageHint": "en",
        "context": {"callId": "CA1", "firstUtterance": "I want to book a table"},
    }
    assert message.body == {
        "conversationId": "conv-1",
        "from": "caller",
        "text": "for four people",
    }
    assert message.headers["x-heard-chars"] == "7"
    assert start.headers["authorization"] == "Bearer s3cret-key"
    key = re.fullmatch(r'"([0-9a-f-]{36})"', start.headers["idempotency-key"])
    assert key is not None
    assert start.headers["x-request-id"] == key[1]
    traces = [asked.headers["traceparent"].split("-") for asked in (start, message)]
    assert traces[0][1] == traces[1][1], "one trace a call"
    assert traces[0][2] != traces[1][2]
    assert lines.events() == ["conversation started", "message sent", "reply received"]
    assert not re.search("book|four|Ann|555|help", json.dumps(lines.told)), "no words, no numbers"


def test_what_is_not_known_is_left_out(backend: BackendServer) -> None:
    with_api(backend.url, lambda api: api.start(Opening("CA1"), TIMEOUT_MS, Lines()))
    assert backend.asked[0].body == {"context": {"callId": "CA1"}}


def test_keys_follow_from_call_and_turn(backend: BackendServer) -> None:
    async def scene(api: BackendApi) -> None:
        for turn in (1, 1, 2):
            await api.say(Utterance("CA1", "conv-1", turn, "a"), TIMEOUT_MS, Lines())
        await api.start(Opening("CA1"), TIMEOUT_MS, Lines())
        await api.start(Opening("CA2"), TIMEOUT_MS, Lines())

    with_api(backend.url, scene, quotes_keys=False)
    keys = [asked.headers["idempotency-key"] for asked in backend.asked]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4
    assert all(re.fullmatch(r"[0-9a-f-]{36}", key) for key in keys)


ONCE, TWICE = 1, 2

ROWS: list[tuple[str, list[Misbehave], int, int]] = [
    # what the server does first, how often it is asked by default, and when it is idempotent
    ("429 with Retry-After", [status(429, retry_after="0")], TWICE, TWICE),
    ("503 with Retry-After", [status(503, retry_after="0")], TWICE, TWICE),
    ("503 with too long a Retry-After", [status(503, retry_after="30")], ONCE, ONCE),
    ("429 without", [status(429)], ONCE, ONCE),
    ("500", [status(500)], ONCE, TWICE),
    ("502", [status(502)], ONCE, TWICE),
    ("504", [status(504)], ONCE, TWICE),
    ("503 without", [status(503)], ONCE, TWICE),
    ("409 three times", [status(409)] * 3, ONCE, 4),
    ("400", [status(400)], ONCE, ONCE),
    ("401", [status(401)], ONCE, ONCE),
    ("403", [status(403)], ONCE, ONCE),
    ("404", [status(404)], ONCE, ONCE),
    ("422", [status(422)], ONCE, ONCE),
    ("a redirect", [status(307, location="http://127.0.0.1:9/")], ONCE, ONCE),
    ("not JSON", [content(b"<html>busy</html>", "text/html")], ONCE, ONCE),
]


@pytest.mark.parametrize("promised", [False, True], ids=["default", "idempotent"])
@pytest.mark.parametrize(("behaviour", "by_default", "idempotent"), [r[1:] for r in ROWS])
def test_the_retry_table(
    backend: BackendServer,
    behaviour: list[Misbehave],
    by_default: int,
    idempotent: int,
    promised: bool,  # noqa: FBT001 - parametrised
) -> None:
    backend.next.extend(behaviour)
    asked_max = idempotent if promised else by_default

    async def scene(api: BackendApi) -> Reply | None:
        try:
            return await api.say(WORDS, TIMEOUT_MS, Lines())
        except ProviderError:
            return None

    reply = with_api(backend.url, scene, idempotent=promised)
    assert len(backend.asked) == asked_max
    assert (reply is not None) == (asked_max == len(behaviour) + 1)
    assert len({(asked.content, asked.headers["idempotency-key"]) for asked in backend.asked}) == 1


@pytest.mark.parametrize("promised", [False, True], ids=["default", "idempotent"])
@pytest.mark.parametrize("cut", [b"", b"HTTP/1.1 201 Created\r\nContent-Ty", "body"])
def test_sent_and_not_answered_is_repeated_only_where_that_is_safe(
    cut: bytes | str,
    promised: bool,  # noqa: FBT001 - parametrised
) -> None:
    head = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n"
    piece = head + b'{"reply": "You are going to be' if isinstance(cut, str) else cut
    good = raw_answer(200, b'{"reply": "Good."}')

    async def play() -> tuple[Reply | None, int]:
        async with standing_in(raw(piece, close=True), good) as server:
            api = BackendApi(server.url, idempotent=promised)
            try:
                return await api.say(WORDS, TIMEOUT_MS, Lines()), len(server.asked)
            except ProviderError:
                return None, len(server.asked)
            finally:
                await api.aclose()

    reply, asked = asyncio.run(play())
    assert asked == (TWICE if promised else ONCE)
    assert reply == (Reply("Good.", (), "") if promised else None)


def test_a_server_that_comes_up_is_reached_at_the_next_attempt() -> None:
    """Nothing was sent, so it may be tried again."""
    lines = Lines()

    async def play() -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            api = BackendApi(f"http://127.0.0.1:{listener.getsockname()[1]}")
            asking = asyncio.create_task(api.say(WORDS, TIMEOUT_MS, lines))
            while not lines.told[1:]:
                await clock.sleep_ms(1)
            stand_in = StandIn([raw_answer(200, b'{"reply":"Here I am."}')])
            async with await asyncio.start_server(stand_in.serve, sock=listener):
                assert (await asking).text == "Here I am."
            await api.aclose()

    asyncio.run(play())
    assert lines.events() == ["message sent", "no answer", "reply received"]


def test_a_server_that_is_down_is_tried_three_times_and_then_left_alone() -> None:
    lines = Lines()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"

        async def scene(api: BackendApi) -> None:
            for _ in range(3):
                with pytest.raises(ProviderError):
                    await api.say(WORDS, TIMEOUT_MS, lines)

        with_api(url, scene)
    assert lines.events().count("no answer") == FAILURES_MAX, "then the breaker was open"


def test_a_server_that_answers_nonsense_or_errors_is_left_alone_as_well(
    backend: BackendServer,
) -> None:
    backend.next.extend([content(b"[]"), status(500)] * FAILURES_MAX)

    async def scene(api: BackendApi) -> None:
        for _ in range(FAILURES_MAX + 2):
            with pytest.raises(ProviderError):
                await api.say(WORDS, TIMEOUT_MS, Lines())

    with_api(backend.url, scene)
    assert len(backend.asked) == FAILURES_MAX


def test_refusals_are_signs_of_life(backend: BackendServer) -> None:
    backend.next.extend([status(500)] * (FAILURES_MAX - 1) + [status(404), status(500)])

    async def scene(api: BackendApi) -> None:
        for _ in range(FAILURES_MAX + 1):
            with pytest.raises(ProviderError):
                await api.say(WORDS, TIMEOUT_MS, Lines())
        assert (await api.say(WORDS, TIMEOUT_MS, Lines())).text

    with_api(backend.url, scene)


@pytest.mark.parametrize("promised", [False, True], ids=["default", "idempotent"])
def test_the_deadline_bounds_every_attempt(
    backend: BackendServer,
    promised: bool,  # noqa: FBT001 - parametrised
) -> None:
    backend.next.extend([slow(20)] * 2)

    async def scene(api: BackendApi) -> None:
        async with asyncio.timeout(10):
            with pytest.raises(ProviderError, match="no answer in time"):
                await api.say(WORDS, 1_500, Lines())

    with_api(backend.url, scene, idempotent=promised)
    assert len(backend.asked) == (TWICE if promised else ONCE)


def test_a_late_answer_within_the_deadline_is_an_answer(backend: BackendServer) -> None:
    backend.next.append(slow(0.3))
    reply = with_api(backend.url, lambda api: api.say(WORDS, TIMEOUT_MS, Lines()))
    assert reply.text == "At last."


def test_a_huge_body_is_cut_off_and_costs_no_memory() -> None:
    mebibytes = 50
    sent = 0

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked"
        writer.write(head + b"\r\n\r\n" + chunk(b'{"reply": "'))
        piece = chunk(b"a" * 65_536)
        while sent < mebibytes * 2**20:
            writer.write(piece)
            await writer.drain()
            sent += 65_536

    async def play() -> int:
        async with standing_in(pour, pour) as server:
            api = BackendApi(server.url)
            with pytest.raises(ProviderError, match="longer than"):
                await api.say(WORDS, TIMEOUT_MS, Lines())
            before = psutil.Process().memory_info().rss
            with pytest.raises(ProviderError, match="longer than"):
                await api.say(WORDS, TIMEOUT_MS, Lines())
            await api.aclose()
            return psutil.Process().memory_info().rss - before

    grown = asyncio.run(play())
    assert sent < mebibytes * 2**20, "it was hung up on"
    assert grown < 8 * 2**20


def test_a_body_that_unfolds_is_not_unfolded() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n"

    async def play() -> None:
        async with standing_in(raw(head + b"Content-Length: 3\r\n\r\nabc", close=True)) as server:
            api = BackendApi(server.url)
            with pytest.raises(ProviderError, match="compressed"):
                await api.say(WORDS, TIMEOUT_MS, Lines())
            assert b"\r\naccept-encoding: identity\r\n" in server.asked[0][0].lower()
            await api.aclose()

    asyncio.run(play())


def test_one_connection_serves_a_conversation_and_no_cookie_passes_to_another_call() -> None:
    cookie = b"Set-Cookie: session=of-the-first-call; Path=/\r\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + cookie
    body = b'{"reply": "Good."}'
    reply = raw(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async def play() -> None:
        async with standing_in(reply, reply, reply) as server:
            api = BackendApi(server.url)
            for _ in range(3):
                await api.say(WORDS, TIMEOUT_MS, Lines())
            assert server.connections == 1
            assert not any(b"of-the-first-call" in head for head, _ in server.asked)
            await api.aclose()

    asyncio.run(play())


def answered(body: bytes, media_type: str = "application/json", code: int = 201) -> Answer:
    return Answer(code, media_type, body)


@pytest.mark.parametrize(
    ("body", "media_type", "fault"),
    [
        (b"", "application/json", "not JSON"),
        (b"{", "application/json", "not JSON"),
        (b"\xff\xfe", "application/json", "not JSON"),
        (b"[]", "application/json", "not an object"),
        (b'"reply"', "application/json", "not an object"),
        (b"{}", "application/json", "is no text"),
        (b'{"reply": null, "conversationId": null}', "application/json", "is no text"),
        (b'{"reply": 5, "conversationId": 5}', "application/json", "is no text"),
        (b'{"reply": "a", "conversationId": ""}', "text/html", "not JSON but text/html"),
        (b'{"reply": "a", "conversationId": ""}', "", "untyped"),
    ],
)
def test_garbage_is_one_sentence(body: bytes, media_type: str, fault: str) -> None:
    for parse in (parse_started, parse_reply):
        with pytest.raises(ProviderError, match=fault):
            parse(answered(body, media_type))


def test_a_start_without_an_id_is_garbage() -> None:
    for name in ("", " ", "x" * 257):
        body = {"conversationId": name, "initialAssistantMessage": "Hello"}
        with pytest.raises(ProviderError, match="conversationId"):
            parse_started(answered(json.dumps(body).encode()))


def test_what_is_long_is_cut_and_what_is_odd_is_passed_over() -> None:
    body: dict[str, object] = {
        "reply": "a" * (REPLY_CHARS_MAX + 1),
        "actions": [None, 5, [], {"type": 5}, {}, *[{"type": "wink"}] * 30],
        "updatedSummary": {"not": "text"},
        "mood": "good",
    }
    reply = parse_reply(answered(json.dumps(body).encode(), "application/json; charset=utf-8", 200))
    assert len(reply.text) == REPLY_CHARS_MAX
    assert 0 < len(reply.actions) <= ACTIONS_MAX
    assert {action.type for action in reply.actions} == {"wink"}
    assert reply.summary == ""


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.just("type"), inner),
    max_leaves=5,
)
replies = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("reply", "actions", "updatedSummary", "conversationId"), json_values),
)


@given(st.binary(max_size=64) | replies.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_read_or_refused(body: bytes) -> None:
    for parse in (parse_started, parse_reply):
        try:
            parse(answered(body))
        except ProviderError:
            continue


def test_an_address_that_is_none_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError):
        BackendApi("http://[::1")


def test_limits_fit_together() -> None:
    assert ANSWER_BYTES_MAX == 256 * 1024
    assert backend_api.TEXT_CHARS_MAX * 4 * 2 < 100_000, "Express reads bodies of up to 100 kB"
