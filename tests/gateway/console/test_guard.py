"""Hosts, peers and methods, through the ASGI interface."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse

from gateway.console.guard import PAGE_PATHS, SECURITY_HEADERS, Guard
from gateway.errors import ConfigurationError
from gateway.settings import load_settings
from tests.gateway.console import asgi
from tests.gateway.console.asgi import LOOPBACK

STRANGER = ("10.1.2.3", 50_000)


def ask(
    path: str = "/",
    *,
    host: str | None = "127.0.0.1:4001",
    client: tuple[str, int] | None = LOOPBACK,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    **settings: object,
) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer; 200 means that the request came through."""
    guard = Guard(PlainTextResponse("inside"), load_settings(None, **settings))
    asking = asgi.ask(guard, path, method=method, host=host, client=client, headers=headers)
    answer = asyncio.run(asking)
    return answer.status, answer.headers


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:4001", "127.0.0.1:4001", "[::1]:4001", "[::1]", "127.0.0.1"],
)
def test_names_of_this_machine_pass(host: str) -> None:
    assert ask(host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example",
        "evil.example:4001",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil@localhost",
        "localhost:4001:80",
        "localhost:x",
        "10.0.0.1",
        "[::2]",
        "::1",
        "localhost, evil.example",
    ],
)
def test_other_names_do_not(host: str | None) -> None:
    assert ask(host=host)[0] == 421


@given(st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=30))
def test_no_other_text_is_a_name_of_this_machine(host: str) -> None:
    bare = host.rsplit(":", 1)[0].strip("[]").lower()
    if bare not in {"localhost", "127.0.0.1", "", ":", "::1"}:
        assert ask(host=host)[0] == 421


def test_the_configured_host_passes() -> None:
    assert ask(host="Console.internal:4001", console_host="console.internal")[0] == 200
    assert ask(host="192.0.2.7", console_host="192.0.2.7")[0] == 200


def test_any_address_passes_where_all_are_listened_on() -> None:
    for host in ("192.0.2.7:4001", "[2001:db8::1]:4001", "localhost"):
        assert ask(host=host, console_host="0.0.0.0")[0] == 200
    assert ask(host="evil.example", console_host="0.0.0.0")[0] == 421


@pytest.mark.parametrize("path", ["/", "/api/calls", "/api/messages", "/api/workers", "/nowhere"])
@pytest.mark.parametrize("client", [STRANGER, None, ("::ffff:10.1.2.3", 1), ("testclient", 1)])
def test_strangers_see_no_calls(path: str, client: tuple[str, int] | None) -> None:
    assert ask(path, client=client)[0] == 403
    assert ask(path, client=client, insecure_open=True)[0] == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_strangers_see_health_and_metrics(path: str) -> None:
    assert ask(path, client=STRANGER)[0] == 200


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_this_machine_sees_all(address: str) -> None:
    assert ask("/api/calls", client=(address, 1))[0] == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_refused(method: str) -> None:
    status, headers = ask(method=method)
    assert status == 405
    assert headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"content-type": "application/json; charset=utf-8"}, 200),
        ({"origin": "http://127.0.0.1:4001"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"content-type": "text/plain"}, 403),
        ({"content-type": "application/x-www-form-urlencoded"}, 403),
    ],
)
def test_only_our_own_page_changes_anything(headers: dict[str, str], status: int) -> None:
    assert ask(method="POST", headers=headers)[0] == status


TOKEN = "a-token-of-enough-length"


def with_token(token: str, kind: str = "Bearer") -> dict[str, str]:
    return {"authorization": f"{kind} {token}"}


def test_with_a_token_whoever_brings_it_sees_all_from_anywhere() -> None:
    for headers in (with_token(TOKEN), with_token(TOKEN, "bearer")):
        for client in (LOOPBACK, STRANGER):
            status, _ = ask(
                "/api/calls",
                client=client,
                host="console.example",
                headers=headers,
                console_token=TOKEN,
            )
            assert status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        with_token(""),
        with_token(TOKEN[:-1]),
        with_token(TOKEN + "x"),
        with_token(TOKEN, "Basic"),
        {"authorization": TOKEN},
        with_token("\xff" * 24),
    ],
)
def test_without_the_token_nobody_sees_calls(headers: dict[str, str]) -> None:
    for client in (LOOPBACK, STRANGER):
        for path in ("/api/calls", "/api/live", "/api/softphone", "/api/messages.csv"):
            status, answer = ask(
                path, client=client, headers=headers, console_token=TOKEN, insecure_open=True
            )
            assert status == 401
            assert answer["www-authenticate"] == "Bearer"


def test_the_page_that_asks_for_the_token_is_free() -> None:
    for path in PAGE_PATHS:
        assert ask(path, client=STRANGER, console_token=TOKEN)[0] == 200


def test_a_short_token_is_refused_and_not_quoted() -> None:
    with pytest.raises(ConfigurationError, match="16 to 256") as refused:
        load_settings(None, console_token="guess me")
    assert "guess me" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("127.0.0.1:4001", "ws://127.0.0.1:4321 wss://127.0.0.1:4321"),
        ("localhost", "ws://localhost:4321 wss://localhost:4321"),
        ("[::1]:4001", "ws://[::1]:4321 wss://[::1]:4321"),
    ],
)
def test_the_page_may_connect_here_and_to_the_public_port(host: str, public: str) -> None:
    policy = ask(host=host, gateway_port=4321)[1]["content-security-policy"]
    assert f"connect-src 'self' {public};" in policy


def test_every_answer_carries_the_security_headers() -> None:
    for headers in (ask()[1], ask(method="PUT")[1], ask(host="evil; script-src *")[1]):
        assert SECURITY_HEADERS.items() <= headers.items()
        policy = headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "*" not in policy
        assert policy.startswith("default-src 'none'")
