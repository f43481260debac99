"""TwiML: documents that an XML parser reads back, whatever the caller's name is."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.twiml import APOLOGY, PARAMETER_CHARS_MAX, Connect, connect, overflow, read_form

#: What XML 1.0 can carry; attributes keep line ends and tabs only when they are escaped.
readable = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x10FFFF, exclude_categories=["Cs"]), max_size=30
).map(lambda text: text.replace("\ufffe", "").replace("\uffff", ""))


@given(parameters=st.dictionaries(readable, readable, max_size=4), after=readable)
def test_everything_comes_back_from_a_parser(parameters: dict[str, str], after: str) -> None:
    document = connect(
        Connect(
            stream_url="wss://gw.example/twilio/a?b&c",
            status_url="https://gw.example/twilio/status",
            after_url=after,
            parameters=parameters,
        )
    )
    response = ElementTree.fromstring(document.encode())
    verb, last = response
    (stream,) = verb
    assert (response.tag, verb.tag, stream.tag) == ("Response", "Connect", "Stream")
    assert stream.attrib == {
        "url": "wss://gw.example/twilio/a?b&c",
        "statusCallback": "https://gw.example/twilio/status",
    }
    told = {found.attrib["name"]: found.attrib["value"] for found in stream}
    assert told == {name: value for name, value in parameters.items() if value}
    assert last.tag == ("Redirect" if after else "Hangup")
    assert (last.text or "") == after


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_makes_a_document(name: str, value: str) -> None:
    made = connect(Connect(stream_url="wss://h", status_url="https://h", parameters={name: value}))
    assert ElementTree.fromstring(made.encode()).tag == "Response"


def test_a_parameter_that_is_too_long_for_twilio_is_left_out() -> None:
    longest = "v" * (PARAMETER_CHARS_MAX - 1)
    made = connect(
        Connect(stream_url="wss://h", status_url="", parameters={"a": longest, "b": longest + "v"})
    )
    assert made.count("<Parameter ") == 1


def test_overflow_is_an_apology_or_another_number() -> None:
    say, end = ElementTree.fromstring(overflow().encode())
    assert (say.tag, say.text, end.tag) == ("Say", APOLOGY, "Hangup")
    (dial,) = ElementTree.fromstring(overflow("+4930123456").encode())
    assert (dial.tag, dial.text) == ("Dial", "+4930123456")


def test_forms() -> None:
    assert read_form(b"a=1&b=%2B49+x&a=&c") == [("a", "1"), ("b", "+49 x"), ("a", ""), ("c", "")]
    assert read_form(b"") == []


@pytest.mark.parametrize("body", [b"\xff=1", b"a=%ff", b"&".join([b"a=1"] * 201)])
def test_what_is_no_form(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_form(body)


@given(st.binary(max_size=60))
def test_any_body_is_a_form_or_a_fault(body: bytes) -> None:
    try:
        fields = read_form(body)
    except ValueError:
        return
    assert len(fields) <= body.count(b"&") + 1
