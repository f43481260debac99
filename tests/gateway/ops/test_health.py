"""States and readiness, judged from a board."""

from __future__ import annotations

import pytest

from audio.format import NS_PER_MS
from gateway.admission import Admits
from gateway.ops.health import HUNG_AFTER_NS, START_TIMEOUT_NS, child_state, readiness, who_may_call
from gateway.settings import load_settings
from supervisor.placement import UNPLACEABLE_AFTER_MS
from supervisor.scoreboard import Field, Phase, RowName, Scoreboard

NOW_NS = 10**15
NAMES = [RowName("worker", 0), RowName("worker", 1), RowName("dsp", 0), RowName("speech", 0)]
CREDENTIALS: dict[str, object] = {
    "public_url": "https://gw.example",
    "twilio_auth_token": "a-secret-of-twilio",
    "telnyx_stream_token": "a-token-of-telnyx",
    "plain_token": "a-token-of-plain",
}
LOCAL = load_settings(None, responder="message_taker", **CREDENTIALS)
ECHO = load_settings(None, responder="echo", **CREDENTIALS)


@pytest.fixture
def board() -> Scoreboard:
    """Everybody ready, two calls each worker."""
    board = Scoreboard(NAMES, arenas=3)
    for row in board.rows():
        row.take(pid=1, now_ns=NOW_NS)
        row.set(Field.PHASE, Phase.READY)
    for row in board.rows("worker"):
        row.set(Field.CONNECTIONS, 2)
        row.set(Field.ADMITS, Admits.YES)
        row.set(Field.CAPACITY, 4)
    return board


@pytest.mark.parametrize(
    ("phase", "age_ns", "state"),
    [
        (Phase.STARTING, START_TIMEOUT_NS, "starting"),
        (Phase.STARTING, START_TIMEOUT_NS + 1, "hung"),
        (Phase.READY, HUNG_AFTER_NS, "ready"),
        (Phase.READY, HUNG_AFTER_NS + 1, "hung"),
        (Phase.READY, -1, "ready"),
        (Phase.DRAINING, 0, "draining"),
        (Phase.DRAINING, HUNG_AFTER_NS + 1, "hung"),
        (Phase.EXITED, 10 * HUNG_AFTER_NS, "exited"),
        (Phase.PARKED, 10 * HUNG_AFTER_NS, "parked"),
        (Phase.SPARE, 10 * HUNG_AFTER_NS, "spare"),
        (77, 0, "exited"),
    ],
)
def test_state_is_phase_and_age_of_the_heartbeat(
    board: Scoreboard, phase: int, age_ns: int, state: str
) -> None:
    row = board.row("worker", 0)
    row.set(Field.PHASE, phase)
    row.beat(NOW_NS - age_ns)
    assert child_state(row, NOW_NS) == state


def test_a_child_that_was_never_started_is_starting() -> None:
    assert child_state(Scoreboard(NAMES, 1).row("dsp", 0), NOW_NS) == "starting"


def test_all_well(board: Scoreboard) -> None:
    found = readiness(board, LOCAL, NOW_NS)
    assert (found.ready, found.degraded, found.reasons, found.warnings) == (True, False, (), ())


def test_one_worker_is_enough_but_the_other_is_named(board: Scoreboard) -> None:
    board.row("worker", 1).set(Field.PHASE, Phase.PARKED)
    found = readiness(board, LOCAL, NOW_NS)
    assert found.ready
    assert found.degraded
    assert found.warnings == ("worker-1 is parked",)


@pytest.mark.parametrize(("kind", "degraded"), [("dsp", True), ("speech", False)])
def test_degraded_is_about_calls_only(board: Scoreboard, kind: str, *, degraded: bool) -> None:
    board.row(kind, 0).set(Field.PHASE, Phase.PARKED)
    assert readiness(board, ECHO, NOW_NS).degraded is degraded


def test_a_spare_place_is_no_fault(board: Scoreboard) -> None:
    board.row("worker", 1).set(Field.PHASE, Phase.SPARE)
    found = readiness(board, LOCAL, NOW_NS)
    assert (found.ready, found.degraded, found.warnings) == (True, False, ())


def test_no_worker_no_call(board: Scoreboard) -> None:
    for row in board.rows("worker"):
        row.set(Field.PHASE, Phase.DRAINING)
    assert readiness(board, LOCAL, NOW_NS).reasons == ("no worker is ready",)


def test_a_gateway_is_full_when_nobody_takes_a_call(board: Scoreboard) -> None:
    board.row("worker", 0).set(Field.CONNECTIONS, 4)
    assert readiness(board, LOCAL, NOW_NS).ready
    board.row("worker", 1).set(Field.CONNECTIONS, 4)
    assert readiness(board, LOCAL, NOW_NS).reasons == (
        "the gateway is full",
        "worker-0: every slot is taken",
        "worker-1: every slot is taken",
    )


def test_connections_on_their_way_count(board: Scoreboard) -> None:
    board.count_sent(1, 0, 2)
    board.count_sent(0, 1, 2)
    assert not readiness(board, LOCAL, NOW_NS).ready


def test_a_closed_worker_says_why(board: Scoreboard) -> None:
    board.row("worker", 0).set(Field.ADMITS, Admits.LOOP_LATE)
    found = readiness(board, LOCAL, NOW_NS)
    assert found.ready
    assert found.warnings == ("worker-0 takes no calls: its event loop is late",)
    board.row("worker", 1).beat(NOW_NS - (UNPLACEABLE_AFTER_MS + 1) * NS_PER_MS)
    assert readiness(board, LOCAL, NOW_NS).reasons == (
        "the gateway is full",
        "worker-0: its event loop is late",
        "worker-1: it is silent",
    )


def test_hung_dsp_and_missing_speech_server_are_reasons(board: Scoreboard) -> None:
    board.row("dsp", 0).beat(NOW_NS - 2 * HUNG_AFTER_NS)
    board.row("speech", 0).set(Field.PHASE, Phase.STARTING)
    found = readiness(board, LOCAL, NOW_NS)
    assert not found.ready
    assert found.reasons == ("no DSP process is ready", "the local speech server is not ready")
    assert found.warnings == ("dsp-0 is hung",)


def test_the_speech_server_is_asked_for_only_when_needed(board: Scoreboard) -> None:
    board.row("speech", 0).set(Field.PHASE, Phase.STARTING)
    assert readiness(board, ECHO, NOW_NS).ready


def test_warnings(board: Scoreboard) -> None:
    found = readiness(board, load_settings(None, insecure_open=True), NOW_NS, ["the disk is full"])
    assert found.ready
    assert found.warnings == (
        "INSECURE_OPEN is set: anybody may call without credentials (twilio, telnyx and plain)",
        "the disk is full",
    )


def test_wires_without_credentials_are_named() -> None:
    only_twilio = {k: v for k, v in CREDENTIALS.items() if k in ("public_url", "twilio_auth_token")}
    assert list(who_may_call(LOCAL)) == []
    assert list(who_may_call(load_settings(None, **only_twilio))) == [
        "without credentials only this machine may call (telnyx and plain)"
    ]
    plain = CREDENTIALS | {"plain_token": ""}
    assert list(who_may_call(load_settings(None, **plain, insecure_open=True))) == [
        "INSECURE_OPEN is set: anybody may call without credentials (plain)"
    ]
