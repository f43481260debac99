"""Kinds of children, as rows of the board and specs name them. A leaf: anyone may import it."""

from __future__ import annotations

from typing import Final

#: Holds calls; drains before anything else is told to stop.
WORKER: Final = "worker"
#: Serves arenas.
DSP: Final = "dsp"
SPEECH: Final = "speech"
CONSOLE: Final = "console"
