"""What one check found, as a line. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

Mark = Literal["ok", "FAIL", "skip"]


class Finding(NamedTuple):
    """A check's outcome; ``text`` says what was seen, what to do, or why it was not looked at."""

    mark: Mark
    subject: str
    text: str

    @property
    def line(self) -> str:
        """It as one line, whatever the text was made of."""
        text = " ".join("".join(c if c.isprintable() else " " for c in self.text).split())
        return f"{self.mark:<6}{self.subject}: {text}"


def ok(subject: str, text: str) -> Finding:
    """What works."""
    return Finding("ok", subject, text)


def fail(subject: str, text: str) -> Finding:
    """What does not, and what to do."""
    return Finding("FAIL", subject, text)


def skip(subject: str, text: str) -> Finding:
    """What was not looked at, and why."""
    return Finding("skip", subject, text)


def status_of(findings: Iterable[Finding]) -> int:
    """The exit status: 1 when anything failed."""
    return int(any(finding.mark == "FAIL" for finding in findings))
