"""``python -m supervisor``: the command line, and what is said to whoever typed it.

Reads the settings, has everything opened, and hands the plan to the tree. An operator's mistake is
one sentence on stderr and exit status 2.
"""

from __future__ import annotations

import signal

if __name__ == "__main__":  # a Ctrl-C during the imports below needs no traceback either
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NoReturn

from typing_extensions import override

from audio.arena import ArenaError
from audio.layout import Layout
from gateway.errors import ConfigurationError
from gateway.ops.health import who_may_call
from gateway.responders.profiles import load_profiles
from gateway.settings import Settings, load_settings
from supervisor.composition import (
    Reloader,
    crew_of,
    descriptors_needed,
    open_resources,
    other_specs,
)
from supervisor.descriptors import DescriptorError, raise_limit
from supervisor.notify import Notifier
from supervisor.signals import SignalInbox
from supervisor.sockets import ListenError
from supervisor.spec import EXIT_CONFIG
from supervisor.tree import Plan, Tree

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
    ("--responder", "NAMES", "responder"),
    ("--log-level", "LEVEL", "log_level"),
)

_EPILOG = """\
Flags win over the environment, the environment over the env file, the env file over defaults.
Every setting is a variable: .env.example lists them all.

signals:
  SIGTERM   drain: calls may go on for DRAIN_TIMEOUT_MS, then everything ends; status 0
  SIGINT    (Ctrl-C) stop within a few seconds; a second SIGTERM or SIGINT stops at once
  SIGHUP    read the settings again and replace the workers one by one; calls go on

exit status:
  0 stopped by a signal, or --check found no fault     2 a setting cannot work
  1 nothing can be served any more

examples:
  python -m supervisor
  python -m supervisor --workers 4 --port 4100 --console-port 4101 --responder echo
  python -m supervisor --env-file production.env --check
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage before it."""

    @override
    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_CONFIG, f"voice gateway: {message}; try --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the gateway until a signal ends it; returns the exit status."""
    try:
        read, check_only = _read_command_line(arguments)
        settings = read()
        if check_only:
            return _check(settings)
        return _run(settings, read)
    except (ConfigurationError, ListenError, DescriptorError, ArenaError) as error:
        for sentence in str(error).splitlines():
            sys.stderr.write(f"voice gateway: {sentence}\n")
        return EXIT_CONFIG


def _check(settings: Settings) -> int:
    """Say what is configured and what will not work, servers of others included."""
    import asyncio  # here: a supervisor that goes on to fork has no use for these
    from datetime import UTC, datetime

    from gateway.providers.assembly import open_turn_model
    from gateway.providers.check import look_at, servers_in_use

    if open_turn_model(settings) is not None:
        _say(f"turn model: {settings.turn_model}")
    specs = servers_in_use(settings, "")
    findings = asyncio.run(look_at(specs, datetime.now(UTC).date()))
    for sentence in findings.configured:
        _say(sentence)
    for sentence in findings.warnings:
        _say(f"warning: {sentence}")
    if findings.faults:
        raise ConfigurationError("\n".join(findings.faults))
    _say(f"ok: {_summary(settings)}")
    return 0


def _read_command_line(arguments: Sequence[str] | None) -> tuple[Callable[[], Settings], bool]:
    """How to read the settings (now, and again when asked to), and whether only to check them."""
    given = vars(_parser().parse_args(arguments))
    check_only = bool(given.pop("check"))
    env_file = given.pop("env_file")
    flags = {name: value for name, value in given.items() if value is not None}

    def read() -> Settings:
        found = ENV_FILE if env_file is None and ENV_FILE.exists() else env_file
        settings = load_settings(found, **flags)
        load_profiles(settings.profile_dir)  # a fault in one is told now, not by the workers
        return settings

    return read, check_only


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


def _run(settings: Settings, read: Callable[[], Settings]) -> int:
    if not __debug__:
        raise ConfigurationError("the gateway relies on its assertions: run Python without -O")
    _log_to_stderr(_LOG_LEVELS[settings.log_level])
    with ExitStack() as held:
        # Before anything is opened: killed half-way, we would leave a name in /dev/shm.
        inbox = held.enter_context(SignalInbox())
        notifier = held.enter_context(Notifier.from_environment(os.environ))
        raise_limit(descriptors_needed(settings))
        resources = open_resources(settings, held)
        _say(f"Voice gateway: {_summary(settings)}.")
        for sentence in who_may_call(settings):
            _say(f"{sentence[0].upper()}{sentence[1:]}.")
        plan = Plan(
            specs=tuple(other_specs(settings, resources)),
            crew=crew_of(settings, resources),
            board=resources.board,
            listeners=resources.listeners,
            handovers=resources.handovers,
            dsp_wake_fds=resources.dsp_wakes,
            notifier=notifier,
            reload=Reloader(settings, resources, read),
            on_serving=lambda: _say(_where_to_call(settings)),
            on_slow=_say_slow,
        )
        return Tree(plan).run(inbox)


def _summary(settings: Settings) -> str:
    parts = [
        _count(settings.workers, "worker", "workers"),
        _count(settings.dsp_count, "DSP process", "DSP processes")
        + (" (one a standby)" if settings.dsp_count > 1 else ""),
        *(["speech server"] if settings.needs_speech_server else []),
        f"console; responder {settings.responder}",
    ]
    calls = settings.workers * settings.calls_per_worker
    mib = settings.places * Layout(settings.calls_per_worker).nbytes / 2**20
    return f"{', '.join(parts)}; room for {calls} calls in {mib:.0f} MiB of shared memory"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


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
