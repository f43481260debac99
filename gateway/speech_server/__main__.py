"""`python -m gateway.speech_server`: the speech server on its own, on this host or another."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence

from gateway.limits import LISTEN_BACKLOG
from gateway.ops.log import LEVELS
from gateway.speech_server.app import EXIT_CONFIG, run
from supervisor.scoreboard import RowName, Scoreboard

EXIT_INTERRUPTED = 130

_DESCRIPTION = """\
Offline speech-to-text and text-to-speech behind the OpenAI audio API.

The gateway starts this server itself where STT_BASE_URL or TTS_BASE_URL is `local`. Run it by
hand to try it, or to move the engines to another host: start it there and set both to
http://HOST:PORT/v1. It asks for no key: let only the gateway reach it.
"""

_EXAMPLES = """\
examples:
  python -m gateway.speech_server --port 8080
  curl http://127.0.0.1:8080/v1/voices
  curl http://127.0.0.1:8080/v1/audio/speech -H 'Content-Type: application/json' \\
    -d '{"model": "local", "voice": "en", "input": "Hello."}' -o hello.wav
  curl http://127.0.0.1:8080/v1/audio/transcriptions -F model=whisper-base -F file=@hello.wav

Ctrl-C or SIGTERM stops it. More voices: `apt install festival festvox-ru`, `make espeak`.
"""


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gateway.speech_server",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=8080, help="port; 0 = a free one, printed (%(default)s)"
    )
    parser.add_argument("--log-level", choices=[*LEVELS], default="info", help="(%(default)s)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Listen, say where, serve; exit status 0, 1 broken, 2 cannot work, 130 Ctrl-C."""
    arguments = _arguments(argv)
    host, port = arguments.host, arguments.port
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=LISTEN_BACKLOG)
        return _serve(listener, arguments.log_level)
    except (OSError, OverflowError) as error:
        sys.stderr.write(f"cannot listen on {host} port {port}: {error}\n")
        return EXIT_CONFIG
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _serve(listener: socket.socket, log_level: str) -> int:
    host, port, *_ = listener.getsockname()
    where = f"[{host}]:{port}" if listener.family == socket.AF_INET6 else f"{host}:{port}"
    sys.stdout.write(f"speech server: loading, then serving http://{where}/v1\n")
    sys.stdout.flush()
    row = Scoreboard([RowName("speech", 0)], arenas=0).row("speech", 0)
    alive_read, _alive_write = os.pipe()  # never closed: nobody else has to be alive
    return run(row, listener, alive_read, log_level)


if __name__ == "__main__":
    sys.exit(main())
