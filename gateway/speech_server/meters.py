"""What the speech server counts, for Prometheus (``GET /metrics``)."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX = "speech_server"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0)


class Meters:
    """One server's counters; a registry of its own, so that tests may have several."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        kept = {"namespace": PREFIX, "registry": self._registry}
        self.requests = Counter(
            "requests",
            "Requests answered.",
            ["path", "status"],
            **kept,  # type: ignore[arg-type]
        )
        self.abandoned = Counter(
            "utterances_abandoned",
            "Utterances not begun because their client was gone.",
            **kept,  # type: ignore[arg-type]
        )
        self.batch_size = Histogram(
            "batch_utterances",
            "Utterances transcribed together.",
            buckets=(1, 2, 3, 4),
            **kept,  # type: ignore[arg-type]
        )
        self.transcribing = Histogram(
            "transcription_seconds",
            "Time the recognizer took for a batch.",
            buckets=SECONDS,
            **kept,  # type: ignore[arg-type]
        )
        self.speaking = Histogram(
            "sentence_seconds",
            "Time a voice took for a sentence, its turn waited for included.",
            ["voice"],
            buckets=SECONDS,
            **kept,  # type: ignore[arg-type]
        )
        self._queued = Gauge(
            "engine_requests",
            "Requests that hold a place at an engine.",
            ["engine"],
            **kept,  # type: ignore[arg-type]
        )

    def watch(self, engine: str, places: Callable[[], int]) -> None:
        """Show how many requests an engine has, asked at each scrape."""
        self._queued.labels(engine).set_function(places)

    def page(self) -> bytes:
        """The text for a scrape."""
        return generate_latest(self._registry)


class Counted:
    """Counts answers by path and status; paths that nobody serves are one."""

    PATHS = frozenset(
        {"/healthz", "/metrics", "/v1/models", "/v1/voices"}
        | {"/v1/audio/transcriptions", "/v1/audio/speech"}
    )

    def __init__(self, app: ASGIApp, meters: Meters) -> None:
        self._app = app
        self._meters = meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass everything on."""
        path = scope.get("path", "")

        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = path if path in self.PATHS else "other"
                self._meters.requests.labels(known, str(message["status"])).inc()
            await send(message)

        await self._app(scope, receive, counting)
