"""Placing and counting connections: real sockets, real processes, every way one can end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.admission import REASONS, Admits
from gateway.limits import ACCEPTS_PER_WAKE_MAX, RETRY_AFTER_S
from gateway.tls import server_context
from supervisor.handover import hand_over, send
from supervisor.scoreboard import Field, Phase
from tests.gateway.places import PATIENCE_S, Places, listener, places, wait_until

COUNT = 4
UPGRADE = (
    b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
HELLO = b"\x81\x85\x00\x00\x00\x00hello"  # a masked text message


@pytest.fixture(scope="module")
def four() -> Iterator[Places]:
    with places(COUNT) as made:
        yield made


@pytest.fixture
def found(four: Places) -> Iterator[Places]:
    """The four, all open, and every connection counted back to zero after the test."""
    for place in range(COUNT):
        set_admits(four, place, Admits.YES)
    yield four
    settled(four, [0] * COUNT)


def set_admits(found: Places, place: int, admits: Admits) -> None:
    found.board.row("worker", place).set(Field.ADMITS, admits)


def taken(found: Places) -> int:
    """Connections that were ever taken, by whomever."""
    return sum(found.count("connections_taken", place) for place in range(COUNT))


def settled(found: Places, connections: list[int]) -> None:
    wait_until(lambda: found.connections() == connections, f"{connections} connections")
    wait_until(
        lambda: not any(found.board.in_flight(p) for p in range(COUNT)), "none is on its way"
    )


def dial(found: Places, place: int) -> socket.socket:
    """Connect to a place's own listener."""
    return socket.create_connection(("127.0.0.1", found[place].port), timeout=PATIENCE_S)


def ask(client: socket.socket, request: bytes) -> bytes:
    client.sendall(request)
    return client.recv(4096)


def call(found: Places, place: int) -> tuple[socket.socket, int]:
    """A WebSocket to a place's listener; and the place that answers on it."""
    client = dial(found, place)
    assert ask(client, UPGRADE % b"/").startswith(b"HTTP/1.1 101 ")
    return client, int(ask(client, HELLO)[2:])


def test_an_idle_worker_keeps_what_arrives_and_counts_it(found: Places) -> None:
    client, answered_by = call(found, 2)
    settled(found, [0, 0, 1, 0])
    assert answered_by == 2
    client.close()


def test_connections_at_one_listener_are_spread_over_all(found: Places) -> None:
    calls = [call(found, 1) for _ in range(12)]
    settled(found, [3, 3, 3, 3])
    assert sorted(place for _, place in calls) == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    for client, _ in calls:
        client.close()


def test_a_closed_worker_hands_everything_on(found: Places) -> None:
    set_admits(found, 0, Admits.LOOP_LATE)
    set_admits(found, 3, Admits.DSP_LATE)
    calls = [call(found, 0) for _ in range(6)]
    settled(found, [0, 3, 3, 0])
    for client, _ in calls:
        client.close()


@pytest.mark.parametrize(("admits", "reason"), REASONS.items())
def test_where_nobody_takes_calls_they_are_refused_with_503_and_a_reason(
    found: Places, admits: Admits, reason: str
) -> None:
    for place in range(COUNT):
        set_admits(found, place, admits if admits is not Admits.YES else Admits.NO_SLOT)
    before = found.count(f"refusals/{reason}", 1)
    refused = found.board.row("worker", 1).counter("calls_refused")
    with dial(found, 1) as client:
        answer = ask(client, UPGRADE % b"/")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: %d\r\n" % RETRY_AFTER_S in answer
        settled(found, [0, 0, 0, 0])
    assert found.board.row("worker", 1).counter("calls_refused") == refused + 1
    assert found.count(f"refusals/{reason}", 1) == before + 1
    with dial(found, 1) as client:
        assert ask(client, HEALTH).startswith(b"HTTP/1.1 200 "), "health is answered"
    with dial(found, 1) as client:
        assert ask(client, UPGRADE % b"/forbidden").startswith(b"HTTP/1.1 403 ")


def test_what_does_not_fit_into_a_hand_over_socket_is_kept(found: Places) -> None:
    os.kill(found[3].pid, signal.SIGSTOP)
    sender = found.pairs[3][1]
    while send(sender, b"junk"):
        pass
    for place in (0, 1, 2):
        set_admits(found, place, Admits.NO)
    client, answered_by = call(found, 1)
    assert answered_by == 1
    assert found.count("handovers/kept", 1)
    settled(found, [0, 1, 0, 0])
    os.kill(found[3].pid, signal.SIGCONT)
    client.close()


def test_a_handed_descriptor_that_is_no_connection_is_counted_back(found: Places) -> None:
    for number in range(3):
        reading, writing = os.pipe()
        os.close(writing)
        found.board.count_sent(0, 1)
        assert hand_over(found.pairs[1][1], reading), number
    found.board.count_sent(0, 1)
    assert send(found.pairs[1][1], b"C"), "a connection whose descriptor was lost"
    settled(found, [0, 0, 0, 0])


def test_a_connection_reset_before_and_after_it_is_taken_is_counted_back(found: Places) -> None:
    before = taken(found)
    at_once = struct.pack("ii", 1, 0)
    for n in range(40):
        with dial(found, n % COUNT) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
    wait_until(lambda: taken(found) == before + 40, "all were taken")
    settled(found, [0, 0, 0, 0])


def test_nobody_has_changed_the_backlog(found: Places) -> None:
    """As ``ss -ltn`` shows it: struct tcp_info's tcpi_sacked of a listener is its backlog."""
    backlogs = set()
    for one in found.listeners:
        info = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        backlogs.add(struct.unpack_from("I", info, 28)[0])
    with listener(backlog=4096) as fresh:
        info = fresh.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
        assert backlogs == {struct.unpack_from("I", info, 28)[0]}


def stop_and_say_draining(found: Places, place: int) -> None:
    """So that nothing is accepted before the drain begins."""
    os.kill(found[place].pid, signal.SIGSTOP)
    found.board.row("worker", place).set(Field.PHASE, Phase.DRAINING)


def drain(found: Places, place: int) -> None:
    found[place].tell(do="drain")
    os.kill(found[place].pid, signal.SIGCONT)
    found[place].hear()


def test_a_draining_worker_empties_its_queue_and_leaves_its_listener() -> None:
    with places(COUNT) as found:
        stop_and_say_draining(found, 0)
        waiting = [dial(found, 0) for _ in range(3 * ACCEPTS_PER_WAKE_MAX)]  # whole batches
        drain(found, 0)
        settled(found, [0, *[ACCEPTS_PER_WAKE_MAX] * 3])
        for client in waiting:
            assert ask(client, UPGRADE % b"/").startswith(b"HTTP/1.1 101 ")
            client.close()
        with dial(found, 0) as late:
            late.sendall(HEALTH)
            settled(found, [0, 0, 0, 0])
            late.settimeout(0)
            with pytest.raises(BlockingIOError):
                late.recv(1)


def test_when_nobody_takes_them_a_draining_worker_refuses_what_is_queued() -> None:
    with places(1) as found:
        stop_and_say_draining(found, 0)
        waiting = [dial(found, 0) for _ in range(20)]
        drain(found, 0)
        for client in waiting:
            assert ask(client, UPGRADE % b"/").startswith(b"HTTP/1.1 503 ")
            client.close()
        wait_until(lambda: found.connections() == [0], "all are gone")


def test_what_was_on_its_way_to_a_draining_worker_goes_on_to_another() -> None:
    with places(COUNT) as found, listener() as ours:
        ours.settimeout(PATIENCE_S)
        found[1].ask(do="drain")
        for place in (0, 3):
            set_admits(found, place, Admits.NO)
        clients = [socket.create_connection(ours.getsockname(), PATIENCE_S) for _ in range(5)]
        for _ in clients:
            found.board.count_sent(0, 1)
            assert hand_over(found.pairs[1][1], ours.accept()[0].detach())
        settled(found, [0, 0, 5, 0])
        for client in clients:
            assert ask(client, UPGRADE % b"/").startswith(b"HTTP/1.1 101 ")
            client.close()
        settled(found, [0, 0, 0, 0])


async def knock(port: int) -> tuple[str, asyncio.StreamWriter]:
    """One call of a burst: the status it was answered with, and what keeps it open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(UPGRADE % b"/")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    return head.decode().split()[1], writer


def test_a_burst_of_400_is_spread_evenly_and_none_is_reset() -> None:
    async def burst(found: Places) -> tuple[set[str], list[int]]:
        answers = await asyncio.gather(*(knock(found[0].port) for _ in range(400)))
        spread = found.connections()
        for _, writer in answers:
            writer.close()
        return {status for status, _ in answers}, spread

    with places(COUNT, shared_port=True) as found:
        statuses, spread = asyncio.run(burst(found))
        assert statuses == {"101"}
        assert sum(spread) == 400
        assert max(spread) / (400 / COUNT) <= 1.05, spread
        settled(found, [0, 0, 0, 0])


@pytest.fixture(scope="module")
def secure(certificate: tuple[Path, Path]) -> Iterator[Places]:
    with places(COUNT, tls=server_context(*certificate)) as made:
        yield made


def test_tls_works_on_a_connection_that_was_handed_over(
    secure: Places, certificate: tuple[Path, Path]
) -> None:
    client_tls = ssl.create_default_context(cafile=certificate[0])
    for place in (0, 2, 3):
        set_admits(secure, place, Admits.NO)
    with client_tls.wrap_socket(dial(secure, 0), server_hostname="localhost") as client:
        assert client.version() in {"TLSv1.2", "TLSv1.3"}
        assert ask(client, UPGRADE % b"/").startswith(b"HTTP/1.1 101 ")
        assert ask(client, HELLO)[2:] == b"1"
        settled(secure, [0, 1, 0, 0])
    settled(secure, [0, 0, 0, 0])


@pytest.mark.parametrize("words", [b"", b"\x16", HEALTH, b"\x16\x03\x01\x00\x05hello"])
def test_a_failed_handshake_is_counted_back(secure: Places, words: bytes) -> None:
    for place in range(COUNT):
        set_admits(secure, place, Admits.YES)
    before = taken(secure)
    with dial(secure, 0) as client:
        client.sendall(words)
        if len(words) > 1:
            while client.recv(4096):
                pass
    wait_until(lambda: taken(secure) == before + 1, "it was taken")
    settled(secure, [0, 0, 0, 0])


@pytest.mark.slow
def test_a_handshake_that_never_ends_is_ended(secure: Places) -> None:
    with dial(secure, 0) as client:
        client.sendall(b"\x16\x03")
        assert client.recv(1) == b"", "cut off"
    settled(secure, [0, 0, 0, 0])
