"""The command: ``python loadtest/twilio_sim.py --url ws://127.0.0.1:4000/ --calls 100``.

Also ``python -m loadtest.twilio_sim``. ``--help`` lists the options.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if not __package__:  # started by its path: the package lies beside this file's folder
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
# Read when numpy is imported. The matrices are small: more threads only wait for each other, and
# would do so on the cores of the server under test.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from loadtest.director import main

if __name__ == "__main__":
    sys.exit(main())
