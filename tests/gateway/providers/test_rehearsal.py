"""What is slow the first time has been done once before a call."""

from __future__ import annotations

import subprocess
import sys
import time

from gateway.providers.rehearsal import rehearse

#: In a process of its own, for what was made once in this one is made.
SHOW = """
import openai, sys
from gateway.providers.rehearsal import rehearse
before = set(sys.modules)
rehearse()
once = set(sys.modules)
rehearse()
print(len(once - before), len(set(sys.modules) - once))
"""


def test_the_second_time_nothing_is_loaded_any_more() -> None:
    run = subprocess.run(
        [sys.executable, "-c", SHOW], capture_output=True, text=True, timeout=50, check=True
    )
    first, second = map(int, run.stdout.split())
    assert first > 0
    assert second == 0


def test_it_leaves_nothing_open() -> None:
    """Warnings are errors: a transport left open would warn."""
    began = time.monotonic()
    rehearse()
    assert time.monotonic() >= began
