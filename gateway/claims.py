"""Who holds which key: the table of claims that one worker keeps for all. Pure, told the time.

A claim (the id of a live call) is held by one worker until it is released. It lapses when its time
is over; a holder renews what it still holds, so a claim whose holder died in silence does not last.

Which workers keep a key's claim is no secret and needs no table: :func:`places_for` gives all
places in the key's own order, its owner first. Every worker computes the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from gateway.limits import CLAIMS_MAX

DIGEST_BYTES = 16


@dataclass(slots=True)
class _Claim:
    holder: int
    until_ns: int


def digest(key: str) -> bytes:
    """What stands for a key in tables and datagrams: 16 bytes, the same in every process."""
    return hashlib.blake2b(key.encode(), digest_size=DIGEST_BYTES).digest()


def places_for(key: bytes, places: int) -> Iterator[int]:
    """All places in the order in which they are asked about a digest."""
    assert places > 0
    first = int.from_bytes(key) % places
    return ((first + n) % places for n in range(places))


class Claims:
    """Claims by digest, at most ``claims_max``. A holder is any number."""

    def __init__(self, claims_max: int = CLAIMS_MAX) -> None:
        assert claims_max > 0
        self._claims_max = claims_max
        self._claims: dict[bytes, _Claim] = {}
        self._lapse_ns = 0  # no claim lapses before this

    def __len__(self) -> int:
        """Claims in the table, lapsed ones that were not swept yet included."""
        return len(self._claims)

    def take(self, key: bytes, holder: int, until_ns: int, now_ns: int) -> bool:
        """Claim a key for a holder; False when it is held (by it, too), or no room is."""
        return self._find(key, now_ns) is None and self._add(key, holder, until_ns, now_ns)

    def renew(self, key: bytes, holder: int, until_ns: int, now_ns: int) -> bool:
        """Prolong a claim, or make it anew where it was forgotten; False when it is another's."""
        claim = self._find(key, now_ns)
        if claim is None:
            return self._add(key, holder, until_ns, now_ns)
        if claim.holder != holder:
            return False
        claim.until_ns = until_ns
        return True

    def release(self, key: bytes, holder: int) -> None:
        """Give a key back; nothing happens when the holder does not hold it."""
        claim = self._claims.get(key)
        if claim is not None and claim.holder == holder:
            del self._claims[key]

    def release_all(self, holder: int) -> None:
        """Give back all that a holder holds: it is dead."""
        for key in [key for key, claim in self._claims.items() if claim.holder == holder]:
            del self._claims[key]

    def _find(self, key: bytes, now_ns: int) -> _Claim | None:
        claim = self._claims.get(key)
        if claim is not None and claim.until_ns <= now_ns:
            del self._claims[key]
            return None
        return claim

    def _add(self, key: bytes, holder: int, until_ns: int, now_ns: int) -> bool:
        if len(self._claims) >= self._claims_max:
            self._sweep(now_ns)
            if len(self._claims) >= self._claims_max:
                return False
        self._lapse_ns = min(self._lapse_ns, until_ns) if self._claims else until_ns
        self._claims[key] = _Claim(holder, until_ns)
        return True

    def _sweep(self, now_ns: int) -> None:
        """Drop what has lapsed, if anything can have: a full table is not searched each time."""
        if now_ns < self._lapse_ns:
            return
        live = {key: claim for key, claim in self._claims.items() if claim.until_ns > now_ns}
        self._claims = live
        self._lapse_ns = min((claim.until_ns for claim in live.values()), default=now_ns)
