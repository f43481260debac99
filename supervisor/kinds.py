"""Kinds of children, as rows of the board and specs name them. A leaf: anyone may import it."""

from __future__ import annotations

from signal import SIGUSR2
from typing import Final

#: Tells a worker that its successor serves: it ends when its calls have, however long they last.
RETIRE: Final = SIGUSR2

#: Holds calls; drains before anything else is told to stop.
WORKER: Final = "worker"
#: Serves arenas.
DSP: Final = "dsp"
SPEECH: Final = "speech"
CONSOLE: Final = "console"
