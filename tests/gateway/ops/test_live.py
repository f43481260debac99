"""Reports of live calls: what is sent is read, garbage is refused, packets stay small."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.ops import live
from gateway.ops.live import CallSeen, CallsSeen
from gateway.ops.records import PACKET_BYTES_MAX, CallEnded, Record, RecordError, encode

ids = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
levels = st.integers(-90, 0)
calls = st.builds(CallSeen, ids, levels, levels, st.booleans(), st.booleans())


@given(st.lists(calls, max_size=20))
def test_what_is_seen_is_read(sent: list[CallSeen]) -> None:
    packets = list(live.seen(sent))
    assert all(map(live.is_report, packets))
    assert [live.read(packet) for packet in packets] == [CallsSeen(tuple(sent))]


def test_very_many_calls_take_several_packets() -> None:
    sent = [
        CallSeen(f"{n:0256}", -20, -20, caller_speaks=True, assistant_speaks=True)
        for n in range(1_000)
    ]
    packets = list(live.seen(sent))
    assert 1 < len(packets) < 10
    assert max(map(len, packets)) <= PACKET_BYTES_MAX
    read = [live.read(packet) for packet in packets]
    assert [call for part in read for call in part.calls] == sent


def test_a_record_is_no_report() -> None:
    assert not live.is_report(encode(Record(1, CallEnded('{"live":', 1, "stopped", 1))))


@given(
    st.binary(max_size=60)
    | st.lists(calls, max_size=3).flatmap(lambda sent: st.sampled_from(list(live.seen(sent))))
    | st.sampled_from(
        [
            b'{"live":1}',
            b'{"live":"seen"}',
            b'{"live":"seen","calls":[["CA1",1,1,1,1]]}',
            b'{"live":"seen","calls":[[]]}',
        ]
    )
)
def test_garbage_is_refused_and_nothing_else_happens(packet: bytes) -> None:
    for cut in (packet, packet[: len(packet) // 2], packet[1:], packet + b"}"):
        try:
            found = live.read(cut)
        except RecordError:
            continue
        assert isinstance(found, CallsSeen)
