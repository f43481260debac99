"""Who may call: the whole table of credentials, peers and paths."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.credentials import (
    NAMES,
    Asking,
    Rules,
    client_of,
    judge_upgrade,
    judge_webhook,
    token_of,
    wires_of,
)
from gateway.wire.signature import sign

SECRET, TELNYX, PLAIN = "a-secret-of-twilio", "a-token-of-telnyx", "a-token-of-plain"
URL = "https://gw.example"
REMOTE, LOCAL, PROXY = "203.0.113.5", "127.0.0.1", "10.0.0.1"
ALL = frozenset(NAMES)

BARE = Rules(public_url=URL, proxies=(ipaddress.ip_network("10.0.0.0/8"),))
OPEN = Rules(public_url=URL, insecure_open=True)
SHUT = Rules(public_url=URL, twilio_secrets=("old", SECRET), telnyx_token=TELNYX, plain_token=PLAIN)
TWILIO_ONLY = Rules(public_url=URL, twilio_secrets=(SECRET,))


def signed(target: str) -> dict[str, str]:
    return {"x-twilio-signature": sign(SECRET, f"wss://gw.example{target}")}


TELNYX_SHOWN = {"x-telnyx-streaming-auth-token": TELNYX}
BEARER = {"authorization": f"Bearer {PLAIN}"}
OFFERED = {"sec-websocket-protocol": f"plain, bearer.{PLAIN}"}

TABLE: list[tuple[Rules, str, str, dict[str, str], set[str]]] = [
    # Nothing is configured: this machine, by any wire, or by the one that the path names.
    (BARE, LOCAL, "/", {}, {*NAMES}),
    (BARE, "::1", "/any/path?x=1", {}, {*NAMES}),
    (BARE, "::ffff:127.0.0.1", "/plain", {}, {"plain"}),
    (BARE, LOCAL, "/twilio/token", {}, {"twilio"}),
    (BARE, REMOTE, "/", {}, set()),
    (BARE, REMOTE, "/twilio", signed("/twilio"), set()),
    (BARE, "", "/", {}, set()),
    # A forwarding header makes a stranger of who is near, unless a trusted proxy wrote it.
    (BARE, LOCAL, "/", {"x-forwarded-for": REMOTE}, set()),
    (BARE, LOCAL, "/", {"x-forwarded-for": LOCAL}, set()),
    (BARE, LOCAL, "/", {"forwarded": "for=127.0.0.1"}, set()),
    (BARE, PROXY, "/", {"x-forwarded-for": LOCAL}, {*NAMES}),
    (BARE, PROXY, "/", {"x-forwarded-for": f"{LOCAL}, {REMOTE}"}, set()),
    (BARE, PROXY, "/", {"x-forwarded-for": f"{LOCAL}, {PROXY}"}, {*NAMES}),
    (BARE, REMOTE, "/", {"x-forwarded-for": LOCAL}, set()),
    (BARE, PROXY, "/", {}, set()),
    # INSECURE_OPEN lifts it, but for foreign pages.
    (OPEN, REMOTE, "/", {}, {*NAMES}),
    (OPEN, LOCAL, "/", {"x-forwarded-for": REMOTE}, {*NAMES}),
    (OPEN, REMOTE, "/", {"origin": "https://evil.example"}, set()),
    # What is configured is demanded, of this machine too.
    (SHUT, LOCAL, "/", {}, set()),
    (SHUT, LOCAL, "/twilio", {}, set()),
    (SHUT, REMOTE, "/twilio/abc", signed("/twilio/abc"), {"twilio"}),
    (SHUT, REMOTE, "/twilio/abc", signed("/twilio/abc/"), set()),
    (SHUT, REMOTE, "/twilio/abc", signed("/twilio/abd"), set()),
    (SHUT, REMOTE, "/twilio/abc", {"x-twilio-signature": ""}, set()),
    (SHUT, REMOTE, "/twilio/abc", TELNYX_SHOWN | BEARER, set()),
    (SHUT, REMOTE, "/", signed("/"), {"twilio"}),
    (SHUT, REMOTE, "/", signed("/") | TELNYX_SHOWN | BEARER, {*NAMES}),
    (SHUT, REMOTE, "/telnyx", TELNYX_SHOWN, {"telnyx"}),
    (SHUT, REMOTE, "/telnyx", {"authorization": f"bearer {TELNYX}"}, {"telnyx"}),
    (SHUT, REMOTE, "/telnyx", {"authorization": f"Basic {TELNYX}"}, set()),
    (SHUT, REMOTE, "/plain", BEARER, {"plain"}),
    (SHUT, REMOTE, "/plain", OFFERED, {"plain"}),
    (SHUT, REMOTE, "/plain", {"sec-websocket-protocol": "plain, bearer."}, set()),
    (SHUT, REMOTE, f"/plain?token={PLAIN}", {}, set()),
    (SHUT, REMOTE, "/plain", {"authorization": f"Bearer {TELNYX}"}, set()),
    # One wire's credential does not open or close another's.
    (TWILIO_ONLY, LOCAL, "/", {}, {"telnyx", "plain"}),
    (TWILIO_ONLY, LOCAL, "/twilio", {}, set()),
    (TWILIO_ONLY, REMOTE, "/", signed("/"), {"twilio"}),
    # No header names the address that is signed.
    (SHUT, REMOTE, "/twilio", signed("/twilio") | {"host": "evil.example"}, {"twilio"}),
    (
        SHUT,
        REMOTE,
        "/twilio",
        {
            "x-twilio-signature": sign(SECRET, "wss://evil.example/twilio"),
            "host": "evil.example",
            "x-forwarded-host": "evil.example",
            "x-forwarded-proto": "https",
        },
        set(),
    ),
]


@pytest.mark.parametrize(("rules", "peer", "target", "headers", "wires"), TABLE)
def test_the_wires_a_peer_may_speak(
    rules: Rules, peer: str, target: str, headers: dict[str, str], wires: set[str]
) -> None:
    verdict = judge_upgrade(rules, Asking(peer, target, headers))
    assert verdict.wires == wires
    assert bool(verdict.refusal) == (not wires), "each refusal has its reason, and nothing else"
    for secret in (SECRET, TELNYX, PLAIN):
        assert secret not in verdict.refusal
        assert secret not in repr(rules)


def test_an_origin_that_is_known_passes() -> None:
    rules = Rules(insecure_open=True, origins=frozenset({"https://page.example"}))
    assert judge_upgrade(rules, Asking(REMOTE, "/", {"origin": "https://page.example"})).wires


@pytest.mark.parametrize(
    ("target", "wires", "token"),
    [
        ("/", NAMES, ""),
        ("", NAMES, ""),
        ("/twilio", ("twilio",), ""),
        ("/twilio/", ("twilio",), ""),
        ("/twilio/abc", ("twilio",), "abc"),
        ("/twilio/abc?d=e", ("twilio",), "abc"),
        ("/twilio/abc/def", ("twilio",), "abc/def"),
        ("/twilios/abc", NAMES, ""),
        ("/telnyx/abc", ("telnyx",), ""),
        ("//twilio//abc", ("twilio",), "/abc"),
        ("http://h/twilio", NAMES, ""),
    ],
)
def test_the_path_names_the_wire(target: str, wires: tuple[str, ...], token: str) -> None:
    assert wires_of(target) == wires
    assert token_of(target) == token


@pytest.mark.parametrize(
    ("rules", "peer", "headers", "refused"),
    [
        (BARE, LOCAL, {}, False),
        (BARE, REMOTE, {}, True),
        (BARE, LOCAL, {"x-forwarded-for": REMOTE}, True),
        (OPEN, REMOTE, {}, False),
        (SHUT, LOCAL, {}, True),
        (SHUT, REMOTE, {"x-twilio-signature": "="}, True),
    ],
)
def test_webhooks(rules: Rules, peer: str, headers: dict[str, str], *, refused: bool) -> None:
    assert bool(judge_webhook(rules, Asking(peer, "/twilio/voice", headers), [])) == refused


def test_a_webhook_is_signed_with_its_fields() -> None:
    fields = [("CallSid", "CA1"), ("From", "+1")]
    signature = sign(SECRET, f"{URL}/twilio/voice?a=b", fields)
    asking = Asking(REMOTE, "/twilio/voice?a=b", {"x-twilio-signature": signature})
    assert judge_webhook(SHUT, asking, fields) == ""
    assert judge_webhook(SHUT, asking, fields[:1])
    assert judge_webhook(SHUT, Asking(REMOTE, "/twilio/voice", asking.headers), fields)


@given(hosts=st.lists(st.ip_addresses().map(str), min_size=1, max_size=4))
def test_who_forwards_is_never_nearer_than_who_speaks(hosts: list[str]) -> None:
    """Without a trusted proxy no header can make anybody local."""
    rules = Rules()
    asking = Asking(REMOTE, "/", {"x-forwarded-for": ", ".join(hosts)})
    assert client_of(rules, asking) == ""


@given(
    peer=st.text(max_size=12),
    target=st.text(max_size=30),
    headers=st.dictionaries(
        st.sampled_from(
            [
                "origin",
                "authorization",
                "x-forwarded-for",
                "forwarded",
                "x-twilio-signature",
                "x-twilio-webhooks-signature-settings",
                "x-telnyx-streaming-auth-token",
                "sec-websocket-protocol",
            ]
        ),
        st.text(max_size=40),
    ),
)
def test_any_request_has_a_verdict(peer: str, target: str, headers: dict[str, Any]) -> None:
    assert judge_upgrade(SHUT, Asking(peer, target, headers)).wires == frozenset()
