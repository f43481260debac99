"""Whatever happens at three doors, the board's counts come out right. A state machine."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from collections.abc import Callable

import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from typing_extensions import override

from gateway.admission import Admits
from gateway.doorway import Doorway, Ways
from gateway.limits import ACCEPTS_PER_WAKE_MAX
from supervisor.handover import hand_over, send, socket_pair
from supervisor.scoreboard import Field, Phase
from tests.gateway.places import AHEAD_NS, Greeter, board_of, listener

COUNT = 3
PLACES = st.integers(0, COUNT - 1)
CAPACITY = 3
PATIENCE_S = 3
AT_ONCE = struct.pack("ii", 1, 0)


class DoorMachine(RuleBasedStateMachine):
    """Three doors on one loop. The model: which clients are connected, which doors are open."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = uvloop.new_event_loop()
        self.board = board_of(COUNT, CAPACITY)
        self.listeners = [listener() for _ in range(COUNT)]
        self.pairs = [socket_pair() for _ in range(COUNT)]
        self.clients: list[socket.socket] = []
        self.open = set(range(COUNT))
        self.doors = self.loop.run_until_complete(self.make_doors())

    async def make_doors(self) -> list[Doorway]:
        doors = []
        senders = tuple(sender for _, sender in self.pairs)
        for place, row in enumerate(self.board.rows()):
            row.set(Field.HEARTBEAT_NS, AHEAD_NS * 10)
            receiver = self.pairs[place][0]
            ways = Ways(place, self.board, row, self.listeners[place], receiver, senders)
            doors.append(Doorway(ways, Greeter(place), lambda _: None))
            doors[-1].open()
        return doors

    @precondition(lambda self: self.open)
    @rule(data=st.data(), count=st.sampled_from([1, 2, 5, ACCEPTS_PER_WAKE_MAX]))
    def connect(self, data: st.DataObject, count: int) -> None:
        place = data.draw(st.sampled_from(sorted(self.open)))
        address = self.listeners[place].getsockname()
        self.clients += [socket.create_connection(address) for _ in range(count)]

    @rule(at=st.integers(0, 1000), politely=st.booleans())
    def hang_up(self, at: int, *, politely: bool) -> None:
        if self.clients:
            client = self.clients.pop(at % len(self.clients))
            if not politely:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            client.close()

    @rule(place=PLACES, admits=st.sampled_from([Admits.YES, Admits.LOOP_LATE]))
    def admit(self, place: int, admits: Admits) -> None:
        self.board.row("worker", place).set(Field.ADMITS, admits)

    @rule(sender=PLACES, place=PLACES)
    def send_what_is_no_connection(self, sender: int, place: int) -> None:
        reading, writing = os.pipe()
        os.close(writing)
        self.board.count_sent(sender, place)
        if not hand_over(self.pairs[place][1], reading):
            self.board.count_sent(sender, place, -1)
            os.close(reading)

    @rule(place=PLACES)
    def fill_the_socket(self, place: int) -> None:
        while send(self.pairs[place][1], bytes(1000)):
            pass

    @rule(turns=st.integers(1, 3))
    def turn(self, turns: int) -> None:
        """Some turns of the loop, so that things happen half-way."""
        for _ in range(turns):
            self.loop.run_until_complete(asyncio.sleep(0))

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def drain(self, data: st.DataObject) -> None:
        """As the worker does it; then nobody can connect there any more."""
        place = data.draw(st.sampled_from(sorted(self.open)))
        self.open.remove(place)
        self.board.row("worker", place).set(Field.PHASE, Phase.DRAINING)
        self.loop.call_soon(self.doors[place].close)
        self.until(self.doors[place].emptied.is_set)

    @rule()
    def settle(self) -> None:
        self.until(self.is_settled)

    def is_settled(self) -> bool:
        connections = sum(door.connections for door in self.doors)
        on_their_way = any(self.board.in_flight(place) for place in range(COUNT))
        return connections == len(self.clients) and not on_their_way

    def until(self, true: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < end, "it never settled"
            self.loop.run_until_complete(asyncio.sleep(0.001))

    @invariant()
    def no_count_is_ever_negative(self) -> None:
        for door in self.doors:
            assert door.connections >= 0
            assert self.board.in_flight(door._ways.place) >= 0

    def counted(self, counter: str, place: int) -> int:
        return self.board.row("worker", place).counter(counter)

    @override
    def teardown(self) -> None:
        self.settle()
        for client in self.clients:
            client.close()
        self.clients.clear()
        self.settle()
        taken = [self.counted("connections_taken", place) for place in range(COUNT)]
        failed = [self.counted("connections_failed", place) for place in range(COUNT)]
        assert all(t >= f for t, f in zip(taken, failed, strict=True))
        for door in self.doors:
            door.shut()
        self.loop.close()
        for end in [*self.listeners, *(end for pair in self.pairs for end in pair)]:
            end.close()


def test_a_machine_that_stalled_as_a_whole_is_not_full() -> None:
    """Everybody's last beat is old; whoever missed none that we did not miss takes calls."""
    doors = DoorMachine()
    for place, missed_ns in enumerate((0, 0, 10**9)):
        doors.board.row("worker", place).set(Field.HEARTBEAT_NS, 10**9 - missed_ns)
    doors.clients += [socket.create_connection(doors.listeners[0].getsockname()) for _ in "1234"]
    doors.settle()
    assert [door.connections for door in doors.doors] == [2, 2, 0]
    handed = [[doors.counted(f"handovers/{e}", p) for p in range(3)] for e in ("sent", "taken")]
    assert handed == [[2, 0, 0], [0, 2, 0]]
    doors.teardown()


TestDoors = DoorMachine.TestCase
TestDoors.settings = settings(max_examples=60, stateful_step_count=30)
