"""What workers ask of each other: claims and single-use tokens, over the hand-over sockets.

**Claims.** A key (the id of a live call) has an order of places, the same everywhere. To claim it,
the first live places of that order are asked, one after the other; each decides from its own
table. CLAIM_COPIES of them must say yes, and the first no is the end of it:

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

**Tokens** are redeemed once, whatever stalls or dies. A token is kept at its homes, the worker that
minted it and one other, and names them by place and start. To redeem it, every home that is not
dead must give it up, in order; a home that does not answer is a no. Two workers that redeem the
same token have a home in common that both must ask, unless each saw the other's home dead, and
then that one does not answer. That a worker is dead is no guess: the supervisor has seen it end.
What it costs: a token is lost while one of its homes hangs, and with both of them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import itertools
import secrets
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from gateway import clock
from gateway.claims import DIGEST_BYTES, Claims, digest, places_for
from gateway.limits import (
    ANSWER_TIMEOUT_MS,
    CLAIM_COPIES,
    CLAIM_RENEW_MS,
    CLAIM_TTL_MS,
    QUESTIONS_OUTSTANDING_MAX,
    REDEEM_TIMEOUT_MS,
    RENEWALS_PER_BEAT_MAX,
    TOKEN_VALUE_BYTES_MAX,
)
from gateway.single_use import SingleUse
from supervisor.handover import send
from supervisor.placement import UNPLACEABLE_AFTER_MS
from supervisor.scoreboard import Field, Phase, Row, Scoreboard

QUESTION, ANSWER = b"Q", b"A"

# kind, request, place that asks, its holder number, what to do, until when (ns), key; a value
_QUESTION = struct.Struct(f"!c Q H q B q {DIGEST_BYTES}s")
# kind, request, whether it was granted; a value
_ANSWER = struct.Struct("!c Q ?")
# Place and start of both homes, what nobody guesses: 36 bytes, 48 characters, none of them "=".
_TOKEN = struct.Struct("!H q H q 16s")

_LAST_LOOK_S = 0.001
_TTL_NS = CLAIM_TTL_MS * clock.NS_PER_MS
_SILENT_NS = UNPLACEABLE_AFTER_MS * clock.NS_PER_MS
_RENEW_NS = CLAIM_RENEW_MS * clock.NS_PER_MS
_RUNNING = (Phase.READY, Phase.DRAINING)


class _Do(IntEnum):
    """What is asked of a place; only the first two are answered."""

    TAKE = 0
    REDEEM = 1
    RENEW = 2
    RELEASE = 3
    KEEP = 4


class _Answer(NamedTuple):
    """What a place says: whether it grants what was asked, and the value of a token."""

    granted: bool
    value: bytes = b""


class _Home(NamedTuple):
    """Where a token is kept: a place, and when the worker there was started."""

    place: int
    started_ns: int


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
        redeem_timeout_ms: int = REDEEM_TIMEOUT_MS,
    ) -> None:
        self._place = place
        self._places = board.places
        self._rows: dict[int, Row] = {row.name.index: row for row in board.rows("worker")}
        self._senders = senders
        self._answer_timeout_s = answer_timeout_ms / 1000
        self._redeem_timeout_s = redeem_timeout_ms / 1000
        # A successor has another number, so what its predecessor held is not its own.
        self._row = self._rows[place]
        self._holder = self._row.get(Field.STARTED_NS)
        self._claims = Claims()
        self._tokens = SingleUse()
        self._held: dict[bytes, _Held] = {}
        self._waiting: dict[int, asyncio.Future[_Answer | None]] = {}
        # Not from 0: an answer to our predecessor must not pass for one to us.
        self._requests = itertools.count(clock.now_ns())
        self._alive: frozenset[int] = frozenset()

    # For those who claim

    async def take(self, key: str) -> bool:
        """Claim a live id until :meth:`release`; False when anybody holds it, we included."""
        name = digest(key)
        if name in self._held:
            self._row.count("claims/refused")
            return False
        held = self._held[name] = _Held([], clock.now_ns() + _RENEW_NS)
        granted = False
        try:
            granted = await self._claim(name, held.places)
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

    def release(self, key: str) -> None:
        """Give a live id back; nothing happens when it is not ours."""
        self._give_back(digest(key))

    def release_all(self, keys: Iterable[str]) -> None:
        """Give several live ids back."""
        for key in keys:
            self.release(key)

    # For those who mint and redeem

    def mint(self, value: str, ttl_ms: int) -> str | None:
        """A token, fit for a URL, that gives this value once; None when there is no room.

        It is secret: whoever has it is let in with it.
        """
        assert ttl_ms > 0
        data = value.encode()
        assert len(data) <= TOKEN_VALUE_BYTES_MAX, len(data)
        home = _Home(self._place, self._holder)
        backup = next(self._neighbours(), home)
        token = _TOKEN.pack(*home, *backup, secrets.token_bytes(16))
        key = _token_key(token)
        now_ns = clock.now_ns()
        until_ns = now_ns + ttl_ms * clock.NS_PER_MS
        if not self._tokens.put(key, data, until_ns, now_ns):
            return None
        if backup != home:
            self._send_question(backup.place, 0, _Do.KEEP, key, until_ns, data)
        self._row.count("tokens/minted")
        return base64.urlsafe_b64encode(token).decode()

    async def redeem(self, token: str) -> str | None:
        """The value of a token, to one caller of all; None to all others and for anything else."""
        try:
            packed = base64.b64decode(token.encode("ascii"), b"-_", validate=True)
            *homes, _ = _TOKEN.unpack(packed)
        except (ValueError, binascii.Error, struct.error):
            return None
        value = await self._give_up_everywhere(
            _token_key(packed), dict.fromkeys((_Home(*homes[:2]), _Home(*homes[2:])))
        )
        if value is None:
            self._row.count("tokens/refused")
            return None
        self._row.count("tokens/redeemed")
        return value.decode()

    # For the owner

    def received(self, datagram: bytes) -> None:
        """Take a question or an answer from the hand-over socket."""
        try:
            head = _QUESTION if datagram.startswith(QUESTION) else _ANSWER
            fields, value = head.unpack(datagram[: head.size]), datagram[head.size :]
            if len(value) > TOKEN_VALUE_BYTES_MAX:
                raise ValueError("a value longer than any")
            if head is _QUESTION:
                self._answer(fields, value)
            else:
                self._decided(fields, value)
        except (struct.error, ValueError):
            self._row.count("claims/not_understood")

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

    async def _claim(self, key: bytes, knowing: list[int]) -> bool:
        """Ask place after place; ``knowing`` gets those that may have granted it."""
        copies = 0
        for place in self._live(key):
            knowing.append(place)  # also if we hear nothing of it: it may decide later
            answer = await self._ask(place, _Do.TAKE, key, self._answer_timeout_s)
            if answer is None:
                continue
            if not answer.granted:
                knowing.pop()
                self._row.count("claims/refused")
                return False
            copies += 1
            if copies == CLAIM_COPIES:
                break
        return True

    async def _give_up_everywhere(self, key: bytes, homes: Iterable[_Home]) -> bytes | None:
        """Have each home that is not dead give up a token; its value if all did."""
        value = None
        for home in homes:
            answer = None
            if self._lives(home):
                answer = await self._ask(home.place, _Do.REDEEM, key, self._redeem_timeout_s)
            if answer is None and not self._lives(home):
                continue
            if answer is None or not answer.granted:
                return None
            value = answer.value
        return value

    def _lives(self, home: _Home) -> bool:
        """Whether a worker has not ended: not a guess, but what the supervisor has seen."""
        row = self._rows.get(home.place)
        return (
            row is not None
            and row.get(Field.STARTED_NS) == home.started_ns
            and row.get(Field.PHASE) in _RUNNING
        )

    def _neighbours(self) -> Iterator[_Home]:
        """Other workers that live and beat, from the place after ours on."""
        now_ns = clock.now_ns()
        for place in range(self._place + 1, self._place + self._places):
            row = self._rows.get(place % self._places)
            if row is not None and _can_answer(row, now_ns):
                yield _Home(row.name.index, row.get(Field.STARTED_NS))

    async def _ask(self, place: int, what: _Do, key: bytes, timeout_s: float) -> _Answer | None:
        """What a place says; None when it says nothing in time."""
        until_ns = clock.now_ns() + _TTL_NS
        if place == self._place:
            return self._decide(what, key, self._holder, until_ns)
        if len(self._waiting) >= QUESTIONS_OUTSTANDING_MAX:
            return None
        self._row.count("claims/asked")
        request = next(self._requests)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Answer | None] = loop.create_future()
        self._waiting[request] = answer
        timer = loop.call_later(timeout_s, self._look_again, request)
        try:
            if not self._send_question(place, request, what, key, until_ns):
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
        until_ns = clock.now_ns() + _TTL_NS
        for place in places:
            if place == self._place:
                self._decide(what, key, self._holder, until_ns)
            else:
                self._send_question(place, 0, what, key, until_ns)

    def _send_question(
        self, place: int, request: int, what: _Do, key: bytes, until_ns: int, value: bytes = b""
    ) -> bool:
        head = _QUESTION.pack(QUESTION, request, self._place, self._holder, what, until_ns, key)
        return send(self._senders[place], head + value)

    def _look_again(self, request: int) -> None:
        """A loop runs timers before it reads sockets: if it was late, the answer may be there."""
        asyncio.get_running_loop().call_later(_LAST_LOOK_S, self._give_up, request)

    def _give_up(self, request: int) -> None:
        answer = self._waiting.pop(request, None)
        if answer is not None and not answer.done():
            self._row.count("claims/timed_out")
            answer.set_result(None)

    def _decided(self, fields: tuple[bytes, int, bool], value: bytes) -> None:
        kind, request, granted = fields
        if kind != ANSWER:
            raise ValueError("a datagram of another kind")
        waiting = self._waiting.pop(request, None)
        if waiting is None or waiting.done():
            self._row.count("claims/late")
        else:
            self._row.count("claims/answered")
            waiting.set_result(_Answer(granted, value))

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

    def _answer(self, question: tuple[bytes, int, int, int, int, int, bytes], value: bytes) -> None:
        _, request, asker, holder, what, until_ns, key = question
        if not (0 <= asker < len(self._senders) and holder >= 0):
            raise ValueError("a question of nobody")
        granted, found = self._decide(_Do(what), key, holder, until_ns, value)
        if what in (_Do.TAKE, _Do.REDEEM):
            send(self._senders[asker], _ANSWER.pack(ANSWER, request, granted) + found)

    def _decide(
        self, what: _Do, key: bytes, holder: int, until_ns: int, value: bytes = b""
    ) -> _Answer:
        now_ns = clock.now_ns()
        if what is _Do.TAKE:
            return _Answer(self._claims.take(key, holder, until_ns, now_ns))
        if what is _Do.RENEW:
            return _Answer(self._claims.renew(key, holder, until_ns, now_ns))
        if what is _Do.REDEEM:
            found = self._tokens.take(key, now_ns)
            return _Answer(found is not None, found or b"")
        if what is _Do.KEEP:
            return _Answer(self._tokens.put(key, value, until_ns, now_ns))
        self._claims.release(key, holder)
        return _Answer(granted=True)


def _token_key(token: bytes) -> bytes:
    """What stands for a token in tables and datagrams, which then let nobody in."""
    return hashlib.blake2b(token, digest_size=DIGEST_BYTES).digest()


def _can_answer(row: Row, now_ns: int) -> bool:
    return row.get(Field.PHASE) in _RUNNING and now_ns - row.get(Field.HEARTBEAT_NS) <= _SILENT_NS
