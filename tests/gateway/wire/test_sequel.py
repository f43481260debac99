"""Foretelling the next media message changes what reading costs, never what is read."""

from __future__ import annotations

import base64
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from gateway.errors import RemoteWireError
from gateway.wire.sequel import Sequel
from gateway.wire.twilio import TwilioWire

START = '{"event":"start","streamSid":"MZ1","start":{"streamSid":"MZ1","callSid":"CA1"}}'
STOP = '{"event":"stop","streamSid":"MZ1","stop":{}}'

Shape = Callable[[int, int, str], str]


def compact(n: int, ms: int, text: str) -> str:
    return (
        f'{{"event":"media","sequenceNumber":"{n + 1}","media":{{"track":"inbound","chunk":"{n}",'
        f'"timestamp":"{ms}","payload":"{text}"}},"streamSid":"MZ1"}}'
    )


def numbers(n: int, ms: int, text: str) -> str:
    return (
        f'{{"event": "media", "streamSid": "MZ1", "sequenceNumber": {n + 1}, "media": '
        f'{{"track": "inbound", "chunk": {n}, "timestamp": {ms}, "payload": "{text}"}}}}'
    )


def twice(n: int, ms: int, text: str) -> str:
    return compact(n, ms, text).replace('"payload"', '"payload":"AAAA","payload"')


def decoy(n: int, ms: int, text: str) -> str:
    return compact(n, ms, text).replace("{", f'{{"x":"\\"timestamp\\":\\"{n}\\"",', 1)


def other_order(n: int, ms: int, text: str) -> str:
    return (
        f'{{"event":"media","streamSid":"MZ1","media":{{"payload":"{text}","track":"inbound",'
        f'"timestamp":"{ms}","chunk":"{n}"}},"sequenceNumber":"{n + 1}"}}'
    )


def outbound(n: int, ms: int, text: str) -> str:
    return compact(n, ms, text).replace("inbound", "outbound")


def mark(n: int, ms: int, text: str) -> str:
    return (
        f'{{"event":"mark","streamSid":"MZ1","sequenceNumber":"{n + 1}","mark":{{"name":"{ms}"}}}}'
    )


SHAPES: list[Shape] = [compact, compact, numbers, twice, decoy, other_order, outbound, mark]
TEXTS = st.one_of(
    st.sampled_from([160, 160, 160, 80, 0]).flatmap(
        lambda size: st.binary(min_size=size, max_size=size).map(
            lambda raw: base64.b64encode(raw).decode()
        )
    ),
    st.sampled_from(["AAA", "====", "AA==AA==", 'AA"', "\\u0041AAA", "ÄÄÄÄ"]),
)
STEPS = st.tuples(
    st.sampled_from(SHAPES),
    TEXTS,
    st.sampled_from([1, 1, 1, 1, 1, 2, 0]),
    st.sampled_from([20, 20, 20, 20, 19, 40, -20]),
)


class Plodder(TwilioWire):
    """The same codec, but nothing is ever foretold."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__()
        self._sequel = _Blind()


class _Blind(Sequel):
    @override
    def take(self, message: str) -> bytes | None:
        return None


def read(wire: TwilioWire, message: str) -> object:
    try:
        return wire.receive(message)
    except RemoteWireError as error:
        return error.kind


def messages(steps: list[tuple[Shape, str, int, int]]) -> list[str]:
    n, ms, made = 1, 0, [START]
    for shape, text, count, passed in steps:
        made.append(shape(n, max(0, ms), text))
        n, ms = n + count, ms + passed
    return [*made, STOP, made[-1]]


@given(st.lists(STEPS, max_size=30))
def test_what_is_foretold_reads_as_what_is_parsed(
    steps: list[tuple[Shape, str, int, int]],
) -> None:
    foretelling, plodding = TwilioWire(), Plodder()
    for message in messages(steps):
        assert read(foretelling, message) == read(plodding, message), message
        for count in ("media_gaps", "media_gap_ms", "messages_unknown"):
            assert getattr(foretelling, count) == getattr(plodding, count), message


def test_after_one_message_the_next_are_not_parsed() -> None:
    sequel = Sequel()
    text = base64.b64encode(bytes(160)).decode()
    sequel.foretell(compact(8, 100, text), bytes(160), 100)
    for n in range(9, 1100):  # the counters grow by digits on the way
        assert sequel.take(compact(n, 100 + (n - 8) * 20, text)) == bytes(160)
    assert sequel.take(compact(2000, 0, text)) is None


def test_a_mark_between_takes_a_number_and_costs_no_parsing() -> None:
    sequel = Sequel()
    text = base64.b64encode(bytes(160)).decode()
    sequel.foretell(compact(8, 100, text), bytes(160), 100)
    sequel.counted(99_999)
    later = compact(9, 120, text).replace('"10"', '"100000"', 1)
    assert sequel.take(compact(9, 120, text)) is None
    assert sequel.take(later) == bytes(160)


def test_a_peer_that_cannot_be_foretold_is_looked_at_less_and_less() -> None:
    sequel = Sequel()
    text = base64.b64encode(bytes(160)).decode()
    learned = []
    for n in range(1, 600):
        message = compact(n, 7 * n * n, text)
        assert sequel.take(message) is None
        sequel.foretell(message, bytes(160), 7 * n * n)
        if sequel._length >= 0:
            learned.append(n)
    assert len(learned) < 12, learned
