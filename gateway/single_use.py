"""Single-use keys that one worker keeps, each with a value: pure, told the time.

A key is there once. Taking it removes it, so what is not there was taken, has lapsed, was lost
with its process or never existed, and all of these are refused alike: a process that forgot
everything gives nothing out twice.
"""

from __future__ import annotations

from gateway.limits import SINGLE_USE_KEYS_MAX


class SingleUse:
    """Keys by digest, at most ``keys_max``; what lapsed is dropped in the order it came."""

    def __init__(self, keys_max: int = SINGLE_USE_KEYS_MAX) -> None:
        assert keys_max > 0
        self._keys_max = keys_max
        self._keys: dict[bytes, tuple[bytes, int]] = {}

    def __len__(self) -> int:
        """Keys in the table, those included that lapsed and were not dropped yet."""
        return len(self._keys)

    def put(self, key: bytes, value: bytes, until_ns: int, now_ns: int) -> bool:
        """Keep a value until it is taken or lapses; False when it is there or no room is."""
        self._drop_lapsed(now_ns)
        if key in self._keys or len(self._keys) >= self._keys_max:
            return False
        self._keys[key] = (value, until_ns)
        return True

    def take(self, key: bytes, now_ns: int) -> bytes | None:
        """The value, to the first who asks in time; None to all others."""
        value, until_ns = self._keys.pop(key, (None, now_ns))
        return value if now_ns < until_ns else None

    def _drop_lapsed(self, now_ns: int) -> None:
        while self._keys:
            first = next(iter(self._keys))
            if self._keys[first][1] > now_ns:
                return
            del self._keys[first]
