"""Tells systemd how we are (sd_notify): datagrams to the socket that NOTIFY_SOCKET names.

Without that variable nothing is sent. Nothing waits and nothing fails: whoever does not listen is
not told. The variables are taken out of the environment, since children must not speak for us.
See sd_notify(3) and systemd.service(5), Type=notify and Type=notify-reload.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Self

READY = "READY=1"
STOPPING = "STOPPING=1"
WATCHDOG = "WATCHDOG=1"

_NS_PER_US = 1_000


class Notifier:
    """Sends states to ``address`` (empty: nobody), and a sign of life each ``watchdog_us / 2``."""

    def __init__(self, address: str = "", watchdog_us: int = 0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._period_ns = watchdog_us * _NS_PER_US // 2
        self._due_ns = 0

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Self:
        """What systemd has asked for; its variables are removed."""
        address = environment.pop("NOTIFY_SOCKET", "")
        period = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", "")
        is_ours = pid in ("", str(os.getpid()))
        return cls(address, int(period) if is_ours and period.isdecimal() else 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._socket is not None:
            self._socket.close()

    def tell(self, *states: str, status: str = "") -> None:
        """Send assignments such as READY, and a ``status`` line for whoever asks systemctl."""
        lines = [*states, *([f"STATUS={status}"] if status else [])]
        if self._socket is not None:
            with suppress(OSError):
                self._socket.sendto("\n".join(lines).encode(), self._address)

    def reloading(self, now_ns: int) -> None:
        """Say that settings are being reloaded; READY ends it. ``now_ns`` is CLOCK_MONOTONIC."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={now_ns // _NS_PER_US}")

    def alive(self, now_ns: int) -> None:
        """To be called often, by the loop this vouches for; sends at half the watchdog's time."""
        if self._period_ns and now_ns >= self._due_ns:
            self._due_ns = now_ns + self._period_ns
            self.tell(WATCHDOG)
