"""What Twilio is told to do with a call: TwiML documents, and the form that a webhook brings.

A document ends deliberately: what follows ``<Connect>`` is done when the stream is over, whoever
ended it, and also when we died in the middle of the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape, quoteattr

CONTENT_TYPE = "text/xml; charset=utf-8"
APOLOGY = "We are sorry, all our lines are busy. Please call again in a few minutes. Goodbye."

FIELDS_MAX = 200
#: Twilio's limit for the name and the value of a parameter together is 500.
PARAMETER_CHARS_MAX = 499


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """Connect the caller to a stream; ``after`` is where Twilio goes on, "" hangs up."""

    stream_url: str
    status_url: str
    after_url: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)


def connect(to: Connect) -> str:
    """The document that starts a stream."""
    parameters = "".join(
        f"<Parameter name={_quoted(name)} value={_quoted(value)}/>"
        for name, value in to.parameters.items()
        if value and len(name) + len(value) <= PARAMETER_CHARS_MAX
    )
    after = f"<Redirect>{_text(to.after_url)}</Redirect>" if to.after_url else "<Hangup/>"
    stream = f"<Stream url={_quoted(to.stream_url)} statusCallback={_quoted(to.status_url)}>"
    return _document(f"<Connect>{stream}{parameters}</Stream></Connect>{after}")


def overflow(number: str = "") -> str:
    """The document for a caller whom nobody can take: another number, or an apology."""
    if number:
        return _document(f"<Dial>{_text(number)}</Dial>")
    return _document(f"<Say>{_text(APOLOGY)}</Say><Hangup/>")


def read_form(body: bytes) -> list[tuple[str, str]]:
    """The fields of a form as they stand there; ``ValueError`` when it is none."""
    return parse_qsl(
        body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX
    )


def _document(verbs: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Response>{verbs}</Response>\n'


def _quoted(value: str) -> str:
    return quoteattr(_writable(value))


def _text(value: str) -> str:
    return escape(_writable(value))


def _writable(value: str) -> str:
    """Without the characters that no XML document may hold, however they are written."""
    return "".join(
        c
        for c in value
        if c in "\t\n\r" or (c >= " " and c not in "\ufffe\uffff" and not "\ud800" <= c <= "\udfff")
    )
