"""What a peer may send in a second, and what becomes of one that sends more."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from gateway.bucket import NS_PER_SECOND
from gateway.flow import Flow, Order, Patience, Seen
from gateway.limits import (
    CONTROL_FRAMES_BURST,
    CONTROL_FRAMES_PER_SECOND_MAX,
    FLOOD_FORGIVEN_AFTER_LOOKS,
    MESSAGE_LOOKS_MAX,
    RECEIVED_BYTES_BURST,
    SMALL_FRAMES_BURST,
)

PING, TEXT, CONTINUATION = 0x89, 0x81, 0x00
#: A call as it is: 50 frames in 19.4 kB, and one that needs most: L16 at 16 kHz.
IN_ORDER, WIDEST = Seen(50, 19_400, 1, 0), Seen(50, 51_700, 1, 0)
#: A call at a hundred times its speed.
FLOODING = Seen(5_000, 1_940_000, 1, 0)


def looks(*seconds: Seen) -> list[Order]:
    flow = Flow(0)
    frames = accumulate(seen.frames for seen in seconds)
    told = [seen._replace(frames=total) for seen, total in zip(seconds, frames, strict=True)]
    return [flow.look(seen, (n + 1) * NS_PER_SECOND) for n, seen in enumerate(told)]


@given(st.lists(st.sampled_from([IN_ORDER, WIDEST, Seen(0, 0, 0, 0)]), max_size=60))
def test_a_call_in_order_is_read_for_ever(seconds: list[Seen]) -> None:
    assert set(looks(*seconds)) <= {Order.READ}


def test_a_stall_that_ends_is_no_crime() -> None:
    stalled = [Seen(0, 0, 1, 0)] * 4
    assert set(looks(*stalled, Seen(250, 97_000, 1, 0), IN_ORDER)) == {Order.READ}
    longer = looks(*[Seen(0, 0, 1, 0)] * 9, Seen(500, 194_000, 1, 0), IN_ORDER, IN_ORDER)
    assert longer[-3:] == [Order.WAIT, Order.READ, Order.READ]


def test_a_flood_is_not_read_from_and_then_sent_away() -> None:
    nothing = Seen(0, 0, 1, 0)
    found = looks(FLOODING, nothing, FLOODING, nothing, FLOODING)
    assert found == [Order.WAIT, Order.READ, Order.WAIT, Order.READ, Order.FLOOD]


def test_a_flood_of_nothing_that_counts_is_one_by_its_bytes() -> None:
    garbage = Seen(0, 2 * RECEIVED_BYTES_BURST, 0, 0)
    assert looks(garbage, garbage, garbage)[-1] is Order.FLOOD


def test_an_excess_is_forgiven_in_time() -> None:
    calm = [IN_ORDER] * FLOOD_FORGIVEN_AFTER_LOOKS
    found = looks(*[*calm, FLOODING] * 5)
    assert Order.FLOOD not in found


def test_several_calls_on_one_socket_may_send_for_each() -> None:
    seven = Seen(7 * 50, 7 * 45_000, 7, 0)
    assert set(looks(*[seven] * 30)) == {Order.READ}


def test_a_message_that_is_never_complete() -> None:
    found = looks(*[Seen(0, 10, 0, 3)] * (MESSAGE_LOOKS_MAX + 1))
    assert found == [Order.READ] * MESSAGE_LOOKS_MAX + [Order.STUCK]
    assert set(looks(*(Seen(0, 10, 0, n + 1) for n in range(20)))) == {Order.READ}


def test_patience_is_counted_apart_and_grows_again() -> None:
    patience = Patience()
    assert all(patience.has(PING) for _ in range(CONTROL_FRAMES_BURST))
    assert not patience.has(PING)
    patience = Patience()
    assert all(patience.has(byte) for byte in (TEXT, CONTINUATION) * (SMALL_FRAMES_BURST // 2))
    assert not patience.has(TEXT)
    patience = Patience()
    for _ in range(100):
        assert all(patience.has(PING) for _ in range(CONTROL_FRAMES_PER_SECOND_MAX))
        patience.grow()
