"""Ports for the servers of tests, each once: below those that the kernel gives to clients."""

from __future__ import annotations

import itertools
import os
import socket

_FIRST, _EACH = 12_000, 2_000
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_numbers = itertools.count(_FIRST + _WORKER * _EACH + os.getpid() % (_EACH // 2))


def free_port() -> int:
    """A port that nobody listens on, and that no other test is given."""
    for port in _numbers:
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
        return port
    raise AssertionError("out of ports")
