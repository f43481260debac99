"""What holds after a fault, judged on made-up calls."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from loadtest.analysis import CallResult
from loadtest.fault_rows.checks import (
    COMPARED_NS,
    GAP_WITHIN_NS,
    SERVED_WITHIN_NS,
    Check,
    at_most,
    cut_calls,
    evenly_placed,
    gap_within,
    none_cut,
    none_lost,
    none_refused,
    only_those_on,
    p99_moves,
    p99_ms,
    served_while_hung,
    shared_out,
    slowest_setup,
    up_at,
)
from loadtest.schedule import FRAME_NS, NS_PER_MS, NS_PER_SECOND
from tests.loadtest.samples import call, milliseconds

FAULT = 100 * NS_PER_SECOND


def up(port: int, **changes: object) -> CallResult:
    """A call that is up from ten seconds before the fault until ten after."""
    times = {"connect_ns": FAULT - 10 * NS_PER_SECOND, "opened_ns": FAULT - 10 * NS_PER_SECOND}
    ends = {"closed_ns": FAULT + 10 * NS_PER_SECOND, "first_ns": FAULT - 10 * NS_PER_SECOND}
    return call(**(times | ends | {"local_port": port} | changes))


def refused(reason: str = "not connected: Connection refused", connect_ns: int = 0) -> CallResult:
    return call(connected=False, failure=reason, connect_ns=connect_ns, rtt_ms=milliseconds())


def instants(*at_ns: int) -> NDArray[np.int64]:
    return np.array(at_ns, np.int64)


def test_calls_that_were_cut_are_not_those_that_were_refused() -> None:
    good, cut, never = up(1), up(2, failure="connection lost"), refused()
    calls = [good, cut, never]
    assert cut_calls(calls) == [cut]
    assert none_cut(calls) == Check("1 of 3 calls cut (1 x connection lost)", holds=False)
    assert none_cut([good, never]).holds
    check = none_refused(calls)
    assert check.text == "1 of 3 connects failed (1 x not connected: Connection refused)"
    assert not check.holds
    assert not check.timed
    assert none_refused([good, cut]).holds
    assert none_refused([good, cut]).text == "0 of 2 connects failed"


def test_a_late_gateway_may_refuse_which_only_a_quiet_machine_can_judge() -> None:
    late, gone = refused("not connected: HTTP 503 Service Unavailable"), refused()
    assert none_refused([up(1), late]).timed
    assert not none_refused([up(1), late]).holds
    assert not none_refused([late, gone]).timed
    assert none_refused([late, gone], fault_ns=gone.connect_ns + 1).timed
    killed = FAULT + 2 * SERVED_WITHIN_NS
    came = up(1, connect_ns=FAULT, opened_ns=killed)
    late.connect_ns = FAULT
    assert served_while_hung([came, late], FAULT, killed) == Check(
        "1 of 1 new calls waited for it", holds=False, timed=True
    )
    assert not served_while_hung([came], FAULT, killed).timed
    came.opened_ns = FAULT
    assert served_while_hung([came, late], FAULT, killed).holds


def test_the_commonest_reasons_are_told() -> None:
    calls = [refused("a"), *[refused("b")] * 3, *[refused("c")] * 2]
    assert none_refused(calls).text == "6 of 6 connects failed (3 x b; 2 x c)"


def test_the_gateways_own_reasons_are_told_of_what_it_refused() -> None:
    turned_away = [refused("not connected: HTTP 503 Service Unavailable")] * 2
    assert none_refused([up(1), *turned_away], why=["dsp_late", "full"]).text == (
        "2 of 3 connects failed (2 x not connected: HTTP 503 Service Unavailable; "
        "refused as dsp_late, full)"
    )
    assert "refused as" not in none_refused(turned_away).text
    assert "late" not in none_refused([refused()], why=["late"]).text, "nobody answered"
    assert none_refused([up(1)], why=["late"]).text == "0 of 1 connects failed"


@pytest.mark.parametrize("what", ["lost", "withheld", "out_of_order", "duplicated"])
def test_every_frame_comes_back_once_and_in_order(what: str) -> None:
    assert none_lost([call(), call()]) == Check("0 frames lost", holds=True)
    harmed = none_lost([call(), call(**{what: 3})], whose=" of the others")
    assert not harmed.holds
    assert "3" in harmed.text


def test_a_dead_workers_calls_end_and_no_other() -> None:
    lost = "connection lost"
    theirs = [up(1, failure=lost), up(2, failure=lost)]
    # It had the same port, but was over by then.
    earlier = up(2, closed_ns=FAULT - NS_PER_SECOND)
    others = [up(3), up(4), earlier, refused()]
    assert shared_out([1, 2], [*theirs, *others], FAULT) == (theirs, others)
    check = only_those_on([1, 2], [*theirs, *others], FAULT)
    assert check == Check("2 of its 2 calls ended and 0 others", holds=True)
    assert not only_those_on([1], [*theirs, *others], FAULT).holds
    assert not only_those_on([9], others, FAULT).holds, "a worker without calls shows nothing"
    # Its caller had hung up by chance before the worker was killed.
    assert only_those_on([1, 2, 3], [*theirs, *others], FAULT).holds


def test_who_is_up() -> None:
    calls = [up(1), up(2, opened_ns=FAULT + 1), up(3, closed_ns=FAULT), refused()]
    assert up_at(calls, FAULT) == calls[:1]


def with_round_trips(before_ms: float, after_ms: float) -> CallResult:
    frames = np.arange(1000)
    due = FAULT - 10 * NS_PER_SECOND + frames * FRAME_NS
    rtt_ms = np.where(due < FAULT, before_ms, after_ms).astype(np.float32)
    return up(1, rtt_ms=rtt_ms, rtt_frames=frames)


def test_round_trips_before_and_after() -> None:
    calls = [with_round_trips(10, 25)]
    assert p99_ms(calls, FAULT - COMPARED_NS, FAULT) == 10
    assert p99_ms(calls, FAULT, FAULT + COMPARED_NS) == 25
    assert p99_ms(calls, 0, NS_PER_SECOND) is None
    assert p99_ms([], 0, FAULT) is None
    assert p99_moves(calls, FAULT, 15) == Check("their p99 10 -> 25 ms", holds=True, timed=True)
    assert not p99_moves(calls, FAULT, 14).holds
    assert not p99_moves([], FAULT, 14).holds


def test_the_longest_gap_from_the_fault_on() -> None:
    late = FAULT + GAP_WITHIN_NS + 1
    gaps = {"gap_ends_ns": instants(FAULT - 1, FAULT + 10, late), "gaps_ms": milliseconds(9, 9, 9)}
    calls = [up(1, gaps_blamed_ms=milliseconds(500, 55, 400), **gaps), up(2)]
    assert gap_within(calls, FAULT, 60) == Check("gap in playout 55 ms", holds=True, timed=True)
    assert not gap_within(calls, FAULT, 54).holds
    silent = up(3, stalls_ms=milliseconds(2000))
    assert gap_within([*calls, silent], FAULT, 60).text == "gap in playout 2000 ms"


def test_new_calls_do_not_wait_for_a_hung_worker() -> None:
    killed = FAULT + 5 * NS_PER_SECOND
    quick = up(1, connect_ns=FAULT + 1, opened_ns=FAULT + NS_PER_MS)
    waited = up(2, connect_ns=FAULT + 1, opened_ns=killed + 1)
    later = up(3, connect_ns=killed, opened_ns=killed + NS_PER_SECOND)
    assert served_while_hung([quick, later], FAULT, killed).text == (
        "0 of 1 new calls waited for it"
    )
    assert served_while_hung([quick, later], FAULT, killed).holds
    assert not served_while_hung([quick, waited], FAULT, killed).holds
    assert not served_while_hung([quick, refused(connect_ns=FAULT)], FAULT, killed).holds
    assert not served_while_hung([later], FAULT, killed).holds, "nobody called"
    just = up(4, connect_ns=killed - SERVED_WITHIN_NS, opened_ns=killed + 1)
    assert served_while_hung([quick, just], FAULT, killed).holds, "which may be chance"


def test_the_slowest_handshakes() -> None:
    calls = [*[call(setup_ms=10.0)] * 98, *[call(setup_ms=400.0)] * 2, refused()]
    assert slowest_setup(calls, 400, 100).holds
    assert not slowest_setup(calls, 399, 100).holds
    assert not slowest_setup([refused()], 1e9, 100).holds


def test_even_placement() -> None:
    assert evenly_placed([1] * 26 + [2] * 25 + [3] * 25 + [4] * 24, 4, 1.05) == Check(
        "max/mean 1.04 (26/25/25/24)", holds=True
    )
    assert evenly_placed([1, 1, 1, 1], 2, 1.05) == Check("max/mean 2.00 (4/0)", holds=False)
    assert not evenly_placed([], 2, 1.05).holds


def test_limits() -> None:
    assert at_most("x", 3, 3, "ms") == Check("x 3 ms", holds=True, timed=True)
    assert not at_most("x", 3.1, 3, "ms").holds
