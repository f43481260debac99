"""For the tests of audio: a DSP loop on an arena that is unmapped afterwards."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from audio.arena import Arena
from tests.audio.plane import Plane


@pytest.fixture
def make_plane(make_arena: Callable[[int], Arena]) -> Callable[..., Plane]:
    return lambda slots=2, mode="off": Plane(make_arena(slots), mode)
