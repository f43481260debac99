"""``python -m supervisor.dev``: run the gateway and restart it when its source changes.

Looks at the modification times of every ``.py`` file and ``.env`` below the current directory
twice a second. Arguments are passed on to ``python -m supervisor``. A gateway that ended by
itself is started again with the next change.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

POLL_S = 0.5
STOP_TIMEOUT_S = 10


def modification_times(root: Path) -> dict[Path, int]:
    """Modification time in ns of ``.env`` and every ``.py`` file outside hidden directories."""
    found: dict[Path, int] = {}
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".", "__"))]
        for name in files:
            path = Path(folder, name)
            if name.endswith(".py") or path == root / ".env":
                try:
                    found[path] = path.stat().st_mtime_ns
                except FileNotFoundError:
                    continue  # deleted since it was listed: the next look sees that
    return found


def main(arguments: Sequence[str]) -> int:
    """Run until Ctrl-C or SIGTERM; returns 0."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    command = [sys.executable, "-m", "supervisor", *arguments]
    seen = modification_times(Path.cwd())
    gateway = _start(command)
    try:
        while True:
            time.sleep(POLL_S)
            now = modification_times(Path.cwd())
            if now != seen:
                changed = sorted(str(p) for p, _ in now.items() ^ seen.items())
                sys.stderr.write(f"changed: {changed[0]}; restarting\n")
                seen = now
                _stop(gateway)
                gateway = _start(command)
    except KeyboardInterrupt:
        _stop(gateway)
        return 0


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """In a group of its own: a Ctrl-C must reach it once, from us, because twice means "now"."""
    return subprocess.Popen(command, process_group=0)


def _stop(gateway: subprocess.Popen[bytes]) -> None:
    """End it the fast way, calls or not; a further Ctrl-C is passed on."""
    for _ in range(2):
        if gateway.poll() is None:
            gateway.send_signal(signal.SIGINT)
        try:
            gateway.wait(STOP_TIMEOUT_S)
            return
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            continue
    gateway.kill()
    gateway.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
