"""Which calls this worker has: sessions by the carrier's stream id."""

from __future__ import annotations

from collections.abc import Callable

from gateway.session import Session


class SessionRegistry:
    """The live sessions of one worker.

    A session carries ``stream_id``, ``call_id``, ``created_at_ms``, ``last_activity_at_ms``,
    ``language_hint`` and ``conversation_id``.
    """

    def __init__(self) -> None:
        self._by_stream: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._by_stream)

    def get_or_create(self, stream_id: str, create: Callable[[], Session]) -> Session:
        """The session of a stream; made when there is none yet."""
        session = self._by_stream.get(stream_id)
        if session is None:
            session = self._by_stream[stream_id] = create()
        return session

    def get(self, stream_id: str) -> Session | None:
        """The session of a stream, or None."""
        return self._by_stream.get(stream_id)

    def remove(self, stream_id: str) -> Session | None:
        """Forget a stream; returns its session, None when there was none."""
        return self._by_stream.pop(stream_id, None)

    def list(self) -> list[Session]:
        """All live sessions, oldest first."""
        return list(self._by_stream.values())
