"""The channel: one port for HTTP and WebSocket, any cut of the bytes, both parsing paths."""

from __future__ import annotations

import gc
import re
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.channel import Channel, text_frame
from gateway.channel_events import (
    Binary,
    ChannelEvent,
    Closed,
    HttpRequest,
    HttpResponse,
    Upgrade,
)
from gateway.limits import BODY_BYTES_MAX, FRAGMENTS_PER_MESSAGE_MAX, MESSAGE_BYTES_MAX

UPGRADE = (
    b"GET /media HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /twilio/voice HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nCallSid=1"


def frame(
    payload: bytes, opcode: int = 1, *, fin: bool = True, masked: bool = True, rsv: int = 0
) -> bytes:
    """A client frame, built by hand from RFC 6455 5.2."""
    head = bytes([(0x80 if fin else 0) | rsv | opcode])
    flag, size = (0x80 if masked else 0), len(payload)
    if size < 126:
        head += bytes([flag | size])
    elif size < 65536:
        head += bytes([flag | 126]) + struct.pack("!H", size)
    else:
        head += bytes([flag | 127]) + struct.pack("!Q", size)
    if not masked:
        return head + payload
    mask = b"\x11\x22\x33\x44"
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


def talk(data: bytes, cuts: list[int], *, fast: bool = True) -> tuple[list[ChannelEvent], bytes]:
    """Feed ``data`` cut at ``cuts``; answers requests, accepts upgrades. Events and all output."""
    channel, events, output = Channel(fast=fast), [], b""
    places = sorted({min(c, len(data)) for c in cuts} | {0, len(data)})
    for begin, end in pairwise(places):
        text = channel.one_text(data[begin:end]) if fast else None
        todo: list[ChannelEvent] = [text] if text is not None else channel.receive(data[begin:end])
        for event in todo:
            events.append(event)
            if isinstance(event, HttpRequest):
                todo += channel.respond(HttpResponse(200, b"ok"))
            elif isinstance(event, Upgrade):
                todo += channel.accept()
        output += b"".join(channel.take_output())
    return events, re.sub(rb"\r\nDate: [^\r]*", b"", output)  # the second may change in between


def opened() -> Channel:
    channel = Channel()
    (event,) = channel.receive(UPGRADE)
    assert isinstance(event, Upgrade)
    assert channel.accept() == []
    assert b"".join(channel.take_output()).startswith(b"HTTP/1.1 101 ")
    return channel


def close_code(output: bytes) -> int:
    """The code in the last close frame the server sent."""
    at = output.rindex(b"\x88")
    return int.from_bytes(output[at + 2 : at + 4], "big")


FRAMES = st.one_of(
    st.builds(
        frame,
        st.one_of(st.text(max_size=300).map(str.encode), st.binary(max_size=300)),
        st.sampled_from([0, 1, 1, 1, 2, 9, 10, 8, 3]),
        fin=st.booleans(),
        masked=st.sampled_from([True] * 9 + [False]),
        rsv=st.sampled_from([0] * 9 + [0x40, 0x20, 0x10]),
    ),
    st.integers(126, 400).map(lambda n: frame(b"x" * n)),
    st.sampled_from([0, 125, 126, 65535, 65536, 65537]).map(lambda n: frame(b"x" * n)),
    # A length in more bytes than it needs: the common shape of what is not common.
    st.integers(0, 130).map(lambda n: b"\x81\xfe" + struct.pack("!H", n) + bytes(4 + n)),
    st.integers(0, 130).map(lambda n: b"\x81\xff" + struct.pack("!Q", n) + bytes(4 + n)),
    st.binary(min_size=126, max_size=200).map(frame),
    st.sampled_from([0, 999, 1000, 1005, 3000]).map(
        lambda code: frame(struct.pack("!H", code) + b"bye", 8)
    ),
    st.binary(max_size=20),
)


CUTS = st.integers(0, 3000) | st.integers(0, 70_000)


@given(st.lists(FRAMES, max_size=8), st.lists(CUTS, max_size=8))
def test_both_paths_give_the_same_events_for_any_cut(frames: list[bytes], cuts: list[int]) -> None:
    data = UPGRADE + b"".join(frames)
    whole, whole_output = talk(data, [], fast=False)
    assert talk(data, cuts, fast=True) == (whole, whole_output)


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=5))
def test_garbage_never_raises(data: bytes, cuts: list[int]) -> None:
    for start in (b"", UPGRADE, GET):
        events, _ = talk(start + data, cuts)
        assert sum(isinstance(event, Closed) for event in events) <= 1


@given(st.lists(st.integers(0, 800), max_size=10))
def test_pipelined_requests_then_an_upgrade_on_one_connection(cuts: list[int]) -> None:
    message = frame(b"hello " * 30)
    events, output = talk(GET + POST + UPGRADE + message, cuts)
    assert [type(e) for e in events] == [HttpRequest, HttpRequest, Upgrade, str]
    assert isinstance(events[1], HttpRequest)
    assert events[1].body == b"CallSid=1"
    assert output.count(b"HTTP/1.1 200 OK") == 2
    assert b"101 Switching Protocols" in output
    assert events[3] == "hello " * 30


@given(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=FRAGMENTS_PER_MESSAGE_MAX))
def test_fragments_are_joined_wherever_a_character_was_cut(parts: list[str]) -> None:
    channel, raw = opened(), "".join(parts).encode()
    size = -(-len(raw) // len(parts))
    pieces = [raw[i : i + size] for i in range(0, len(raw), size)]
    events: list[ChannelEvent] = []
    for i, piece in enumerate(pieces):
        events += channel.receive(frame(piece, 0 if i else 1, fin=i == len(pieces) - 1))
    assert events == ["".join(parts)]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"x", masked=False), 1002),
        (frame(b"x" * 200, rsv=0x40), 1002),
        (frame(b"x", opcode=3), 1002),
        (frame(b"x" * 126, opcode=9), 1002),
        (frame(b"x", opcode=0), 1002),
        (frame(b"x", opcode=1, fin=False) + frame(b"x" * 130), 1002),
        (frame(b"\xff" * 130), 1007),
        (frame(b"\xc3", fin=False) + frame(b"(", opcode=0), 1007),
        (b"\x81\xff" + struct.pack("!Q", 2**40) + b"mask", 1009),
        (frame(b"x" * (MESSAGE_BYTES_MAX + 1)), 1009),
        (frame(b"x", fin=False) + frame(b"", opcode=0, fin=False) * 40, 1008),
    ],
)
def test_what_breaks_the_protocol_is_closed_with_its_code(data: bytes, code: int) -> None:
    channel = opened()
    events = channel.receive(data)
    assert [e for e in events if isinstance(e, Closed)] == [Closed(code)]
    assert close_code(b"".join(channel.take_output())) == code
    assert channel.is_over
    assert channel.receive(frame(b"late")) == []


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 9000, 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 70 + b"\r\n", 431),
        (b"\x00\x01\x02\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (
            POST.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n"),
            400,
        ),
        (
            b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
            + b"a" * (BODY_BYTES_MAX + 1),
            413,
        ),
        (UPGRADE.replace(b"dGhl", b"!!!!"), 400),
    ],
)
def test_a_bad_request_is_refused_with_its_status(data: bytes, status: int) -> None:
    events, output = talk(data, [])
    assert output.startswith(b"HTTP/1.1 %d " % status)
    assert all(isinstance(event, Upgrade | Closed) for event in events)


def test_a_refused_upgrade_gets_the_response_and_no_socket() -> None:
    channel = Channel()
    channel.receive(UPGRADE)
    channel.refuse(HttpResponse(503, b"full", headers={"Retry-After": "5"}))
    output = b"".join(channel.take_output())
    assert output.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 5" in output
    assert channel.is_over


def test_ping_is_answered_and_binary_is_told_apart() -> None:
    channel = opened()
    assert channel.receive(frame(b"hi", 9) + frame(b"\x00\x01", 2)) == [Binary(b"\x00\x01")]
    assert b"".join(channel.take_output()) == b"\x8a\x02hi"


def test_a_peer_that_closes_gets_its_code_back() -> None:
    channel = opened()
    assert channel.receive(frame(struct.pack("!H", 1001), 8)) == [Closed(1001)]
    assert close_code(b"".join(channel.take_output())) == 1001


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_what_we_send_is_framed_as_the_rfc_says(size: int) -> None:
    assert text_frame(b"x" * size) == frame(b"x" * size, masked=False)


def test_silence_ends_without_an_answer_and_half_a_head_with_408() -> None:
    silent, slow = Channel(), Channel()
    slow.receive(b"GET / HT")
    silent.head_timeout()
    slow.head_timeout()
    assert silent.take_output() == []
    assert b"".join(slow.take_output()).startswith(b"HTTP/1.1 408 ")
    assert silent.is_over
    assert slow.is_over


def test_the_end_of_the_stream_ends_an_open_socket() -> None:
    channel = opened()
    channel.receive(frame(b"half a message", fin=False))
    assert channel.receive_eof() == [Closed(1006)]


def test_a_connection_that_is_gone_leaves_nothing_to_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            channel = Channel()
            channel.receive(UPGRADE)
            channel.accept()
            channel.receive(frame(b"hello"))
            channel.abandon()
            del channel
        assert gc.collect() == 0
    finally:
        gc.enable()
