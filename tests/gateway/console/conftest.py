"""The console fixture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.console.process import Console


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    """A console that was not started yet."""
    console = Console(tmp_path / "data")
    yield console
    console.close()
