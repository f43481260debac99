"""What the mains beside the worker share: uvicorn on an inherited socket, heartbeat, the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable, Generator

import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override

from gateway import clock
from gateway.limits import HEAD_BYTES_MAX, LISTEN_BACKLOG
from supervisor.scoreboard import Row

BEAT_MS = 100


class Server(uvicorn.Server):
    """uvicorn without its own signal handlers, saying when it serves."""

    def __init__(self, config: uvicorn.Config, on_serving: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_serving = on_serving

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_serving()

    @override
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def server_config(
    app: ASGIApp, *, connections_max: int, keep_alive_s: int, stop_timeout_s: int
) -> uvicorn.Config:
    """Plain HTTP/1.1 with bounds, quiet, and nothing of a peer's headers believed."""
    return uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=[("Server", "voice-gateway")],  # so that a new supervisor knows its own kind
        backlog=LISTEN_BACKLOG,
        limit_concurrency=connections_max,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=stop_timeout_s,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
    )


def stop_when_told(stop: asyncio.Event, alive_fd: int) -> None:
    """Set ``stop`` on SIGTERM, and when end of file says that everybody else is gone."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)

    def on_readable() -> None:
        with contextlib.suppress(BlockingIOError):
            if not os.read(alive_fd, 1):
                loop.remove_reader(alive_fd)
                stop.set()

    loop.add_reader(alive_fd, on_readable)


async def beat(row: Row) -> None:
    """Write a heartbeat each 100 ms, with how late the loop let it be."""
    due_ns = clock.now_ns()
    while True:
        now_ns = clock.now_ns()
        row.beat(now_ns, max(0, now_ns - due_ns))
        due_ns = now_ns + BEAT_MS * clock.NS_PER_MS
        await clock.sleep_ms(BEAT_MS)
