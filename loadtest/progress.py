"""A line on stderr that tells a watching person where the run stands; nothing when it is no tty."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from loadtest.generator import Progress

EVERY_SECONDS = 1.0


class ProgressLine:
    """Rewrites one line, once a second at most."""

    def __init__(self, *, shown: bool = True) -> None:
        self._shown = shown and sys.stderr.isatty()
        self._next = 0.0

    def show(self, elapsed_seconds: float, parts: Sequence[Progress]) -> None:
        """Show the sum of what the client processes reported."""
        now = time.monotonic()
        if not self._shown or now < self._next:
            return
        self._next = now + EVERY_SECONDS
        self._write(
            f"{max(0.0, elapsed_seconds):5.0f} s  "
            f"{sum(p.calls_up for p in parts)} calls up  "
            f"{sum(p.frames_out for p in parts)} frames out  "
            f"{sum(p.frames_in for p in parts)} in  "
            f"late {max(p.late_ms for p in parts):.1f} ms"
        )

    def judging(self) -> None:
        """The calls are over."""
        if self._shown:
            self._write("identifying frames ...")

    def clear(self) -> None:
        """Make room for the table."""
        if self._shown:
            self._write("")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
