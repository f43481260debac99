"""Main of a worker: a uvloop process that owns its calls from accept to hang-up.

It serves a listening socket (opened and held by the supervisor), takes or hands on what arrives
there, owns one arena and is rung by the DSP process when results are ready. A tick serves what is
due without a ring. The heartbeat is written by the loop itself together with its lag, so a stuck
loop looks stuck; with each beat it says whether it would take one more call.

It ends in one way, the drain: nothing new is taken, running calls go on for a while, the caller of
one that is left is told goodbye. SIGTERM begins it. A worker whose supervisor has died gets that
signal from the kernel, and goes on serving for a while first: nobody else would answer the phone.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import signal
import socket
import ssl
import sys
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

import uvloop

from audio.arena import Arena
from gateway import clock
from gateway.admission import SENTENCES, Admission, Admits, Pulse
from gateway.bridge import Bridge
from gateway.conversation.profile import Profile
from gateway.departures import Carrier
from gateway.doorway import Doorway, Ways
from gateway.errors import ConfigurationError
from gateway.limits import CONNECTIONS_END_MS_MAX, GOODBYE_MS_MAX
from gateway.mesh import Mesh
from gateway.ops import log as logs
from gateway.ops.records import RecordsSender, spool_path
from gateway.ops.redaction import secrets_of
from gateway.providers.base import Speech
from gateway.reception import Reception
from gateway.responders.profiles import load_profiles
from gateway.responders.registry import Staff
from gateway.settings import Settings
from gateway.switchboard import GOING_AWAY, GOING_DOWN, Switchboard, SwitchboardParts
from gateway.tls import server_context
from gateway.warm_up import WarmUp
from supervisor.kinds import RETIRE
from supervisor.scoreboard import Field, Phase, Row, Scoreboard

EXIT_CONFIG = 2
HEARTBEAT_MS = 100
TICK_MS = 20
REPORT_EVERY_BEATS = 10
DRAIN_LOOK_MS = 20
# Calls make hardly any cycles; collections in their midst are heard.
GC_THRESHOLD = (100_000, 50, 50)
#: What ended calls may take to store what they know; the supervisor's patience is longer.
FINISH_S_MAX = 2.5

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
    handover_rx: socket.socket,
    handover_tx: tuple[socket.socket, ...],
) -> int:
    """Serve calls until told to stop. Returns the exit status.

    ``index`` is our place; ``handover_rx`` brings what others send to it, ``handover_tx[p]``
    leads to place ``p``. ``dsp_wake_fds[d]`` rings DSP process ``d``, ``woken_fd`` is rung by the
    one that serves our arena; ``alive_fd`` is only held open: its end tells the other children
    that we are gone.
    """
    assert alive_fd >= 0
    supervisor_pid = os.getppid()
    _configure_log(settings, index)
    try:
        arena.check()
        kit = _make_kit(settings, speech_url, row)
    except ConfigurationError as error:
        sys.stderr.write(f"worker-{index}: {error}\n")
        return EXIT_CONFIG
    ways = Ways(index, board, row, listener, handover_rx, handover_tx, kit.tls)
    records = RecordsSender(records_fd, spool_path(settings.data_dir, index), row)

    def wake_dsp() -> None:
        dsp = board.dsp_of(arena_index)
        if dsp >= 0:  # else nobody serves us at this moment; who takes over looks by itself
            os.eventfd_write(dsp_wake_fds[dsp], 1)

    async def serve() -> None:
        # Less than the half tick after which a DSP process that found work looks again.
        rest_ms = 0.4 * settings.dsp_tick_ms
        bridge = Bridge(arena, wake_dsp, asyncio.get_running_loop(), rest_ms)
        parts = _make_parts(settings, ways, kit, bridge, records)
        async with _warming_up(settings, speech_url, kit, parts):
            await Worker(parts, supervisor_pid).run(woken_fd)
        await kit.close()
        bridge.close()

    uvloop.run(serve())
    records.close()
    logs.shutdown()
    return 0


def _make_parts(
    settings: Settings, ways: Ways, kit: _Kit, bridge: Bridge, records: RecordsSender
) -> WorkerParts:
    board, row, place = ways.board, ways.row, ways.place
    mesh = Mesh(place, board, ways.senders)
    reception = Reception(settings, row, kit.profiles, kit.speech, kit.staff)
    switchboard = Switchboard(
        SwitchboardParts(
            settings=settings,
            board=board,
            row=row,
            bridge=bridge,
            reception=reception,
            records=records,
            mesh=mesh,
            carriers=kit.carriers,
        )
    )
    return WorkerParts(
        settings=settings,
        row=row,
        reception=reception,
        switchboard=switchboard,
        doorway=Doorway(ways, switchboard, mesh.received),
        mesh=mesh,
        vitals=Vitals(board, place, bridge),
    )


def _configure_log(settings: Settings, index: int) -> None:
    logs.configure(
        settings.log_level,
        f"worker-{index}",
        log_transcripts=settings.log_transcripts,
        secrets=secrets_of(settings),
    )


@dataclass(frozen=True, slots=True)
class _Kit:
    """What the settings name, loaded before the worker is ready."""

    tls: ssl.SSLContext | None
    profiles: dict[str, Profile]
    speech: Speech | None
    staff: Staff
    carriers: dict[str, Carrier]

    async def close(self) -> None:
        for carrier in self.carriers.values():
            await carrier.aclose()
        await self.staff.aclose()
        if self.speech is not None:
            await self.speech.stt.aclose()
            await self.speech.tts.aclose()
            if self.speech.turn_model is not None:
                await self.speech.turn_model.aclose()


def _make_kit(settings: Settings, speech_url: str, row: Row) -> _Kit:
    """Load it; ``ConfigurationError`` when something cannot work."""
    tls = None
    if settings.tls_cert is not None and settings.tls_key is not None:
        tls = server_context(settings.tls_cert, settings.tls_key)
    return _Kit(
        tls=tls,
        profiles=load_profiles(settings.profile_dir),
        speech=_make_speech(settings, speech_url, row) if settings.uses_providers else None,
        staff=Staff.open(settings, row),
        carriers=_make_carriers(settings),
    )


def _make_carriers(settings: Settings) -> dict[str, Carrier]:
    """By wire, whoever can end and hand over its calls."""
    # The first of several secrets is the present one; the others are on their way out.
    token = settings.twilio_auth_token.get_secret_value().partition(",")[0].strip()
    if not (token and settings.twilio_account_sid):
        return {}
    from gateway.providers.twilio_rest import TwilioRest

    base_url = settings.twilio_api_base_url
    return {"twilio": TwilioRest(base_url, settings.twilio_account_sid, token)}


def _make_speech(settings: Settings, speech_url: str, row: Row) -> Speech:
    # Imported here, before the worker is ready: it takes 0.4 s, and an echo needs none of it.
    from gateway.providers.apologies import Apologies
    from gateway.providers.assembly import (
        open_speech_to_text,
        open_text_to_speech,
        open_turn_model,
    )
    from gateway.providers.rehearsal import rehearse

    rehearse()
    stt = open_speech_to_text(settings, speech_url, row)
    tts = open_text_to_speech(settings, speech_url, row)
    return Speech(stt, tts, Apologies(tts.recall).pcm, open_turn_model(settings))


@contextlib.asynccontextmanager
async def _warming_up(
    settings: Settings, url: str, kit: _Kit, parts: WorkerParts
) -> AsyncGenerator[None, None]:
    """Meanwhile get to know the providers, if there are any."""
    if kit.speech is None:
        yield
        return
    warm_up = WarmUp(
        settings,
        url,
        kit.profiles.values(),
        parts.reception,
        kit.speech.tts,
        parts.switchboard.warnings,
    )
    task = asyncio.create_task(warm_up.run())
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


class Vitals:
    """Reads what admission judges by."""

    def __init__(self, board: Scoreboard, arena: int, bridge: Bridge) -> None:
        self._board = board
        self._arena = arena
        self._bridge = bridge
        self._descriptors_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._descriptors = 0

    def count_descriptors(self) -> None:
        """See how many descriptors are open; not for every beat."""
        self._descriptors = len(os.listdir("/proc/self/fd"))

    def pulse(self, lag_ns: int) -> Pulse:
        """How things stand at a beat that came ``lag_ns`` late."""
        dsp = self._board.dsp_of(self._arena)
        # Nobody for a moment: somebody takes over within milliseconds.
        dsp_lag_ns = self._board.row("dsp", dsp).get(Field.LOOP_LAG_NS) if dsp >= 0 else 0
        return Pulse(
            lag_ns=lag_ns,
            dsp_lag_ns=dsp_lag_ns,
            descriptors=self._descriptors,
            descriptors_max=self._descriptors_max,
            slots_free=self._bridge.slots_free,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerParts:
    """What a worker is put together from."""

    settings: Settings
    row: Row
    reception: Reception
    switchboard: Switchboard
    doorway: Doorway
    mesh: Mesh
    vitals: Vitals


class Worker:
    """The loop's duties besides calls: wake-ups, heartbeat, admission, drain."""

    def __init__(self, parts: WorkerParts, supervisor_pid: int) -> None:
        self._parts = parts
        self._supervisor_pid = supervisor_pid
        self._settings = parts.settings
        self._row = parts.row
        self._switchboard = parts.switchboard
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._admission = Admission()
        self._admits = Admits.YES
        self._orphaned = self._draining = False
        #: How long running calls may go on; None until we are to end.
        self._calls_until_ns: int | None = None
        self._beats = 0

    async def run(self, woken_fd: int) -> None:
        """Serve until told to end, then drain."""
        loop = self._loop
        loop.add_signal_handler(signal.SIGTERM, self._on_sigterm)
        loop.add_signal_handler(RETIRE, self._retire)
        loop.add_reader(woken_fd, self._woken, woken_fd)
        gc.collect()
        gc.freeze()  # what was imported is never garbage: spare each collection the look at it
        gc.set_threshold(*GC_THRESHOLD)
        timers = [
            _every(loop, HEARTBEAT_MS, self._beat),
            _every(loop, TICK_MS, self._tick),
        ]
        self._row.set(Field.CAPACITY, self._settings.calls_per_worker)
        self._row.set(Field.ADMITS, Admits.YES)
        self._parts.doorway.open()
        self._row.ready()
        log.info("worker ready", pid=os.getpid())
        await self._stop.wait()
        await self._drain()
        loop.remove_reader(woken_fd)
        for cancel in timers:
            cancel()

    def _on_sigterm(self) -> None:
        """Drain; but first go on for a while when it is the kernel that tells of a death."""
        if self._orphaned or os.getppid() == self._supervisor_pid:
            self._leave(self._settings.drain_timeout_ms)
            return
        self._orphaned = True
        accept_ms = self._settings.orphan_accept_ms
        log.error("the supervisor is dead", accept_ms=accept_ms)
        self._loop.call_later(accept_ms / 1000, self._retire)

    def _retire(self) -> None:
        """Somebody else serves now, or will: our calls are in nobody's way."""
        self._leave(self._settings.max_call_ms)

    def _leave(self, calls_ms: int) -> None:
        """Begin to drain, or go on with it in less time."""
        until_ns = clock.now_ns() + calls_ms * clock.NS_PER_MS
        self._calls_until_ns = min(until_ns, self._calls_until_ns or until_ns)
        self._stop.set()

    def _time_left_ms(self) -> int:
        assert self._calls_until_ns is not None, "nobody told us to end"
        return max(0, self._calls_until_ns - clock.now_ns()) // clock.NS_PER_MS

    async def _drain(self) -> None:
        """Take nothing new, let running calls end, then end what is left."""
        self._draining = True
        self._row.set(Field.ADMITS, Admits.NO)
        self._row.set(Field.PHASE, Phase.DRAINING)
        switchboard, doorway = self._switchboard, self._parts.doorway
        switchboard.draining = True
        doorway.close()
        calls = len(switchboard.registry)
        log.info("draining", calls=calls, timeout_ms=self._time_left_ms())
        while not switchboard.is_idle and self._time_left_ms() > 0:
            await clock.sleep_ms(DRAIN_LOOK_MS)
        cut = len(switchboard.registry)
        switchboard.say_goodbye()
        await _until(lambda: not len(switchboard.registry), GOODBYE_MS_MAX)
        switchboard.close_all(GOING_AWAY, GOING_DOWN)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(switchboard.finished(), timeout=FINISH_S_MAX)
        # Connections that came last are still being answered.
        await _until(
            lambda: doorway.emptied.is_set() and not doorway.connections, CONNECTIONS_END_MS_MAX
        )
        doorway.shut()
        switchboard.report()
        log.info("drained", calls_cut=cut)

    def _woken(self, woken_fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(woken_fd)
        self._switchboard.results()

    def _tick(self, lag_ns: int) -> None:
        del lag_ns
        self._switchboard.tick()

    def _beat(self, lag_ns: int) -> None:
        now_ns = clock.now_ns()
        self._row.beat(now_ns, lag_ns)
        self._row.observe("loop_delay_ms", lag_ns // clock.NS_PER_MS)
        if self._beats % REPORT_EVERY_BEATS == 0:
            self._switchboard.report()
            self._parts.vitals.count_descriptors()
        self._beats += 1
        self._parts.mesh.beat(now_ns)
        self._switchboard.look(now_ns)
        if not self._draining:
            self._admit(self._admission.beat(self._parts.vitals.pulse(lag_ns), now_ns))

    def _admit(self, admits: Admits) -> None:
        if admits == self._admits:
            return
        before, self._admits = self._admits, admits
        self._row.set(Field.ADMITS, admits)
        if admits is Admits.YES:
            log.info("takes calls again")
        elif before is Admits.YES:  # else only the reason is another
            log.warning("takes no calls", reason=SENTENCES[admits])


async def _until(true: Callable[[], bool], wait_ms_max: int) -> None:
    """Wait until something is so, or for as long as that may take."""
    deadline_ns = clock.now_ns() + wait_ms_max * clock.NS_PER_MS
    while not true() and clock.now_ns() < deadline_ns:
        await clock.sleep_ms(DRAIN_LOOK_MS)


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
