"""``python -m supervisor``: the composition root, the one file that knows what is supervised.

Reads the settings, opens everything that outlives a child (listeners, shared memory, event fds,
the sockets between processes), says which child gets which of it, and hands that to the tree.
An operator's mistake is one sentence on stderr and exit status 2.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # a Ctrl-C during the imports below needs no traceback either
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import logging
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from typing_extensions import override

from audio.arena import Arena, ArenaError
from audio.layout import Layout
from gateway.errors import ConfigurationError
from gateway.settings import Settings, load_settings
from supervisor.scoreboard import RowName, Scoreboard
from supervisor.signals import SignalInbox
from supervisor.sockets import ListenError, claim_name, open_listener
from supervisor.spec import DSP, EXIT_CONFIG, WORKER, ChildSpec, StopPolicy
from supervisor.tree import Plan, Tree

SPEECH = "speech"
CONSOLE = "console"

SPEECH_NICE = 10
DSP_HUNG_AFTER_MS = 2_000

ENV_FILE = Path(".env")

_LOG_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}

#: Flag, what its value is called, the setting it stands for.
_FLAGS = (
    ("--workers", "N", "workers"),
    ("--dsp-processes", "N", "dsp_processes"),
    ("--host", "ADDRESS", "gateway_host"),
    ("--port", "N", "gateway_port"),
    ("--console-port", "N", "console_port"),
    ("--calls-per-worker", "N", "calls_per_worker"),
    ("--responder", "NAME", "responder"),
    ("--log-level", "LEVEL", "log_level"),
)

_EPILOG = """\
Flags win over the environment, the environment over the env file, the env file over defaults.
Every setting is a variable: .env.example lists them all.

signals:
  SIGTERM   drain: calls may go on for DRAIN_TIMEOUT_MS, then everything ends; status 0
  SIGINT    (Ctrl-C) stop within a few seconds; a second SIGTERM or SIGINT stops at once

exit status:
  0 stopped by a signal, or --check found no fault     2 a setting cannot work
  1 nothing can be served any more

examples:
  python -m supervisor
  python -m supervisor --workers 4 --port 4100 --console-port 4101 --responder echo
  python -m supervisor --env-file production.env --check
"""

_AVX512 = frozenset({"avx512f", "avx512bw", "avx512dq", "avx512vl"})


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage before it."""

    @override
    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_CONFIG, f"voice gateway: {message}; try --help\n")


@dataclass(frozen=True, slots=True)
class Resources:
    """What the supervisor opens once and holds for life; children inherit their share of it.

    One listener, one ``(worker, console)`` pair of record sockets a worker; one event fd a DSP
    process (``dsp_wakes``) and an arena (``arena_wakes``, rung for the worker that uses it). The
    write end of ``alive`` is held by the supervisor and the workers: its end of file tells the
    others that nobody needs them any more.
    """

    board: Scoreboard
    listeners: tuple[socket.socket, ...]
    console_listener: socket.socket
    speech_listener: socket.socket | None
    arenas: tuple[Arena, ...]
    dsp_wakes: tuple[int, ...]
    arena_wakes: tuple[int, ...]
    records: tuple[tuple[socket.socket, socket.socket], ...]
    alive_read: int
    alive_write: int

    @property
    def speech_url(self) -> str:
        """Base URL of the local speech server; empty when none runs."""
        if self.speech_listener is None:
            return ""
        host, port = self.speech_listener.getsockname()
        return f"http://{host}:{port}/v1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the gateway until a signal ends it; returns the exit status."""
    try:
        settings, check_only = _read_command_line(arguments)
        if check_only:
            _say(f"ok: {_summary(settings)}")
            return 0
        return _run(settings)
    except (ConfigurationError, ListenError, ArenaError) as error:
        for sentence in str(error).splitlines():
            sys.stderr.write(f"voice gateway: {sentence}\n")
        return EXIT_CONFIG


def _read_command_line(arguments: Sequence[str] | None) -> tuple[Settings, bool]:
    given = vars(_parser().parse_args(arguments))
    check_only = bool(given.pop("check"))
    env_file = given.pop("env_file")
    if env_file is None and ENV_FILE.exists():
        env_file = ENV_FILE
    settings = load_settings(env_file, **{k: v for k, v in given.items() if v is not None})
    if settings.gateway_port == settings.console_port:
        raise ConfigurationError(
            f"the public port and the console port are both {settings.gateway_port}"
        )
    return settings, check_only


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m supervisor",
        description="Run the voice gateway: phone calls in over WebSocket, speech out.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for flag, value, name in _FLAGS:
        field = Settings.model_fields[name]
        default = field.get_default(call_default_factory=True)
        text = f"{field.description} [{name.upper()}, here: {default}]"
        parser.add_argument(flag, metavar=value, dest=name, help=text.replace("%", "%%"))
    parser.add_argument(
        "--env-file",
        metavar="FILE",
        type=Path,
        help="File of NAME=value lines. [.env of the current directory, if there is one]",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="Only check the settings: status 0, or 2 and one sentence a fault.",
    )
    return parser


def _run(settings: Settings) -> int:
    if not __debug__:
        raise ConfigurationError("the gateway relies on its assertions: run Python without -O")
    _log_to_stderr(_LOG_LEVELS[settings.log_level])
    with ExitStack() as held:
        # Before anything is opened: killed half-way, we would leave a name in /dev/shm.
        inbox = held.enter_context(SignalInbox())
        resources = _open(settings, held)
        _say(f"Voice gateway: {_summary(settings)}.")
        for sentence in _warnings(settings):
            _say(sentence)
        plan = Plan(
            specs=tuple(_specs(settings, resources)),
            board=resources.board,
            dsp_wake_fds=resources.dsp_wakes,
            stop=StopPolicy(drain_timeout_ms=settings.drain_timeout_ms),
            on_serving=lambda: _say(_where_to_call(settings)),
            on_slow=_say_slow,
        )
        return Tree(plan).run(inbox)


def _open(settings: Settings, held: ExitStack) -> Resources:
    """Open everything, the likeliest mistake of an operator first; ``held`` closes it again."""
    host, port, arenas = settings.gateway_host, settings.gateway_port, settings.workers + 1
    workers = range(settings.workers)
    try:
        held.enter_context(claim_name(port))
        listeners = [held.enter_context(open_listener(host, port)) for _ in workers]
        console = open_listener(settings.console_host, settings.console_port, reuse_port=False)
        held.enter_context(console)
        speech = None
        if settings.needs_speech_server:
            speech = held.enter_context(open_listener("127.0.0.1", 0, reuse_port=False))
        alive_read, alive_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        return Resources(
            board=_board(settings, arenas),
            listeners=tuple(listeners),
            console_listener=console,
            speech_listener=speech,
            alive_read=_closed_by(held, alive_read),
            alive_write=_closed_by(held, alive_write),
            dsp_wakes=tuple(_event_fd(held) for _ in range(settings.dsp_count)),
            arena_wakes=tuple(_event_fd(held) for _ in range(arenas)),
            records=tuple(_record_sockets(held) for _ in workers),
            arenas=tuple(_arena(settings.calls_per_worker, held) for _ in range(arenas)),
        )
    except OSError as error:  # out of descriptors, most likely
        raise ConfigurationError(f"cannot start: {error.strerror}") from error


def _board(settings: Settings, arenas: int) -> Scoreboard:
    children = {
        WORKER: settings.workers,
        DSP: settings.dsp_count,
        SPEECH: int(settings.needs_speech_server),
        CONSOLE: 1,
    }
    rows = [RowName(kind, index) for kind, count in children.items() for index in range(count)]
    return Scoreboard(rows, arenas)


def _arena(slots: int, held: ExitStack) -> Arena:
    arena = Arena.create(slots)
    held.callback(arena.close)
    return arena


def _event_fd(held: ExitStack) -> int:
    return _closed_by(held, os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))


def _record_sockets(held: ExitStack) -> tuple[socket.socket, socket.socket]:
    kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
    ours, theirs = socket.socketpair(socket.AF_UNIX, kind)
    return held.enter_context(ours), held.enter_context(theirs)


def _closed_by(held: ExitStack, fd: int) -> int:
    held.callback(os.close, fd)
    return fd


def _specs(settings: Settings, resources: Resources) -> Iterator[ChildSpec]:
    """Who is run with what. The keyword arguments are the contract with each main."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    environment = child_environment(cpuinfo, os.environ)
    for index in range(settings.dsp_count):
        yield _dsp(index, settings, resources, environment)
    if resources.speech_listener is not None:
        yield _speech(resources.speech_listener, settings, resources, environment)
    yield _console(settings, resources, environment)
    for index in range(settings.workers):
        yield _worker(index, settings, resources, environment)


def _worker(
    index: int, settings: Settings, resources: Resources, environment: Mapping[str, str]
) -> ChildSpec:
    listener, records = resources.listeners[index], resources.records[index][0]
    woken_fd = resources.arena_wakes[index]
    return ChildSpec(
        kind=WORKER,
        index=index,
        target="gateway.worker:main",
        kwargs={
            "row": resources.board.row(WORKER, index),
            "board": resources.board,
            "settings": settings,
            "index": index,
            "listener": listener,
            "arena": resources.arenas[index],
            "arena_index": index,
            "dsp_wake_fds": resources.dsp_wakes,
            "woken_fd": woken_fd,
            "records_fd": records.fileno(),
            "alive_fd": resources.alive_write,
            "speech_url": resources.speech_url,
        },
        keep_fds=frozenset(
            {listener.fileno(), records.fileno(), woken_fd, resources.alive_write}
            | set(resources.dsp_wakes)
        ),
        dies_with_parent=True,
        environment=environment,
    )


def _dsp(
    index: int, settings: Settings, resources: Resources, environment: Mapping[str, str]
) -> ChildSpec:
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
        environment=environment,
    )


def _speech(
    listener: socket.socket,
    settings: Settings,
    resources: Resources,
    environment: Mapping[str, str],
) -> ChildSpec:
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
        environment=environment,
    )


def _console(settings: Settings, resources: Resources, environment: Mapping[str, str]) -> ChildSpec:
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
        environment=environment,
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


def _summary(settings: Settings) -> str:
    parts = [
        _count(settings.workers, "worker", "workers"),
        _count(settings.dsp_count, "DSP process", "DSP processes")
        + (" (one a standby)" if settings.dsp_count > 1 else ""),
        *(["speech server"] if settings.needs_speech_server else []),
        f"console; responder {settings.responder}",
    ]
    calls = settings.workers * settings.calls_per_worker
    arenas = settings.workers + 1
    mib = arenas * Layout(settings.calls_per_worker).nbytes / 2**20
    return f"{', '.join(parts)}; room for {calls} calls in {mib:.0f} MiB of shared memory"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _warnings(settings: Settings) -> Iterator[str]:
    if settings.insecure_open:
        yield "INSECURE_OPEN=true: anybody who reaches the public port may call."
    else:
        yield "Peers are not authenticated: only those on this machine (a proxy, say) get in."


def _where_to_call(settings: Settings) -> str:
    host, console = _reachable(settings.gateway_host), _reachable(settings.console_host)
    return (
        f"Ready. Call it: ws://{host}:{settings.gateway_port}/"
        f" - console: http://{console}:{settings.console_port}/"
    )


def _reachable(host: str) -> str:
    if host in ("0.0.0.0", "::", ""):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _say_slow(child: str, waited_ms: int) -> None:
    _say(f"{child} is still starting after {waited_ms / 1000:.0f} s; the gateway waits for it.")


def _say(sentence: str) -> None:
    with suppress(OSError):  # nobody reads: that is no reason to hang up on callers
        print(sentence, flush=True)


def _log_to_stderr(level: int) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter(
            "%(asctime)s.%(msecs)03d %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S"
        )
    )
    log = logging.getLogger("supervisor")
    log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False


if __name__ == "__main__":
    sys.exit(main())
