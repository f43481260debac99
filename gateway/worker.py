"""Main of a worker: a uvloop process that owns its calls from accept to hang-up.

It serves the listening socket of its slot (opened and held by the supervisor), owns one arena and
is rung by the DSP process when results are ready. A tick serves what is due without a ring. The
heartbeat is written by the loop itself together with its lag, so a stuck loop looks stuck.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable

import uvloop

from audio.arena import Arena
from gateway import clock
from gateway.bridge import Bridge
from gateway.errors import ConfigurationError, ProviderError
from gateway.limits import LISTEN_BACKLOG
from gateway.listener import Connection
from gateway.ops import log as logs
from gateway.ops.records import RecordsSender, spool_path
from gateway.ops.redaction import secrets_of
from gateway.pipeline import Speech
from gateway.reception import Reception
from gateway.responders.profiles import load_profiles
from gateway.settings import LOCAL, Settings
from gateway.switchboard import GOING_AWAY, Switchboard
from supervisor.scoreboard import Field, Phase, Row, Scoreboard

EXIT_CONFIG = 2
HEARTBEAT_MS = 100
TICK_MS = 20
REPORT_EVERY_BEATS = 10
# Calls make hardly any cycles; collections in their midst are heard.
GC_THRESHOLD = (100_000, 50, 50)
VOICES_TIMEOUT_MS = 60_000

log = logs.get_logger(__name__)


def main(  # noqa: PLR0913 - a child's main is told everything it may touch
    *,
    row: Row,
    board: Scoreboard,
    settings: Settings,
    index: int,
    listener: socket.socket,
    arena: Arena,
    arena_index: int,
    dsp_wake_fds: tuple[int, ...],
    woken_fd: int,
    records_fd: int,
    alive_fd: int,
    speech_url: str,
) -> int:
    """Serve calls until told to stop. Returns the exit status.

    ``dsp_wake_fds[d]`` rings DSP process ``d``, ``woken_fd`` is rung by the one that serves our
    arena; ``alive_fd`` is only held open: its end tells the other children that we are gone.
    """
    assert alive_fd >= 0
    _configure_log(settings, index)
    try:
        profiles = load_profiles(settings.profile_dir)
        arena.check()
        speech = _make_speech(settings, speech_url) if settings.uses_providers else None
    except ConfigurationError as error:
        sys.stderr.write(f"worker-{index}: {error}\n")
        return EXIT_CONFIG
    records = RecordsSender(records_fd, spool_path(settings.data_dir, index), row)

    def wake_dsp() -> None:
        dsp = board.dsp_of(arena_index)
        if dsp >= 0:  # else nobody serves us at this moment; who takes over looks by itself
            os.eventfd_write(dsp_wake_fds[dsp], 1)

    async def serve() -> None:
        bridge = Bridge(arena, wake_dsp, asyncio.get_running_loop().call_soon)
        reception = Reception(settings, row, profiles, speech)
        switchboard = Switchboard(settings, board, row, bridge, reception, records)
        async with _learning_voices(settings, speech_url, reception, switchboard):
            await Worker(settings, row, switchboard).run(listener, woken_fd)
        if speech is not None:
            await speech.stt.aclose()
            await speech.tts.aclose()
        bridge.close()

    uvloop.run(serve())
    records.close()
    logs.shutdown()
    return 0


def _configure_log(settings: Settings, index: int) -> None:
    logs.configure(
        settings.log_level,
        f"worker-{index}",
        log_transcripts=settings.log_transcripts,
        secrets=secrets_of(settings),
    )


def _make_speech(settings: Settings, speech_url: str) -> Speech:
    # Imported here, before the worker is ready: it takes 0.4 s, and an echo needs none of it.
    from gateway.providers.openai_stt import OpenAISpeechToText
    from gateway.providers.openai_tts import OpenAITextToSpeech

    key = settings.openai_api_key.get_secret_value()
    stt_url = speech_url if settings.stt_base_url == LOCAL else settings.stt_base_url
    tts_url = speech_url if settings.tts_base_url == LOCAL else settings.tts_base_url
    return Speech(
        OpenAISpeechToText(base_url=stt_url, api_key=key, model=settings.stt_model),
        OpenAITextToSpeech(
            base_url=tts_url, api_key=key, model=settings.tts_model, voice=settings.tts_voice
        ),
    )


@contextlib.asynccontextmanager
async def _learning_voices(
    settings: Settings, url: str, reception: Reception, switchboard: Switchboard
) -> AsyncGenerator[None, None]:
    """Meanwhile find out which languages the local speech server speaks, if it is in use."""
    if not settings.uses_providers or settings.tts_base_url != LOCAL:
        yield
        return
    task = asyncio.create_task(_learn_voices(url, reception, switchboard))
    yield
    task.cancel()


async def _learn_voices(url: str, reception: Reception, switchboard: Switchboard) -> None:
    """Callers of a language without a voice will hear English."""
    from gateway.providers.local_voices import spoken_languages

    try:
        listed = await spoken_languages(url, VOICES_TIMEOUT_MS)
    except ProviderError:
        log.exception("voices unknown")
        return
    reception.spoken = frozenset(name for name, install in listed.items() if not install)
    for name, install in listed.items():
        if install:
            switchboard.warnings.append(f"no voice for {name}, callers hear English: {install}")
            log.warning("no voice", language=name, install=install)


class Worker:
    """The loop's duties besides calls: accept, wake-ups, heartbeat, drain."""

    def __init__(self, settings: Settings, row: Row, switchboard: Switchboard) -> None:
        self._settings = settings
        self._row = row
        self._switchboard = switchboard
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._beats = 0

    async def run(self, listener: socket.socket, woken_fd: int) -> None:
        """Serve until SIGTERM, then drain."""
        loop = self._loop
        loop.add_signal_handler(signal.SIGTERM, self._stop.set)
        loop.add_reader(woken_fd, self._woken, woken_fd)
        server = await loop.create_server(
            lambda: Connection(self._switchboard), sock=listener, backlog=LISTEN_BACKLOG
        )
        timers = [
            _every(loop, HEARTBEAT_MS, self._beat),
            _every(loop, TICK_MS, self._tick),
        ]
        gc.collect()
        gc.freeze()  # what was imported is never garbage: spare each collection the look at it
        gc.set_threshold(*GC_THRESHOLD)
        self._row.set(Field.CAPACITY, self._settings.calls_per_worker)
        self._row.ready()
        log.info("worker ready", pid=os.getpid())
        await self._stop.wait()
        await self._drain(server)
        loop.remove_reader(woken_fd)
        for cancel in timers:
            cancel()

    async def _drain(self, server: asyncio.Server) -> None:
        """Take nothing new, let running calls end, then end what is left."""
        self._row.set(Field.PHASE, Phase.DRAINING)
        self._switchboard.draining = True
        server.close()
        calls = len(self._switchboard.registry)
        log.info("draining", calls=calls, timeout_ms=self._settings.drain_timeout_ms)
        deadline_ns = clock.now_ns() + self._settings.drain_timeout_ms * clock.NS_PER_MS
        while len(self._switchboard.registry) and clock.now_ns() < deadline_ns:
            await clock.sleep_ms(HEARTBEAT_MS)
        cut = len(self._switchboard.registry)
        self._switchboard.close_all(GOING_AWAY, "the gateway is going down")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._switchboard.finished(), timeout=1)
        self._switchboard.report()
        log.info("drained", calls_cut=cut)

    def _woken(self, woken_fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(woken_fd)
        self._switchboard.results()

    def _tick(self, lag_ns: int) -> None:
        del lag_ns
        self._switchboard.tick()

    def _beat(self, lag_ns: int) -> None:
        self._row.beat(clock.now_ns(), lag_ns)
        self._beats += 1
        if self._beats % REPORT_EVERY_BEATS == 0:
            self._switchboard.report()


def _every(
    loop: asyncio.AbstractEventLoop, period_ms: int, call: Callable[[int], None]
) -> Callable[[], None]:
    """Call at a fixed rate, told how late it is (ns); returns what stops it."""
    period_ns = period_ms * clock.NS_PER_MS
    due_ns = clock.now_ns() + period_ns
    handle: asyncio.TimerHandle

    def fire() -> None:
        nonlocal due_ns, handle
        now_ns = clock.now_ns()
        late_ns = max(0, now_ns - due_ns)
        due_ns = max(due_ns + period_ns, now_ns)
        handle = loop.call_later((due_ns - now_ns) / 1e9, fire)
        call(late_ns)

    handle = loop.call_later(period_ms / 1000, fire)

    def stop() -> None:
        handle.cancel()

    return stop
