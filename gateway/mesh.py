"""Claims across workers: questions and answers as datagrams over the hand-over sockets.

A key (the id of a live call, a single-use token) has an order of places, the same everywhere. To
claim it, the first live places of that order are asked, one after the other; each decides from
its own table. CLAIM_COPIES of them must say yes, and the first no is the end of it:

* Of workers that want the same key at once, one gets it at the first place, the others are
  refused there. Whoever does not hear from a place in time asks the next one, so workers that
  disagree about who is alive still meet at one of the copies, and one of them loses there.
* A copy is left when a worker dies. One that was stopped and goes on answers from an old table,
  but not alone.

What is held is renewed: a place that has come back empty learns it again, and a claim whose
holder died lapses (at once, when the board shows the death). A place asks itself without a
datagram, so something always decides, also when nobody else is there. Nothing here waits longer
than ANSWER_TIMEOUT_MS for one place; a datagram that does not fit into a socket is no answer.
That bound is what it costs: if two places stall, each between the questions of the same two
workers, both may win. A lease, not a lock: it keeps a call from being answered twice, no more.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from gateway import clock
from gateway.claims import DIGEST_BYTES, Claims, digest, places_for
from gateway.limits import (
    ANSWER_TIMEOUT_MS,
    CLAIM_COPIES,
    CLAIM_RENEW_MS,
    CLAIM_TTL_MS,
    QUESTIONS_OUTSTANDING_MAX,
    RENEWALS_PER_BEAT_MAX,
)
from supervisor.handover import send
from supervisor.placement import UNPLACEABLE_AFTER_MS
from supervisor.scoreboard import Field, Phase, Row, Scoreboard

QUESTION, ANSWER = b"Q", b"A"

# kind, request, place that asks, its holder number, what to do, time to live (ms), key
_QUESTION = struct.Struct(f"!c Q H q B I {DIGEST_BYTES}s")
# kind, request, whether it was granted
_ANSWER = struct.Struct("!c Q ?")

_LAST_LOOK_S = 0.001
_TTL_MS_MAX = 2**32 - 1
_SILENT_NS = UNPLACEABLE_AFTER_MS * clock.NS_PER_MS
_RENEW_NS = CLAIM_RENEW_MS * clock.NS_PER_MS
_RUNNING = (Phase.READY, Phase.DRAINING)


class _Do(IntEnum):
    """What is asked of a place; the last two are not answered."""

    TAKE = 0
    REDEEM = 1
    RENEW = 2
    RELEASE = 3


@dataclass(slots=True)
class MeshCounts:
    """What happened on the mesh since the worker started."""

    claims: int = 0
    refused: int = 0
    asked: int = 0
    unanswered: int = 0
    late: int = 0
    not_understood: int = 0


@dataclass(slots=True)
class _Held:
    """A live id of ours (or nearly): who may know of it, and when it is to be renewed."""

    places: list[int]
    renew_at_ns: int


class Mesh:
    """One worker's side. ``senders[p]`` writes to place ``p``; we are ``place``.

    The owner passes on every datagram of kind QUESTION or ANSWER to :meth:`received`, and calls
    :meth:`beat` several times a second. All on the running loop.
    """

    def __init__(
        self,
        place: int,
        board: Scoreboard,
        senders: Sequence[socket.socket],
        *,
        answer_timeout_ms: int = ANSWER_TIMEOUT_MS,
    ) -> None:
        self._place = place
        self._places = board.places
        self._rows: dict[int, Row] = {row.name.index: row for row in board.rows("worker")}
        self._senders = senders
        self._answer_timeout_s = answer_timeout_ms / 1000
        # A successor has another number, so what its predecessor held is not its own.
        self._holder = self._rows[place].get(Field.STARTED_NS)
        self._claims = Claims()
        self._held: dict[bytes, _Held] = {}
        self._waiting: dict[int, asyncio.Future[bool | None]] = {}
        # Not from 0: an answer to our predecessor must not pass for one to us.
        self._requests = itertools.count(clock.now_ns())
        self._alive: frozenset[int] = frozenset()
        self.counts = MeshCounts()

    # For those who claim

    async def take(self, key: str) -> bool:
        """Claim a live id until :meth:`release`; False when anybody holds it, we included."""
        name = digest(key)
        if name in self._held:
            self.counts.refused += 1
            return False
        held = self._held[name] = _Held([], clock.now_ns() + _RENEW_NS)
        granted = False
        try:
            granted = await self._claim(_Do.TAKE, name, CLAIM_TTL_MS, held.places)
        finally:
            if not granted:
                self._give_back(name)
        return granted

    async def take_all(self, keys: Collection[str]) -> bool:
        """Claim several live ids together; False, and none of them is ours, if one is held."""
        granted = await asyncio.gather(*(self.take(key) for key in keys))
        if not all(granted):
            self.release_all(key for key, ours in zip(keys, granted, strict=True) if ours)
        return all(granted)

    async def redeem(self, key: str, ttl_ms: int) -> bool:
        """Use a single-use key; True for one caller of all within ``ttl_ms``."""
        assert 0 < ttl_ms <= _TTL_MS_MAX
        return await self._claim(_Do.REDEEM, digest(key), ttl_ms, [])

    def release(self, key: str) -> None:
        """Give a live id back; nothing happens when it is not ours."""
        self._give_back(digest(key))

    def release_all(self, keys: Iterable[str]) -> None:
        """Give several live ids back."""
        for key in keys:
            self.release(key)

    # For the owner

    def received(self, datagram: bytes) -> None:
        """Take a question or an answer from the hand-over socket."""
        try:
            if datagram.startswith(QUESTION):
                self._answer(_QUESTION.unpack(datagram))
            else:
                kind, request, granted = _ANSWER.unpack(datagram)
                if kind != ANSWER:
                    raise ValueError("a datagram of another kind")
                self._decided(request, granted)
        except (struct.error, ValueError):
            self.counts.not_understood += 1

    def beat(self, now_ns: int) -> None:
        """Forget what the dead held; renew what we hold."""
        alive = frozenset(
            row.get(Field.STARTED_NS)
            for row in self._rows.values()
            if row.get(Field.PHASE) in _RUNNING
        )
        for holder in self._alive - alive:
            self._claims.release_all(holder)
        self._alive = alive
        self._renew(now_ns)

    # Asking

    async def _claim(self, what: _Do, key: bytes, ttl_ms: int, knowing: list[int]) -> bool:
        """Ask place after place; ``knowing`` gets those that may have granted it."""
        self.counts.claims += 1
        copies = 0
        for place in self._live(key):
            knowing.append(place)  # also if we hear nothing of it: it may decide later
            granted = await self._ask(place, what, key, ttl_ms)
            if granted is False:
                knowing.pop()
                self.counts.refused += 1
                return False
            copies += granted is True
            if copies == CLAIM_COPIES:
                break
        return True

    async def _ask(self, place: int, what: _Do, key: bytes, ttl_ms: int) -> bool | None:
        """What a place says; None when it says nothing in time."""
        if place == self._place:
            return self._decide(what, key, self._holder, ttl_ms)
        if len(self._waiting) >= QUESTIONS_OUTSTANDING_MAX:
            return None
        self.counts.asked += 1
        request = next(self._requests)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bool | None] = loop.create_future()
        self._waiting[request] = answer
        timer = loop.call_later(self._answer_timeout_s, self._look_again, request)
        try:
            if not self._send_question(place, request, what, key, ttl_ms):
                self._give_up(request)
            return await answer
        finally:
            timer.cancel()
            self._waiting.pop(request, None)

    def _give_back(self, key: bytes) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            self._tell(_Do.RELEASE, key, held.places)

    def _tell(self, what: _Do, key: bytes, places: Sequence[int]) -> None:
        """Ask for something that needs no answer."""
        for place in places:
            if place == self._place:
                self._decide(what, key, self._holder, CLAIM_TTL_MS)
            else:
                self._send_question(place, 0, what, key, CLAIM_TTL_MS)

    def _send_question(self, place: int, request: int, what: _Do, key: bytes, ttl_ms: int) -> bool:
        question = _QUESTION.pack(QUESTION, request, self._place, self._holder, what, ttl_ms, key)
        return send(self._senders[place], question)

    def _look_again(self, request: int) -> None:
        """A loop runs timers before it reads sockets: if it was late, the answer may be there."""
        asyncio.get_running_loop().call_later(_LAST_LOOK_S, self._give_up, request)

    def _give_up(self, request: int) -> None:
        answer = self._waiting.pop(request, None)
        if answer is not None and not answer.done():
            self.counts.unanswered += 1
            answer.set_result(None)

    def _decided(self, request: int, granted: bool) -> None:  # noqa: FBT001 - read from the wire
        answer = self._waiting.pop(request, None)
        if answer is None or answer.done():
            self.counts.late += 1
        else:
            answer.set_result(granted)

    def _live(self, key: bytes) -> Iterator[int]:
        """Places that can answer, in the key's order; we always can."""
        now_ns = clock.now_ns()
        for place in places_for(key, self._places):
            row = self._rows.get(place)
            if place == self._place or (row is not None and _can_answer(row, now_ns)):
                yield place

    def _renew(self, now_ns: int) -> None:
        for _ in range(RENEWALS_PER_BEAT_MAX):
            key = next(iter(self._held), None)
            if key is None or self._held[key].renew_at_ns > now_ns:
                return
            del self._held[key]  # and to the end: the first is always the next one due
            places = list(itertools.islice(self._live(key), CLAIM_COPIES))
            self._tell(_Do.RENEW, key, places)
            self._held[key] = _Held(places, now_ns + _RENEW_NS)

    # Answering

    def _answer(self, question: tuple[bytes, int, int, int, int, int, bytes]) -> None:
        _, request, asker, holder, what, ttl_ms, key = question
        if not (0 <= asker < len(self._senders) and holder >= 0):
            raise ValueError("a question of nobody")
        granted = self._decide(_Do(what), key, holder, ttl_ms)
        if what in (_Do.TAKE, _Do.REDEEM):
            send(self._senders[asker], _ANSWER.pack(ANSWER, request, granted))

    def _decide(self, what: _Do, key: bytes, holder: int, ttl_ms: int) -> bool:
        now_ns, ttl_ns = clock.now_ns(), ttl_ms * clock.NS_PER_MS
        if what is _Do.TAKE:
            return self._claims.take(key, holder, now_ns, ttl_ns)
        if what is _Do.REDEEM:
            return self._claims.redeem(key, now_ns, ttl_ns)
        if what is _Do.RENEW:
            return self._claims.renew(key, holder, now_ns, ttl_ns)
        self._claims.release(key, holder)
        return True


def _can_answer(row: Row, now_ns: int) -> bool:
    return row.get(Field.PHASE) in _RUNNING and now_ns - row.get(Field.HEARTBEAT_NS) <= _SILENT_NS
