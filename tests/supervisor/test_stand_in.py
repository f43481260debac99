"""Queues of a worker that cannot serve them: what is taken from where, and how it is booked."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.handover import CONNECTION, REFUSAL, hand_over, receive, send, socket_pair
from supervisor.placement import UNPLACEABLE_AFTER_MS
from supervisor.scoreboard import Field, Phase, RowName, Scoreboard
from supervisor.sockets import open_listener
from supervisor.stand_in import TAKEN_PER_WAKE_MAX, StandIn, Unattended, unattended

MS = 1_000_000
NOW_NS = 10_000 * MS
STALE_MS = UNPLACEABLE_AFTER_MS + 1
PLACES = 3


def place_is(
    board: Scoreboard,
    place: int,
    phase: Phase = Phase.READY,
    *,
    listener: int = -1,
    silent_ms: int = 0,
    capacity: int = 1_000,
) -> None:
    row = board.row("worker", place)
    row.set(Field.PHASE, phase)
    row.set(Field.LISTENER, listener)
    row.set(Field.HEARTBEAT_NS, NOW_NS - silent_ms * MS)
    row.set(Field.ADMITS, 1)
    row.set(Field.CAPACITY, capacity)


@pytest.mark.parametrize(
    ("phase", "silent_ms", "listener", "place"),
    [
        (Phase.READY, 0, True, True),
        (Phase.READY, UNPLACEABLE_AFTER_MS, True, True),
        (Phase.READY, STALE_MS, False, False),
        (Phase.DRAINING, 0, False, True),  # its successor serves the listener
        (Phase.DRAINING, STALE_MS, False, False),
        (Phase.STARTING, 0, False, False),
        (Phase.EXITED, 0, False, False),
        (Phase.PARKED, 0, False, False),
        (Phase.SPARE, 0, False, False),
    ],
)
def test_who_attends_to_what(phase: Phase, silent_ms: int, *, listener: bool, place: bool) -> None:
    board = Scoreboard([RowName("worker", 0)], 1)
    place_is(board, 0, phase, listener=0, silent_ms=silent_ms)
    found = unattended(board, 1, NOW_NS)
    assert found == Unattended(
        frozenset() if listener else frozenset({0}), frozenset() if place else frozenset({0})
    )


def test_listener_is_attended_while_its_worker_is_being_replaced() -> None:
    board = Scoreboard([RowName("worker", i) for i in range(3)], 3)
    place_is(board, 0, Phase.DRAINING, listener=0)
    place_is(board, 1, listener=1, silent_ms=STALE_MS)
    place_is(board, 2, listener=0)
    assert unattended(board, 2, NOW_NS) == Unattended(frozenset({1}), frozenset({1}))


@dataclass
class Bench:
    """Two listeners, three places, and a supervisor that stands in for whoever does not serve."""

    board: Scoreboard
    listeners: list[socket.socket]
    handovers: list[tuple[socket.socket, socket.socket]]
    epoll: select.epoll
    held: ExitStack
    now_ns: int = NOW_NS

    def __post_init__(self) -> None:
        self.stand_in = StandIn(self.board, self.listeners, self.handovers, self.epoll)
        self.held.callback(self.stand_in.close)

    def call(self, listener: int, name: bytes) -> None:
        """A caller connects and says a name, by which its connection is known."""
        address = self.listeners[listener].getsockname()
        caller = self.held.enter_context(socket.create_connection(address))
        caller.sendall(name)

    def send_to(self, place: int, name: bytes, sender: int = 0) -> None:
        """Another worker hands a connection to a place."""
        caller, called = socket.socketpair()
        self.held.enter_context(caller).sendall(name)
        self.board.count_sent(sender, place)
        assert hand_over(self.handovers[place][1], called.detach())

    def turn(self) -> bool:
        """What the tree does in one turn; whether anything was readable."""
        ready = {fd for fd, _ in self.epoll.poll(0)}
        self.stand_in.serve(ready, self.now_ns)
        self.now_ns += 50 * MS
        self.keep_beating()
        self.stand_in.look(self.now_ns)
        return bool(ready)

    def keep_beating(self) -> None:
        """Who was fresh stays fresh."""
        for row in self.board.rows():
            age_ns = self.now_ns - 50 * MS - row.get(Field.HEARTBEAT_NS)
            if age_ns <= UNPLACEABLE_AFTER_MS * MS:
                row.set(Field.HEARTBEAT_NS, self.now_ns)

    def run(self) -> None:
        for _ in range(10):
            self.turn()

    def received(self, place: int, *kinds: bytes) -> list[bytes]:
        """Names of the connections in a place's hand-over socket; by default none is a refusal."""
        names = []
        while (datagram := receive(self.handovers[place][0])) is not None:
            assert datagram.body in (kinds or (CONNECTION,))
            with socket.socket(fileno=datagram.fd) as connection:
                names.append(connection.recv(100))
        return names

    def waiting(self, listener: int) -> list[bytes]:
        """Names of the connections that are still in an accept queue."""
        names = []
        with suppress(BlockingIOError):
            while True:
                connection, _ = self.listeners[listener].accept()
                with connection:
                    names.append(connection.recv(100))
        return names


@contextmanager
def bench() -> Iterator[Bench]:
    with ExitStack() as held:
        board = Scoreboard([RowName("worker", i) for i in range(PLACES)], PLACES)
        listeners = [held.enter_context(open_listener("127.0.0.1", 0)) for _ in range(2)]
        pairs = [socket_pair() for _ in range(PLACES)]
        for pair in pairs:
            for end in pair:
                held.enter_context(end)
        epoll = held.enter_context(select.epoll())
        place_is(board, 2, Phase.SPARE)
        yield Bench(board, listeners, pairs, epoll, held)


@pytest.mark.parametrize("phase", [Phase.READY, Phase.EXITED, Phase.PARKED, Phase.STARTING])
def test_callers_of_a_worker_that_does_not_serve_go_to_others(phase: Phase) -> None:
    with bench() as world:
        place_is(world.board, 0, phase, listener=0, silent_ms=STALE_MS)
        place_is(world.board, 1, listener=1)
        world.call(0, b"queued")
        world.send_to(0, b"sent", sender=1)
        world.run()
        assert world.board.in_flight(1) == 2
        assert world.board.in_flight(0) == 0
        assert sorted(world.received(1)) == [b"queued", b"sent"]


def test_workers_that_serve_are_left_alone() -> None:
    with bench() as world:
        for place in range(2):
            place_is(world.board, place, listener=place)
        world.call(0, b"theirs")
        world.send_to(1, b"theirs, too")
        world.run()
        assert world.waiting(0) == [b"theirs"]
        assert world.received(1) == [b"theirs, too"]


def test_nobody_to_hand_to_leaves_everything_where_it_is_and_wakes_nobody() -> None:
    with bench() as world:
        place_is(world.board, 0, Phase.EXITED, listener=0)
        place_is(world.board, 1, Phase.STARTING, listener=1)
        world.call(0, b"waits")
        world.send_to(0, b"waits, too")
        world.run()
        assert not world.turn()
        assert world.board.in_flight(0) == 1
        place_is(world.board, 1, listener=1, silent_ms=-10_000)
        world.run()
        assert sorted(world.received(1)) == [b"waits", b"waits, too"]


@pytest.mark.parametrize(
    ("phase", "capacity"), [(Phase.READY, 0), (Phase.DRAINING, 1_000), (Phase.DRAINING, 0)]
)
def test_whom_nobody_takes_is_told_so_by_one_who_lives(phase: Phase, capacity: int) -> None:
    with bench() as world:
        place_is(world.board, 0, Phase.EXITED, listener=0)
        place_is(world.board, 1, phase, listener=1, capacity=capacity)
        world.call(0, b"in the queue")
        world.send_to(0, b"on its way")
        world.run()
        assert sorted(world.received(1, REFUSAL)) == [b"in the queue", b"on its way"]
        assert world.board.in_flight(0) == 0


def test_burst_is_spread_evenly() -> None:
    with bench() as world:
        place_is(world.board, 0, Phase.EXITED, listener=0)
        place_is(world.board, 1, listener=1)
        place_is(world.board, 2, listener=0, silent_ms=0)
        world.board.row("worker", 2).set(Field.LISTENER, -1)
        for number in range(20):
            world.call(0, str(number).encode())
        world.run()
        assert [len(world.received(place)) for place in (1, 2)] == [10, 10]


def test_one_turn_takes_no_more_than_its_share() -> None:
    with bench() as world:
        place_is(world.board, 0, Phase.EXITED, listener=0)
        place_is(world.board, 1, listener=1)
        for number in range(TAKEN_PER_WAKE_MAX + 5):
            world.call(0, str(number).encode())
        world.turn()
        world.turn()
        assert world.board.in_flight(1) == TAKEN_PER_WAKE_MAX
        world.turn()
        assert world.board.in_flight(1) == TAKEN_PER_WAKE_MAX + 5


def test_full_hand_over_socket_keeps_one_waiting_and_loses_none() -> None:
    with bench() as world:
        place_is(world.board, 0, Phase.EXITED, listener=0)
        place_is(world.board, 1, listener=1)
        filler = 0
        while send(world.handovers[1][1], b"Q"):
            filler += 1
        for name in (b"one", b"two"):
            world.call(0, name)
        world.run()
        assert world.board.in_flight(1) == 0
        assert not world.turn()  # it does not spin
        for _ in range(filler):
            receive(world.handovers[1][0])
        world.run()
        assert sorted(world.received(1)) == [b"one", b"two"]
        assert world.board.in_flight(1) == 2


def test_other_datagrams_of_a_worker_that_does_not_serve_are_dropped() -> None:
    with bench() as world:
        place_is(world.board, 0, Phase.EXITED, listener=0)
        place_is(world.board, 1, listener=1)
        read, write = os.pipe()
        socket.send_fds(world.handovers[0][1], [b"Q with a descriptor"], [read])
        os.close(read)
        send(world.handovers[0][1], b"A")
        send(world.handovers[0][1], b"C without one")
        world.board.count_sent(1, 0)
        world.send_to(0, b"real")
        world.run()
        assert world.received(1) == [b"real"]
        assert world.board.in_flight(0) == 0
        with pytest.raises(BrokenPipeError):  # nobody has kept the other end
            os.write(write, b"x")
        os.close(write)


def test_what_a_dead_worker_had_taken_but_not_counted_is_forgotten() -> None:
    with bench() as world:
        place_is(world.board, 0, listener=0)
        world.board.count_sent(1, 0, 3)
        world.stand_in.bury(0, NOW_NS)
        assert world.board.in_flight(0) == 3  # it lives: its count is its own affair
        world.board.row("worker", 0).leave()
        world.send_to(0, b"still there")
        world.stand_in.bury(0, NOW_NS)
        assert world.board.in_flight(0) == 4  # nobody could take it: its successor will
        assert world.received(0) == [b"still there"]
        world.stand_in.bury(0, NOW_NS)
        assert world.board.in_flight(0) == 0


def test_burial_hands_on_what_was_on_its_way() -> None:
    with bench() as world:
        place_is(world.board, 0, listener=0)
        place_is(world.board, 1, listener=1)
        for number in range(100):
            world.send_to(0, str(number).encode(), sender=number % 3)
        world.board.row("worker", 0).leave()
        world.stand_in.bury(0, NOW_NS)
        assert (world.board.in_flight(0), world.board.in_flight(1)) == (0, 100)
        assert len(world.received(1)) == 100


def test_caller_who_gave_up_is_no_trouble() -> None:
    with bench() as world:
        place_is(world.board, 0, Phase.EXITED, listener=0)
        place_is(world.board, 1, listener=1)
        address = world.listeners[0].getsockname()
        with socket.create_connection(address) as caller:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        world.call(0, b"patient")
        world.run()
        assert world.waiting(0) == []
        assert world.board.in_flight(1) in (1, 2)


phases = st.sampled_from(list(Phase))
states = st.tuples(phases, st.sampled_from([0, STALE_MS]), st.sampled_from([0, 3, 1_000]))


@given(
    places=st.lists(states, min_size=PLACES, max_size=PLACES),
    queued=st.lists(st.integers(0, 1), max_size=6),
    sent=st.lists(st.integers(0, PLACES - 1), max_size=6),
)
def test_no_connection_is_lost_or_doubled_and_the_books_are_right(
    places: list[tuple[Phase, int, int]], queued: list[int], sent: list[int]
) -> None:
    with bench() as world:
        for place, (phase, silent_ms, capacity) in enumerate(places):
            listener = place if place < 2 else -1
            place_is(
                world.board, place, phase, listener=listener, silent_ms=silent_ms, capacity=capacity
            )
        names = [b"q%d" % i for i in range(len(queued))] + [b"s%d" % i for i in range(len(sent))]
        for name, listener in zip(names, queued, strict=False):
            world.call(listener, name)
        for name, place in zip(names[len(queued) :], sent, strict=True):
            world.send_to(place, name)
        world.run()
        in_flight = [world.board.in_flight(place) for place in range(PLACES)]
        found = [world.received(place, CONNECTION, REFUSAL) for place in range(PLACES)]
        assert in_flight == [len(received) for received in found]
        everybody = [*world.waiting(0), *world.waiting(1), *(n for names in found for n in names)]
        assert sorted(everybody) == sorted(names)
