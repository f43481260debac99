"""How many connections one address may have and open: against a flood from one host. Pure.

An address is an IPv4 address or an IPv6 network of 64 bits, which is what one subscriber has. A
trusted proxy is everybody's address, so it is never counted. Each worker counts what it got: the
connections of one address spread over the workers like all others.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from gateway.bucket import Bucket, Rate
from gateway.limits import (
    ADDRESS_KNOCKS_BURST,
    ADDRESS_KNOCKS_PER_SECOND_MAX,
    ADDRESS_LIVE_MAX,
    ADDRESSES_MAX,
)

ADDRESS_RATE = Rate(ADDRESS_KNOCKS_PER_SECOND_MAX, ADDRESS_KNOCKS_BURST)


@dataclass(slots=True)
class _Visitor:
    bucket: Bucket
    live: int = 0


class Crowd:
    """The addresses of a worker's peers, at most ``addresses_max`` that have no connection."""

    def __init__(
        self, is_proxy: Callable[[str], bool], *, addresses_max: int = ADDRESSES_MAX
    ) -> None:
        self._is_proxy = is_proxy
        self._addresses_max = addresses_max
        self._visitors: dict[str, _Visitor] = {}

    def __len__(self) -> int:
        """Addresses that are remembered."""
        return len(self._visitors)

    def knock(self, host: str, now_ns: int) -> bool:
        """Somebody asks for something; False when the address has asked or has too much."""
        if self._is_proxy(host):
            return True
        visitor = self._visitor(host, now_ns)
        return visitor.bucket.spend(1, ADDRESS_RATE, now_ns) and visitor.live < ADDRESS_LIVE_MAX

    def enter(self, host: str, now_ns: int) -> None:
        """Somebody has a connection now."""
        if not self._is_proxy(host):
            self._visitor(host, now_ns).live += 1

    def leave(self, host: str) -> None:
        """A connection that entered is gone."""
        if not self._is_proxy(host):
            visitor = self._visitors[address_of(host)]
            visitor.live -= 1
            assert visitor.live >= 0

    def _visitor(self, host: str, now_ns: int) -> _Visitor:
        name = address_of(host)
        visitor = self._visitors.get(name)
        if visitor is None:
            self._make_room(now_ns)
            visitor = self._visitors[name] = _Visitor(Bucket(ADDRESS_RATE, now_ns))
        return visitor

    def _make_room(self, now_ns: int) -> None:
        """Forget who is not here: first those whose bucket is full again, then the oldest."""
        if len(self._visitors) < self._addresses_max:
            return
        absent = [name for name, visitor in self._visitors.items() if not visitor.live]
        rested = [n for n in absent if self._visitors[n].bucket.is_full(ADDRESS_RATE, now_ns)]
        for name in rested or absent[: self._addresses_max // 4 + 1]:
            del self._visitors[name]


def address_of(host: str) -> str:
    """What counts as one address; text that is none counts as itself."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, 64), strict=False))
