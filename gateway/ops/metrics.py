"""The board as Prometheus metrics: one collector, asked at each scrape, keeps nothing itself.

Counters live in shared memory and outlive the child that raised them, so a restart loses no
count. Times leave as seconds: a board name ending in ``_ns`` or ``_ms`` becomes one ending in
``_seconds``. What processes use of the machine is no business of the board: it comes as an
argument of each rendering.
Conventions: https://prometheus.io/docs/practices/naming/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, chain, product

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from typing_extensions import override

from gateway import clock
from gateway.ops.health import child_state, heartbeat_age_ns
from supervisor.kinds import WORKER
from supervisor.scoreboard import (
    COUNTERS,
    FAMILIES,
    HISTOGRAMS,
    Field,
    Phase,
    Row,
    Scoreboard,
    counts,
)

PREFIX = "voice_gateway"
LABELS = ("kind", "index")
NS_PER_SECOND = 1_000_000_000
MS_PER_SECOND = 1_000
_GAUGE = "Gauge:"


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process uses; memory shared with others counts in proportion (PSS)."""

    rss_bytes: int
    pss_bytes: int
    descriptors: int


class BoardCollector(Collector):
    """Renders every row of a board."""

    def __init__(self, board: Scoreboard) -> None:
        self._board = board
        #: By process id.
        self.usage: Mapping[int, Usage] = {}
        # Once, so that a start time does not move with the wall clock between two scrapes.
        self._zero_wall_ns = clock.wall_ms() * clock.NS_PER_MS - clock.now_ns()

    @override
    def collect(self) -> Iterator[Metric]:
        """All metric families, each with one sample of every child that can count it."""
        now_ns = clock.now_ns()
        yield from map(self._counter, (name for name in COUNTERS if "/" not in name))
        yield from map(self._family, FAMILIES)
        yield from self._histograms()
        yield from self._usages()
        yield self._gauge(
            "up", "1 when the child is ready.", lambda row: child_state(row, now_ns) == "ready"
        )
        yield self._gauge(
            "parked",
            "1 when the child died too often and is not started any more.",
            lambda row: row.get(Field.PHASE) == Phase.PARKED,
        )
        yield self._gauge(
            "heartbeat_age_seconds",
            "Time since the child's last heartbeat.",
            lambda row: heartbeat_age_ns(row, now_ns) / NS_PER_SECOND,
        )
        yield self._gauge(
            "loop_lag_seconds",
            "How late the child's loop was at its last heartbeat.",
            lambda row: row.get(Field.LOOP_LAG_NS) / NS_PER_SECOND,
        )
        yield self._gauge(
            "calls_active", "Calls in progress.", lambda row: row.get(Field.CALLS), WORKER
        )
        yield self._gauge(
            "calls_capacity",
            "Calls the child can hold.",
            lambda row: row.get(Field.CAPACITY),
            WORKER,
        )
        yield self._gauge(
            "child_start_time_seconds",
            "When the child was started, in seconds since 1970; 0 when it never was.",
            self._start_time,
        )

    def _counter(self, counter: str) -> Metric:
        name, text = _seconds(counter, COUNTERS[counter])
        rows = [row for row in self._board.rows() if counts(row.name.kind, counter)]
        if text.startswith(_GAUGE):
            text = text.removeprefix(_GAUGE).strip()
            text = text[:1].upper() + text[1:]
            gauge = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=LABELS)
            return _fill(gauge, rows, _reader(counter))
        family = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=LABELS)
        return _fill(family, rows, _reader(counter))

    def _family(self, name: str) -> Metric:
        """Counters that a label tells apart."""
        label, text = FAMILIES[name]
        family = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=(*LABELS, label))
        labelled = [counter for counter in COUNTERS if counter.startswith(f"{name}/")]
        for counter, row in product(labelled, self._board.rows()):
            if counts(row.name.kind, counter):
                labels = (row.name.kind, str(row.name.index), counter.partition("/")[2])
                family.add_metric(labels, row.counter(counter))
        return family

    def _histograms(self) -> Iterator[Metric]:
        """One family for all stages of what is observed."""
        families: dict[str, HistogramMetricFamily] = {}
        for name, histogram in HISTOGRAMS.items():
            base, _, stage = name.partition("/")
            if base not in families:
                public = f"{PREFIX}_{_unit(base)[0]}"
                names = (*LABELS, "stage") if stage else LABELS
                families[base] = HistogramMetricFamily(public, histogram.help, labels=names)
            for row in self._board.rows(histogram.kind):
                labels = (row.name.kind, str(row.name.index), *filter(None, (stage,)))
                families[base].add_metric(labels, *_buckets(row, name))
        yield from families.values()

    def _usages(self) -> Iterator[Metric]:
        texts = {
            "pss_bytes": "Memory of the process, what it shares in proportion.",
            "rss_bytes": "Resident memory of the process, what it shares in full.",
            "descriptors": "Files that the process has open.",
        }
        for field, text in texts.items():
            family = GaugeMetricFamily(f"{PREFIX}_process_{field}", text, labels=LABELS)
            for row in self._board.rows():
                usage = self.usage.get(row.get(Field.PID))
                if usage is not None:
                    family.add_metric((row.name.kind, str(row.name.index)), getattr(usage, field))
            yield family

    def _gauge(
        self, name: str, text: str, value: Callable[[Row], float], kind: str | None = None
    ) -> Metric:
        family = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=LABELS)
        return _fill(family, self._board.rows(kind), value)

    def _start_time(self, row: Row) -> float:
        started_ns = row.get(Field.STARTED_NS)
        return (started_ns + self._zero_wall_ns) / NS_PER_SECOND if started_ns else 0.0


class Exposition:
    """A board's metrics as text, in the format that the scraper asks for."""

    def __init__(self, board: Scoreboard) -> None:
        self._registry = CollectorRegistry()
        self._collector = BoardCollector(board)
        self._registry.register(self._collector)

    def render(self, accept: str, usage: Mapping[int, Usage]) -> tuple[bytes, str]:
        """The text and its content type, for the value of an Accept header."""
        self._collector.usage = usage
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


def _fill(
    family: CounterMetricFamily | GaugeMetricFamily,
    rows: Iterable[Row],
    value: Callable[[Row], float],
) -> Metric:
    for row in rows:
        family.add_metric((row.name.kind, str(row.name.index)), value(row))
    return family


def _reader(counter: str) -> Callable[[Row], float]:
    scale = _unit(counter)[1]
    return lambda row: row.counter(counter) / scale


def _buckets(row: Row, name: str) -> tuple[list[tuple[str, float]], float]:
    """Upper bounds with the counts of all that is not above them; the sum."""
    scale = _unit(name.partition("/")[0])[1]
    counts, total = row.histogram(name)
    bounds = chain((str(bound / scale) for bound in HISTOGRAMS[name].bounds), ("+Inf",))
    return list(zip(bounds, accumulate(counts), strict=True)), total / scale


def _seconds(counter: str, text: str) -> tuple[str, str]:
    """Name and help with seconds for nanoseconds."""
    return _unit(counter)[0], text.replace("nanoseconds", "seconds")


def _unit(name: str) -> tuple[str, int]:
    """The public name, and what a value is divided by."""
    if name.endswith("_ns"):
        return name.removesuffix("_ns") + "_seconds", NS_PER_SECOND
    if name.endswith("_ms"):
        return name.removesuffix("_ms") + "_seconds", MS_PER_SECOND
    return name, 1
