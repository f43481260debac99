"""Main of the console process: health, metrics, records and the page, on a port of their own.

It also is the one writer of the records database, so it is stopped last and, at its own end,
takes everything that the workers have sent before it commits and leaves. It ends on SIGTERM, or
when the alive pipe gives end of file: supervisor and workers are gone, nobody needs it. A Ctrl-C
reaches the whole process group and is left to the supervisor.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from dataclasses import dataclass

import uvloop

from gateway.console.database import Database
from gateway.console.recorder import Recorder
from gateway.console.routes import Pages, PagesParts
from gateway.console.view import View
from gateway.ops.log import configure, get_logger, shutdown
from gateway.ops.metrics import Exposition
from gateway.ops.redaction import secrets_of
from gateway.ops.serving import Server, beat, server_config, stop_when_told
from gateway.settings import Settings
from supervisor.scoreboard import Field, Phase, Row, Scoreboard

DATABASE = "records.db"
BEAT_MS = 100
FINISH_TIMEOUT_S = 3
CONNECTIONS_MAX = 64
KEEP_ALIVE_S = 5
REQUESTS_TIMEOUT_S = 1

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inherited:
    """What the supervisor gives its console."""

    row: Row
    board: Scoreboard
    settings: Settings
    listener: socket.socket
    records_fds: tuple[int, ...]
    alive_fd: int


def main(
    *,
    row: Row,
    board: Scoreboard,
    settings: Settings,
    listener: socket.socket,
    records_fds: tuple[int, ...],
    alive_fd: int,
) -> int:
    """Serve until told to stop; exit status 0, or 1 when something broke."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    configure(
        settings.log_level,
        f"{row.name.kind}-{row.name.index}",
        log_transcripts=settings.log_transcripts,
        secrets=secrets_of(settings),
    )
    inherited = Inherited(
        row=row,
        board=board,
        settings=settings,
        listener=listener,
        records_fds=records_fds,
        alive_fd=alive_fd,
    )
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(inherited))
    except Exception as error:  # noqa: BLE001 - the last place that can say why it ends
        log.fatal("console failed", exc_info=error)
        return 1
    finally:
        shutdown()
    return 0


async def _serve(inherited: Inherited) -> None:
    row, settings = inherited.row, inherited.settings
    stop = asyncio.Event()
    stop_when_told(stop, inherited.alive_fd)
    database = Database(settings.data_dir / DATABASE)
    view = View()
    await view.recall(database)
    recorder = Recorder(
        settings.data_dir, database, inherited.records_fds, row, view, settings.records_days
    )
    pages = Pages(
        PagesParts(
            board=inherited.board,
            settings=settings,
            database=database,
            exposition=Exposition(inherited.board),
            view=view,
        )
    )
    config = server_config(
        pages.app(),
        connections_max=CONNECTIONS_MAX,
        keep_alive_s=KEEP_ALIVE_S,
        stop_timeout_s=REQUESTS_TIMEOUT_S,
    )
    server = Server(config, row.ready)
    async with asyncio.TaskGroup() as tasks:
        beating = tasks.create_task(beat(row))
        recording = tasks.create_task(recorder.run())
        feeding = tasks.create_task(pages.feed.run())
        serving = tasks.create_task(server.serve(sockets=[inherited.listener]))
        await stop.wait()
        row.set(Field.PHASE, Phase.DRAINING)
        log.info("stopping")
        pages.feed.close()
        server.should_exit = True
        await serving
        feeding.cancel()
        recorder.stop()
        async with asyncio.timeout(FINISH_TIMEOUT_S):
            await recording
        beating.cancel()
