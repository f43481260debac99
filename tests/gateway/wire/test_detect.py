"""The first message decides which codec a connection gets."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import RemoteWireError
from gateway.wire.detect import WIRES, WireName, detect, wire_of_path


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ('{"event":"connected","protocol":"Call","version":"1.0.0"}', "twilio"),
        ('{"event":"connected","protocol":"Call","connected":{}}', "twilio"),
        ('{"event":"connected","version":"1.0.0"}', None),
        ('{"event":"connected"}', None),
        ('{"event":"connected","connected":{"x-telnyx-streaming-auth-token":"t"}}', "telnyx"),
        ('{"event":"start","start":{"streamSid":"MZ1"}}', "twilio"),
        ('{"event":"start","stream_id":"a","start":{"call_control_id":"v3:a"}}', "telnyx"),
        ('{"event":"start","start":{"media_format":{"encoding":"PCMU"}}}', "telnyx"),
        ('{"event":"start","stream_id":"a","start":{"callSid":"CA1"}}', "twilio"),
        ('{"event":"media","stream_id":"a","media":{"payload":""}}', "telnyx"),
        ('{"event":"media","media":{"payload":""}}', "twilio"),
        ('{"event":"media","media":[]}', "twilio"),
        ('{"type":"init","callId":"a"}', "plain"),
        ('{"type":"nonsense"}', "plain"),
        ('{"event":"start","type":"init"}', "twilio"),
        ('{"event":null,"type":"init"}', "plain"),
    ],
)
def test_by_what_only_one_of_them_writes(message: str, name: WireName | None) -> None:
    assert detect(message) == name
    assert detect(message.encode()) == name


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("", "not-json"),
        ("hello", "not-json"),
        ("[]", "not-json"),
        (b"\x00\xff\x7f", "not-json"),
        ("{}", "no-event"),
        ('{"event":1}', "no-event"),
        ('{"type":["init"]}', "no-event"),
    ],
)
def test_neither_is_a_declared_error(message: str | bytes, kind: str) -> None:
    with pytest.raises(RemoteWireError) as caught:
        detect(message)
    assert caught.value.kind == kind


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(message=st.text() | st.binary())
def test_any_message_is_a_known_wire_or_a_declared_error(message: str | bytes) -> None:
    try:
        found: str | None = detect(message)
    except RemoteWireError as error:
        found = error.kind
    assert found in {*WIRES, None, "not-json", "no-event"}


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/telnyx", "telnyx"),
        ("/twilio/3f9c1e", "twilio"),
        ("/plain/?a=b", "plain"),
        ("/", None),
        ("/media/telnyx", None),
        ("/telnyxx", None),
        ("", None),
    ],
)
def test_by_the_first_segment_of_the_path(target: str, name: WireName | None) -> None:
    assert wire_of_path(target) == name
