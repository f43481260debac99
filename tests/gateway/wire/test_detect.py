"""The first message decides which codec a connection gets."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import RemoteWireError
from gateway.wire.detect import WIRES, detect


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ('{"event":"connected","protocol":"Call","version":"1.0.0"}', "twilio"),
        ('{"event":"start","start":{"streamSid":"MZ1"}}', "twilio"),
        ('{"type":"init","callId":"a"}', "plain"),
        ('{"type":"nonsense"}', "plain"),
        ('{"event":"start","type":"init"}', "twilio"),
        ('{"event":null,"type":"init"}', "plain"),
    ],
)
def test_by_the_key_that_names_the_message(message: str, name: str) -> None:
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
        found: str = detect(message)
    except RemoteWireError as error:
        found = error.kind
    assert found in {*WIRES, "not-json", "no-event"}
