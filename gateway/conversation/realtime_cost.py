"""What a call has cost so far, by the usage that the server reports and a table of prices. Pure.

The table (``realtime_prices.toml``) names its date. A model that is not in it is counted in tokens
only: a guessed price would either end calls too early or promise a limit that does not hold.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import ConfigurationError
from gateway.providers.realtime_events import count_of, object_of

PRICES_FILE = Path(__file__).with_name("realtime_prices.toml")
_PER = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars for a million tokens."""

    text_in: float
    text_cached: float
    text_out: float
    audio_in: float
    audio_cached: float
    audio_out: float


@dataclass(frozen=True, slots=True)
class Prices:
    """All known prices, and the day they were looked up."""

    date: str
    models: Mapping[str, Price]


def parse_prices(text: str) -> Prices:
    """Read a table. Raises ``ConfigurationError`` for one that is wrong."""
    try:
        table = tomllib.loads(text)
        models = {
            name: Price(**{key: float(value) for key, value in fields.items()})
            for name, fields in table["models"].items()
        }
        return Prices(str(table["date"]), models)
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigurationError(f"{PRICES_FILE.name}: {error}") from error


class Meter:
    """One call's usage. ``price`` None: the model's is not known, ``usd`` stays 0."""

    __slots__ = ("_limit_usd", "_price", "tokens_in", "tokens_out", "usd")

    def __init__(self, price: Price | None, limit_usd: float) -> None:
        self._price = price
        self._limit_usd = limit_usd
        self.tokens_in = 0
        self.tokens_out = 0
        self.usd = 0.0

    @property
    def is_over(self) -> bool:
        """Whether the call has cost more than it may; a limit of 0 is none."""
        return 0 < self._limit_usd < self.usd

    def add(self, usage: Mapping[str, object]) -> None:
        """Count the ``usage`` of a ``response.done``; what is missing counts as 0."""
        self.tokens_in += count_of(usage, "input_tokens")
        self.tokens_out += count_of(usage, "output_tokens")
        if self._price is not None:
            self.usd += _cost(usage, self._price)


def _cost(usage: Mapping[str, object], price: Price) -> float:
    given = object_of(usage, "input_token_details")
    cached = object_of(given, "cached_tokens_details")
    made = object_of(usage, "output_token_details")
    text_cached = min(count_of(cached, "text_tokens"), count_of(given, "text_tokens"))
    audio_cached = min(count_of(cached, "audio_tokens"), count_of(given, "audio_tokens"))
    return (
        (count_of(given, "text_tokens") - text_cached) * price.text_in
        + text_cached * price.text_cached
        + (count_of(given, "audio_tokens") - audio_cached) * price.audio_in
        + audio_cached * price.audio_cached
        + count_of(made, "text_tokens") * price.text_out
        + count_of(made, "audio_tokens") * price.audio_out
    ) / _PER
