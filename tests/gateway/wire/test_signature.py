"""Signatures: Twilio's own validator is the oracle, and one vector made by hand."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from gateway.wire.signature import algorithm_of, is_genuine, sign

SECRET = "secret-token"
STREAM = "wss://voice.example.net/media/abc"
WEBHOOK = "https://voice.example.net/twilio/voice"
VECTOR = "nL5mnBorPp421Ti1lix4nULKwx8="
SHA256 = "key=webhooks_sharedkey_1,algorithm=HMAC_SHA256"

texts = st.text(max_size=12)
names = st.dictionaries(texts, texts, max_size=6)


def test_the_vector() -> None:
    assert sign(SECRET, STREAM) == VECTOR
    by_hand = hmac.digest(SECRET.encode(), STREAM.encode(), hashlib.sha1)
    assert b64encode(by_hand).decode() == VECTOR
    assert is_genuine(VECTOR, [SECRET], STREAM)


@given(secret=st.text(min_size=1, max_size=40), fields=names, algorithm=st.sampled_from(["1", "2"]))
def test_we_sign_what_twilio_signs(secret: str, fields: dict[str, str], algorithm: str) -> None:
    name = {"1": "HMAC_SHA1", "2": "HMAC_SHA256"}[algorithm]
    ours = sign(secret, WEBHOOK, fields.items(), name)
    assert ours == RequestValidator(secret).compute_signature(WEBHOOK, fields, name)
    assert RequestValidator(secret).validate(WEBHOOK, fields, ours, name)


@given(
    fields=names, port=st.sampled_from(["", ":443", ":8443"]), path=st.sampled_from(["", "/", "/a"])
)
def test_what_twilios_validator_takes_is_genuine(
    fields: dict[str, str], port: str, path: str
) -> None:
    ours, theirs = f"https://h.example{port}{path}", f"https://h.example{path}"
    validator = RequestValidator(SECRET)
    for signed in (ours, theirs, f"https://h.example:443{path}"):
        given_ = validator.compute_signature(signed, fields)
        taken = validator.validate(ours, fields, given_)
        # Twilio's helper lets any port go missing; we only the one that makes no difference.
        assert is_genuine(given_, [SECRET], ours, fields.items()) == (
            taken and not (port == ":8443" and signed == theirs)
        )


def test_a_field_that_comes_twice_is_signed_once_for_each_value() -> None:
    twice = [("b", "2"), ("a", "1"), ("b", "1"), ("b", "2")]
    assert sign(SECRET, WEBHOOK, twice) == sign(SECRET, WEBHOOK + "a1b1b2")


def test_every_secret_counts_while_they_are_rotated() -> None:
    assert is_genuine(VECTOR, ["new", SECRET], STREAM)
    assert not is_genuine(VECTOR, ["new"], STREAM)
    assert not is_genuine(VECTOR, [], STREAM)


def test_a_shared_key_signs_with_sha256_and_only_then() -> None:
    shared = sign(SECRET, STREAM, algorithm="HMAC_SHA256")
    assert is_genuine(shared, [SECRET], STREAM, settings=SHA256)
    assert not is_genuine(shared, [SECRET], STREAM)
    assert not is_genuine(VECTOR, [SECRET], STREAM, settings=SHA256)
    assert not is_genuine(VECTOR, [SECRET], STREAM, settings="key=k,algorithm=HMAC_MD5")
    assert algorithm_of("key=k") == algorithm_of("") == algorithm_of("algorithm=") == "HMAC_SHA1"


@pytest.mark.parametrize(
    "other",
    [
        "wss://voice.example.org/media/abc",
        "wss://voice.example.net:8443/media/abc",
        "wss://voice.example.net/media/abc/",
        "wss://voice.example.net/media/ABC",
        "wss://voice.example.net/media/abc?x=1",
        "wss://Voice.example.net/media/abc",
        "https://voice.example.net/media/abc",
        "wss://voice.example.net:80/media/abc",
        "wss://voice.example.net",
        "",
    ],
)
def test_another_address_is_another_signature(other: str) -> None:
    assert not is_genuine(sign(SECRET, other), [SECRET], STREAM)


def test_the_standard_port_makes_no_difference() -> None:
    with_port = "wss://voice.example.net:443/media/abc"
    assert is_genuine(sign(SECRET, with_port), [SECRET], STREAM)
    assert is_genuine(sign(SECRET, STREAM), [SECRET], with_port)
    assert is_genuine(sign(SECRET, "http://h"), [SECRET], "http://h:80")
    assert is_genuine(sign(SECRET, "wss://[::1]:443/a"), [SECRET], "wss://[::1]/a")


@pytest.mark.parametrize(
    "given_", ["", "=", VECTOR[:-1], VECTOR + "=", VECTOR.lower(), "é", "\udcff"]
)
def test_anything_else_is_not_genuine(given_: str) -> None:
    assert not is_genuine(given_, [SECRET], STREAM)


@given(given_=st.text(max_size=40), settings=st.text(max_size=40))
def test_no_text_raises(given_: str, settings: str) -> None:
    assert not is_genuine(given_, [SECRET], STREAM, settings=settings)
