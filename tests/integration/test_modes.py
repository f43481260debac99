"""A whole call in each mode, by the command that shows it."""

from __future__ import annotations

import pytest

from tests import call_modes


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("mode", call_modes.MODES)
def test_a_caller_is_answered(mode: str) -> None:
    found = call_modes.play(mode)
    assert not found.wrong, found.line()
