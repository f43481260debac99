"""Which models are about to be shut down, as far as is known (``models.toml``). Pure but for that.

A dated snapshot ("gpt-4o-2024-08-06") ends with its family unless it is listed itself.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources

_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(frozen=True, slots=True)
class Shutdown:
    """The announced end of a model."""

    day: date
    successor: str


@cache
def announced() -> dict[str, Shutdown]:
    """By model name."""
    text = resources.files("gateway.providers").joinpath("models.toml").read_text("utf-8")
    found: dict[str, Shutdown] = {}
    for entry in tomllib.loads(text)["shutdown"]:
        assert isinstance(entry["date"], date)
        for model in entry["models"]:
            found[model] = Shutdown(entry["date"], entry["successor"])
    return found


def shutdown_of(model: str) -> Shutdown | None:
    """What is announced for a model; None when nothing is."""
    known = announced()
    return known.get(model) or known.get(_SNAPSHOT.sub("", model))


def sentence(model: str, shutdown: Shutdown, today: date) -> str:
    """It as a warning."""
    when = "was shut down" if shutdown.day <= today else "will be shut down"
    successor = f"; its successor: {shutdown.successor}" if shutdown.successor else ""
    return f"{model} {when} on {shutdown.day.isoformat()}{successor}"
