"""Messages as CSV for a spreadsheet. Pure.

A cell that a spreadsheet would take for a formula is made text by an apostrophe in front: what a
caller has said must not be able to compute anything. A phone number keeps its plus.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from gateway.ops.store import StoredMessage

_FORMULA = re.compile(r"[=@\t\r]|[+-](?![\d ()/-]*$)")
_FIRST = ("at", "caller_number", "done_at")


def messages_csv(messages: Sequence[StoredMessage]) -> str:
    """A line a message, a column for every field that any of them has; times are UTC."""
    names = sorted({name for message in messages for name in message.fields})
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\r\n")
    table.writerow([*_FIRST, *map(_cell, names)])
    for message in messages:
        fields = [message.fields.get(name, "") for name in names]
        fixed = [_time(message.at_ms), message.caller_number, _time(message.done_at_ms)]
        table.writerow(map(_cell, fixed + fields))
    return out.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) else text


def _time(at_ms: int | None) -> str:
    if at_ms is None:
        return ""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(sep=" ", timespec="seconds")
