"""Workers for tests: forked processes with a door and claims, but no calls, on one board."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvloop

from gateway import clock
from gateway.admission import Admits
from gateway.channel_events import HttpRequest, HttpResponse, Upgrade
from gateway.doorway import Doorway, Ways
from gateway.listener import Connection
from gateway.mesh import Mesh
from supervisor.handover import socket_pair
from supervisor.scoreboard import Field, Phase, RowName, Scoreboard

PATIENCE_S = 20
BEAT_S = 0.02
#: A place counts as alive until the board says otherwise, however busy this machine is ...
AHEAD_NS = 10**15
#: ... and who is alive has time to answer.
ANSWER_TIMEOUT_MS = 2_000
#: One command to a worker: a hundred tokens.
RACE_BYTES_MAX = 16_384


def wait_until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.005)


class Greeter:
    """A handler: says its place over HTTP and as the answer to any message."""

    def __init__(self, place: int) -> None:
        self.place = place

    def request(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(200, b"%d" % self.place)

    def admit(self, connection: Connection, upgrade: Upgrade) -> HttpResponse | None:
        return HttpResponse(403) if upgrade.target == "/forbidden" else None

    def opened(self, connection: Connection) -> Callable[[str | bytes], None]:
        return lambda _: connection.send(b"%d" % self.place)

    def closed(self, connection: Connection) -> None:
        pass


def listener(port: int = 0, backlog: int = 4096) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    made.listen(backlog)
    return made


def board_of(places: int, capacity: int = 1000) -> Scoreboard:
    """A board whose places are all ready and open."""
    board = Scoreboard([RowName("worker", p) for p in range(places)], arenas=places)
    for row in board.rows():
        row.take(pid=0, now_ns=clock.now_ns())
        row.set(Field.CAPACITY, capacity)
        row.set(Field.ADMITS, Admits.YES)
        row.set(Field.PHASE, Phase.READY)
    return board


@dataclass
class Place:
    """One forked worker: ask it with :meth:`ask`."""

    pid: int
    port: int
    control: socket.socket

    def tell(self, **command: object) -> None:
        self.control.send(json.dumps(command).encode())

    def hear(self) -> Any:
        answer = json.loads(self.control.recv(RACE_BYTES_MAX))
        assert "error" not in answer, answer["error"]
        return answer["answer"]

    def ask(self, **command: object) -> Any:
        self.tell(**command)
        return self.hear()


class Places:
    """So many forked workers; each has its own port unless they share one."""

    def __init__(
        self,
        count: int,
        *,
        shared_port: bool = False,
        tls: ssl.SSLContext | None = None,
        answer_timeout_ms: int = ANSWER_TIMEOUT_MS,
    ) -> None:
        self.answer_timeout_ms = answer_timeout_ms
        self.board = board_of(count)
        self.tls = tls
        first = listener()
        port = first.getsockname()[1] if shared_port else 0
        self.listeners = [first, *(listener(port) for _ in range(count - 1))]
        self.pairs = [socket_pair() for _ in range(count)]
        self._workers: dict[int, Place] = {}
        for place in range(count):
            self.fork(place)
        wait_until(lambda: all(self.beats(p) for p in range(count)), "all places beat")

    def __getitem__(self, place: int) -> Place:
        return self._workers[place]

    def beats(self, place: int) -> bool:
        """Whether a place has been seen alive after its start."""
        row = self.board.row("worker", place)
        return row.get(Field.HEARTBEAT_NS) > row.get(Field.STARTED_NS)

    def connections(self) -> list[int]:
        return [row.get(Field.CONNECTIONS) for row in self.board.rows()]

    def count(self, counter: str, place: int) -> int:
        """A counter of one place."""
        return self.board.row("worker", place).counter(counter)

    def fork(self, place: int) -> None:
        """Start a worker in a place, the second time as its own successor."""
        row = self.board.row("worker", place)
        row.take(pid=0, now_ns=clock.now_ns())
        row.set(Field.CAPACITY, 1000)
        row.set(Field.ADMITS, Admits.YES)
        row.set(Field.PHASE, Phase.READY)
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(PATIENCE_S)
        pid = os.fork()
        if pid == 0:
            _become(self, place, its)
        its.close()
        port = self.listeners[place].getsockname()[1]
        self._workers[place] = Place(pid, port, ours)

    def stop(self, place: int) -> None:
        """SIGSTOP, and wait until everybody can see it."""
        os.kill(self[place].pid, signal.SIGSTOP)

    def kill(self, place: int) -> None:
        """SIGKILL, and what the supervisor does with the row of a dead child."""
        worker = self._workers.pop(place)
        os.kill(worker.pid, signal.SIGKILL)
        os.waitpid(worker.pid, 0)
        worker.control.close()
        self.board.row("worker", place).leave()

    def destroy(self) -> None:
        for place in list(self._workers):
            os.kill(self[place].pid, signal.SIGCONT)
            self.kill(place)
        for one in [*self.listeners, *(end for pair in self.pairs for end in pair)]:
            one.close()


@contextmanager
def places(count: int, **options: Any) -> Iterator[Places]:
    made = Places(count, **options)
    try:
        yield made
    finally:
        made.destroy()


def _become(shared: Places, place: int, control: socket.socket) -> None:
    try:
        uvloop.run(_Worker(shared, place, control).run())
    except BaseException:  # noqa: BLE001 - it must not run pytest on
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(1)


class _Worker:
    """In the child: beats, and does what it is told."""

    def __init__(self, shared: Places, place: int, control: socket.socket) -> None:
        self._shared = shared
        self._place = place
        self._control = control
        self._row = shared.board.row("worker", place)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        shared, place = self._shared, self._place
        senders = tuple(sender for _, sender in shared.pairs)
        timeout_ms = shared.answer_timeout_ms
        self.mesh = Mesh(
            place,
            shared.board,
            senders,
            answer_timeout_ms=timeout_ms,
            redeem_timeout_ms=timeout_ms,
        )
        ways = Ways(
            place,
            shared.board,
            self._row,
            shared.listeners[place],
            shared.pairs[place][0],
            senders,
            shared.tls,
        )
        self.doorway = Doorway(ways, Greeter(place), self.mesh.received)
        self.doorway.open()
        asyncio.get_running_loop().add_reader(self._control, self._command)
        while True:
            self._row.beat(clock.now_ns() + AHEAD_NS)
            self.mesh.beat(clock.now_ns())
            await asyncio.sleep(BEAT_S)

    def _command(self) -> None:
        command = json.loads(self._control.recv(RACE_BYTES_MAX))
        task = asyncio.create_task(self._obey(command))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _obey(self, command: dict[str, Any]) -> None:
        answer: dict[str, object] = {}
        try:
            answer["answer"] = await getattr(self, "_do_" + command.pop("do"))(**command)
        except Exception as error:  # noqa: BLE001 - the test that asked is told
            answer["error"] = repr(error)
        self._control.send(json.dumps(answer).encode())

    async def _do_take(self, key: str) -> bool:
        return await self.mesh.take(key)

    async def _do_mint(self, value: str, ttl_ms: int = 60_000) -> str | None:
        return self.mesh.mint(value, ttl_ms)

    async def _do_redeem(self, key: str) -> str | None:
        return await self.mesh.redeem(key)

    async def _do_race(self, keys: list[str], op: str, at_ns: int) -> list[str]:
        """Claim or redeem all keys from one moment on; those won."""
        claim: Callable[[str], Awaitable[object]]
        claim = self.mesh.take if op == "take" else self.mesh.redeem
        await asyncio.sleep(max(0, at_ns - clock.now_ns()) / 1e9)
        won = await asyncio.gather(*(claim(key) for key in keys))
        return [key for key, mine in zip(keys, won, strict=True) if mine]

    async def _do_release(self, key: str) -> None:
        self.mesh.release(key)

    async def _do_drain(self) -> None:
        self._row.set(Field.ADMITS, Admits.NO)
        self._row.set(Field.PHASE, Phase.DRAINING)
        self.doorway.close()
        await self.doorway.emptied.wait()
