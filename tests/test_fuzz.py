"""A short run of the fuzz lane: every target is reached, and only declared errors come."""

from __future__ import annotations

import sys
from collections import Counter

from gateway.wire.detect import WIRES
from tests import fuzz


def test_some_cases_of_every_target() -> None:
    counts: fuzz.Counts = Counter()
    assert fuzz.fuzz(seed=1, cases=range(1200), seconds=sys.maxsize, counts=counts) == 0
    for name in WIRES:
        assert counts[f"{name}: events"] > 100, counts
        assert counts[f"{name}: refused, not-json"] > 0, counts
    for event in ("HttpRequest", "Upgrade", "Closed", "str", "Binary"):
        assert counts[f"channel: {event}"] > 0, counts
