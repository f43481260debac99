"""What is supervised: everything that outlives a child, and which child is given which of it.

``open_resources`` opens listeners, shared memory, event fds and the sockets between processes, all
before the first fork. ``other_specs`` and ``crew_of`` say who is run with what; the keyword
arguments in there are the contract with each main. A crew is made from one reading of the
settings: ``Reloader`` makes the next one when the operator asks for it.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from audio.arena import Arena
from gateway.errors import ConfigurationError
from gateway.settings import Settings
from supervisor.handover import socket_pair
from supervisor.kinds import CONSOLE, DSP, SPEECH, WORKER
from supervisor.scoreboard import RowName, Scoreboard
from supervisor.sockets import claim_name, open_listener, refuse_strangers
from supervisor.spec import ChildSpec, Crew, ReloadError

#: All calls wait for a DSP process, so it goes before the workers where that is allowed.
DSP_NICE = -5
#: The call's media path comes first. Each record wakes the console, which must not push a worker
#: aside that has just sent it (a sixth of what a call's start cost); a recognition takes a second.
CONSOLE_NICE = 5
SPEECH_NICE = 10

#: A DSP process's frames are due every 20 ms, and another can do its work.
DSP_HUNG_AFTER_MS = 400

#: What a worker may take beyond DRAIN_TIMEOUT_MS to say goodbye, before it is killed.
KILL_AFTER_DRAIN_MS = 12_000

#: Settings that say what children other than workers do, or how much was opened at the start.
NEEDS_RESTART = (
    "gateway_host", "gateway_port", "console_host", "console_port", "workers", "dsp_processes",
    "calls_per_worker", "pin_cpus", "dsp_tick_ms", "vad", "data_dir",
    "records_days",
)  # fmt: skip

#: Descriptors of a process beside those of calls; a worker refuses calls at 90 % of its limit.
_DESCRIPTORS_SPARE = 64
_DESCRIPTORS_A_PLACE = 10

_AVX512 = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})

log = logging.getLogger("supervisor")


@dataclass(frozen=True, slots=True)
class Resources:
    """What the supervisor opens once and holds for life; children inherit their share of it.

    One listener a worker. For each place an arena, a ``(worker, console)`` pair of record sockets,
    the reading and the writing end of its hand-over socket, and an event fd in ``arena_wakes``
    that is rung for its worker; one event fd a DSP process (``dsp_wakes``). The write end of
    ``alive`` is held by the supervisor and the workers: its end of file tells the others that
    nobody needs them any more.
    """

    board: Scoreboard
    listeners: tuple[socket.socket, ...]
    console_listener: socket.socket
    speech_listener: socket.socket | None
    arenas: tuple[Arena, ...]
    dsp_wakes: tuple[int, ...]
    arena_wakes: tuple[int, ...]
    records: tuple[tuple[socket.socket, socket.socket], ...]
    handovers: tuple[tuple[socket.socket, socket.socket], ...]
    alive_read: int
    alive_write: int
    environment: Mapping[str, str]

    @property
    def speech_url(self) -> str:
        """Base URL of the local speech server; empty when none runs."""
        if self.speech_listener is None:
            return ""
        host, port = self.speech_listener.getsockname()
        return f"http://{host}:{port}/v1"


def open_resources(settings: Settings, held: ExitStack) -> Resources:
    """Open everything, the likeliest mistake of an operator first; ``held`` closes it again.

    ``ListenError``, ``ArenaError`` or ``ConfigurationError``, each with the operator's sentence.
    """
    host, port, places = settings.gateway_host, settings.gateway_port, settings.places
    try:
        held.enter_context(claim_name(port))
        if refuse_strangers(host, port):  # then the console port is theirs as well
            log.warning("joined port=%d note='orphans of ours go on until their calls end'", port)
        else:
            refuse_strangers(settings.console_host, settings.console_port)
        listeners = [held.enter_context(open_listener(host, port)) for _ in range(settings.workers)]
        console = open_listener(settings.console_host, settings.console_port)
        held.enter_context(console)
        speech = None
        if settings.needs_speech_server:
            speech = held.enter_context(open_listener("127.0.0.1", 0, reuse_port=False))
        alive_read, alive_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        return Resources(
            board=_board(settings),
            listeners=tuple(listeners),
            console_listener=console,
            speech_listener=speech,
            alive_read=_closed_by(held, alive_read),
            alive_write=_closed_by(held, alive_write),
            dsp_wakes=tuple(_event_fd(held) for _ in range(settings.dsp_count)),
            arena_wakes=tuple(_event_fd(held) for _ in range(places)),
            records=tuple(_pair(held) for _ in range(places)),
            handovers=tuple(_pair(held) for _ in range(places)),
            arenas=tuple(_arena(settings.calls_per_worker, places, held) for _ in range(places)),
            environment=child_environment(cpuinfo, os.environ),
        )
    except OSError as error:  # out of descriptors, most likely
        raise ConfigurationError(f"cannot start: {error.strerror}") from error


def descriptors_needed(settings: Settings) -> int:
    """How many files the process that has most of them open may need."""
    supervisor = (
        _DESCRIPTORS_SPARE + _DESCRIPTORS_A_PLACE * settings.places + 3 * settings.dsp_count
    )
    a_call = 2 if settings.uses_providers else 1  # its socket, and one to a provider
    worker = _DESCRIPTORS_SPARE + settings.places + a_call * settings.calls_per_worker
    return max(supervisor, -(-worker * 10 // 9))


def _board(settings: Settings) -> Scoreboard:
    children = {
        WORKER: settings.places,
        DSP: settings.dsp_count,
        SPEECH: int(settings.needs_speech_server),
        CONSOLE: 1,
    }
    rows = [RowName(kind, index) for kind, count in children.items() for index in range(count)]
    return Scoreboard(rows, settings.places)


def _arena(slots: int, count: int, held: ExitStack) -> Arena:
    arena = Arena.create(slots, of=count)
    held.callback(arena.close)
    return arena


def _event_fd(held: ExitStack) -> int:
    return _closed_by(held, os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))


def _pair(held: ExitStack) -> tuple[socket.socket, socket.socket]:
    one, other = socket_pair()
    return held.enter_context(one), held.enter_context(other)


def _closed_by(held: ExitStack, fd: int) -> int:
    held.callback(os.close, fd)
    return fd


def other_specs(settings: Settings, resources: Resources) -> Iterator[ChildSpec]:
    """Who runs beside the workers."""
    for index in range(settings.dsp_count):
        yield _dsp(index, settings, resources)
    if resources.speech_listener is not None:
        yield _speech(resources.speech_listener, settings, resources)
    yield _console(settings, resources)


def crew_of(settings: Settings, resources: Resources) -> Crew:
    """The workers that these settings make."""

    def worker(place: int, listener: int) -> ChildSpec:
        return _worker(place, listener, settings, resources)

    return Crew(settings.workers, worker)


class Reloader:
    """Reads the settings again for a roll of the workers."""

    def __init__(
        self, running: Settings, resources: Resources, read: Callable[[], Settings]
    ) -> None:
        self._running = running
        self._resources = resources
        self._read = read

    def __call__(self) -> Crew:
        """The workers that the settings make now; ``ReloadError`` when they cannot work.

        What cannot change while the gateway runs stays as it is, and is named in one log line.
        """
        try:
            found = self._read()
        except ConfigurationError as error:
            raise ReloadError("; ".join(str(error).splitlines())) from error
        kept = {name: getattr(self._running, name) for name in NEEDS_RESTART}
        fixed = [name.upper() for name, value in kept.items() if getattr(found, name) != value]
        settings = found.model_copy(update=kept)
        if settings.needs_speech_server and self._resources.speech_listener is None:
            raise ReloadError("these settings need the local speech server, which needs a restart")
        if fixed:
            log.warning("needs_a_restart settings=%s", ",".join(fixed))
        return crew_of(settings, self._resources)


def _worker(place: int, listener: int, settings: Settings, resources: Resources) -> ChildSpec:
    accepts_from, records = resources.listeners[listener], resources.records[place][0]
    handover_rx = resources.handovers[place][0]
    handover_tx = tuple(writing for _, writing in resources.handovers)
    woken_fd = resources.arena_wakes[place]
    return ChildSpec(
        kind=WORKER,
        index=place,
        target="gateway.worker:main",
        kwargs={
            "row": resources.board.row(WORKER, place),
            "board": resources.board,
            "settings": settings,
            "index": place,
            "listener": accepts_from,
            "handover_rx": handover_rx,
            "handover_tx": handover_tx,
            "arena": resources.arenas[place],
            "arena_index": place,
            "dsp_wake_fds": resources.dsp_wakes,
            "woken_fd": woken_fd,
            "records_fd": records.fileno(),
            "alive_fd": resources.alive_write,
            "speech_url": resources.speech_url,
        },
        keep_fds=frozenset(
            {accepts_from.fileno(), handover_rx.fileno(), records.fileno(), woken_fd}
            | {writing.fileno() for writing in handover_tx}
            | {resources.alive_write, *resources.dsp_wakes}
        ),
        listener=listener,
        dies_with_parent=True,
        cpus=frozenset(settings.cpus[listener % len(settings.cpus) :][:1] if settings.cpus else ()),
        environment=resources.environment,
        stop_timeout_ms=settings.drain_timeout_ms + KILL_AFTER_DRAIN_MS,
        retire_timeout_ms=settings.max_call_ms + KILL_AFTER_DRAIN_MS,
        rss_bytes_max=settings.worker_rss_mb_max * 10**6,
    )


def _dsp(index: int, settings: Settings, resources: Resources) -> ChildSpec:
    wake_fd = resources.dsp_wakes[index]
    return ChildSpec(
        kind=DSP,
        index=index,
        target="audio.dsp_process:main",
        kwargs={
            "row": resources.board.row(DSP, index),
            "board": resources.board,
            "index": index,
            "arenas": resources.arenas,
            "wake_fd": wake_fd,
            "worker_fds": resources.arena_wakes,
            "alive_fd": resources.alive_read,
            "vad": settings.vad,
            "tick_ms": settings.dsp_tick_ms,
        },
        keep_fds=frozenset({wake_fd, resources.alive_read} | set(resources.arena_wakes)),
        hung_after_ms=DSP_HUNG_AFTER_MS,
        nice=DSP_NICE,
        cpus=frozenset(settings.cpus[settings.workers :] or settings.cpus),
        environment=resources.environment,
    )


def _speech(listener: socket.socket, settings: Settings, resources: Resources) -> ChildSpec:
    return ChildSpec(
        kind=SPEECH,
        index=0,
        target="gateway.speech_server.app:main",
        kwargs={
            "row": resources.board.row(SPEECH, 0),
            "listener": listener,
            "alive_fd": resources.alive_read,
            "log_level": settings.log_level,
        },
        keep_fds=frozenset({listener.fileno(), resources.alive_read}),
        nice=SPEECH_NICE,
        environment=resources.environment,
    )


def _console(settings: Settings, resources: Resources) -> ChildSpec:
    listener = resources.console_listener
    records_fds = tuple(theirs.fileno() for _, theirs in resources.records)
    return ChildSpec(
        kind=CONSOLE,
        index=0,
        target="gateway.console.app:main",
        kwargs={
            "row": resources.board.row(CONSOLE, 0),
            "board": resources.board,
            "settings": settings,
            "listener": listener,
            "records_fds": records_fds,
            "alive_fd": resources.alive_read,
        },
        keep_fds=frozenset({listener.fileno(), resources.alive_read, *records_fds}),
        nice=CONSOLE_NICE,
        environment=resources.environment,
    )


def child_environment(cpuinfo: str, given: Mapping[str, str]) -> dict[str, str]:
    """Variables for every child: one thread for each maths library, and fast kernels.

    OpenBLAS takes AVX2 kernels on processors it does not know, 1.5 times slower than these; on
    one without all four features they would be an illegal instruction.
    """
    environment = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    flags: set[str] = set()
    for line in cpuinfo.splitlines():
        if line.startswith("flags"):
            flags = set(line.partition(":")[2].split())
            break
    if flags >= _AVX512 and "OPENBLAS_CORETYPE" not in given:
        environment["OPENBLAS_CORETYPE"] = "SkylakeX"
    return environment
