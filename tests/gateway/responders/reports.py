"""A reporter that remembers."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Reports:
    """What was reported, in order."""

    told: list[tuple[str, str]] = field(default_factory=list)

    def conversation_started(self, conversation_id: str) -> None:
        self.told.append(("started", conversation_id))

    def summarised(self, summary: str) -> None:
        self.told.append(("summary", summary))

    def followed_by(self, responder: str) -> None:
        self.told.append(("followed", responder))

    def failed(self, stage: str, error: Exception) -> None:
        self.told.append(("failed", f"{stage}: {error}"))
