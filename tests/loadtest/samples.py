"""Made-up results of calls and runs for the tests of what is said about them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loadtest.analysis import CallResult
from loadtest.host import ServerCost
from loadtest.options import Options, parse_options
from loadtest.report import Measured


def call(**changes: object) -> CallResult:
    result = CallResult(index=0, connected=True, setup_ms=12.5, sent=500, received=500)
    result.rtt_ms = np.linspace(10, 20, 500).astype(np.float32)
    result.lateness_ms = np.full(500, 0.5, np.float32)
    for name, value in changes.items():
        setattr(result, name, value)
    return result


def options(*arguments: str) -> Options:
    return parse_options(["--url", "ws://127.0.0.1:4000/", *arguments])


def measured(*results: CallResult, arguments: tuple[str, ...] = ()) -> Measured:
    server = ServerCost(1.25, 800.0, 82.1, 0.15, 4)
    host: dict[str, str | int] = {"cpu": "x", "cores": 2, "kernel": "Linux", "python": "3.11"}
    return Measured(options(*arguments), results, 33.3, server, {"numpy": "2"}, host)


def milliseconds(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)
