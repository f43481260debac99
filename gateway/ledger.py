"""What happened in one call, told to whoever should know: the log, the records, the peer.

The log gets ids and numbers; what was said goes to the records and, over a wire that shows
transcripts, to the peer. The log's own redaction decides whether texts may appear there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

from gateway import clock
from gateway.conversation.history import Role
from gateway.conversation.timing import TurnTimes
from gateway.departures import DONE
from gateway.ops.log import Log
from gateway.ops.records import (
    CallEnded,
    CallStarted,
    CallSummarised,
    CallTransferred,
    ConversationStarted,
    MessageTaken,
    RecordsSender,
    ResponderFollowed,
    TurnAnswered,
    TurnInterrupted,
    TurnTaken,
)
from gateway.responders.base import CallInfo, TakeMessage
from gateway.wire.base import Wire
from gateway.wire.events import StreamStarted
from supervisor.scoreboard import Row

#: Stage of ``answer_ms`` -> what a pipeline has measured.
_STAGES = {
    "endpoint": "endpoint_ms",
    "transcript": "transcript_ms",
    "first_words": "first_words_ms",
    "first_audio": "first_audio_ms",
    "sent": "response_ms",
}


@dataclass(frozen=True, slots=True)
class Channels:
    """Where a ledger reports to. ``hang_up`` closes the stream, the last two end the call.

    ``transfer`` is told a number, and whom to tell what became of it.
    """

    log: Log
    records: RecordsSender
    row: Row
    wire: Wire
    send: Callable[[bytes], None]
    hang_up: Callable[[str], None]
    end_call: Callable[[], None]
    transfer: Callable[[str, Callable[[str], None]], None]


class Ledger:
    """One call's reports; the pipeline's observer."""

    def __init__(self, started: StreamStarted, to: Channels) -> None:
        self._call_id = started.call_id
        self._stream_id = started.stream_id
        self._encoding = started.encoding
        self._to = to
        self._started_ns = clock.now_ns()
        self._over = False
        #: Of the conversation that a backend keeps; "" when none does.
        self.conversation_id = ""

    def started(self, wire: str, responder: str, call: CallInfo) -> None:
        """The call's stream began."""
        self._to.log.info(
            "call started",
            wire=wire,
            encoding=self._encoding.name,
            responder=responder,
            language=call.language,
        )
        self._to.records.send(
            CallStarted(
                call_id=self._call_id,
                at_ms=clock.wall_ms(),
                stream_id=self._stream_id,
                wire=wire,
                responder=responder,
                caller_number=call.caller_number,
                called_number=call.called_number,
                language=call.language,
            )
        )

    def said(self, role: Role, text: str, language: str) -> None:
        """A party's words."""
        to = self._to
        if role is Role.CALLER:
            to.row.count("utterances")
        to.log.info("said", role=role.value, text=text, chars=len(text), language=language)
        if not self._over:  # a last transcript may come when the stream has ended
            message = to.wire.transcript(self._stream_id, role.value, text, language)
            if message is not None:
                to.send(message)
        heard = text if role is Role.ASSISTANT else ""
        to.records.send(
            TurnTaken(self._call_id, clock.wall_ms(), role.value, text, heard, language)
        )

    def interrupted(self, heard_text: str) -> None:
        """The caller cut the assistant short."""
        self._to.row.count("barge_ins")
        self._to.log.info("assistant interrupted", heard_chars=len(heard_text))
        self._to.records.send(TurnInterrupted(self._call_id, clock.wall_ms(), heard_text))

    def message(self, message: TakeMessage) -> None:
        """The caller left a message."""
        self._to.log.info("message taken", fields_taken=sorted(message.fields))
        self._to.records.send(MessageTaken(self._call_id, clock.wall_ms(), dict(message.fields)))

    def answered(self, times: TurnTimes) -> None:
        """An answer began; this is how long the caller waited for it."""
        self._to.log.info("answered", **asdict(times))
        self._to.records.send(TurnAnswered(self._call_id, clock.wall_ms(), **asdict(times)))
        for stage, name in _STAGES.items():
            if getattr(times, name) >= 0:
                self._to.row.observe(f"answer_ms/{stage}", getattr(times, name))

    def barged_in(self, latency_ms: int) -> None:
        """Playout stopped this long after the first voiced frame of the caller over it."""
        self._to.row.observe("barge_in_ms", latency_ms)
        self._to.log.info("barge-in", latency_ms=latency_ms)

    def resumed(self) -> None:
        """That was only a "mhm": the assistant goes on."""
        self._to.row.count("resumed")
        self._to.log.info("assistant resumed")

    def transfer(self, number: str) -> None:
        """The caller is to be handed over to this number now; what cannot be is hung up."""
        self._to.log.info("transfer", number=number)
        self._to.transfer(number, lambda result: self._transferred(number, result))

    def _transferred(self, number: str, result: str) -> None:
        if result == DONE:
            self._to.row.count("calls_transferred")
        self._to.log.info("transferred", result=result)
        event = CallTransferred(self._call_id, clock.wall_ms(), number, result)
        self._to.records.send(event)

    def conversation_started(self, conversation_id: str) -> None:
        """A backend keeps this conversation too."""
        self.conversation_id = conversation_id
        self._to.records.send(ConversationStarted(self._call_id, clock.wall_ms(), conversation_id))

    def summarised(self, summary: str) -> None:
        """What the call is about, as a backend sums it up now."""
        self._to.records.send(CallSummarised(self._call_id, clock.wall_ms(), summary))

    def followed_by(self, responder: str) -> None:
        """Who answered has failed; this one goes on in their place."""
        self._to.row.count("responders_followed")
        self._to.log.warning("responder followed", responder=responder)
        self._to.records.send(ResponderFollowed(self._call_id, clock.wall_ms(), responder))

    def failed(self, stage: str, error: Exception) -> None:
        """A provider or responder failed; the call goes on."""
        self._to.row.count("provider_errors")
        self._to.log.error("provider failed", stage=stage, reason=str(error))

    def crashed(self, error: BaseException) -> None:
        """A bug of ours: this call ends, no other."""
        self._to.log.error("call crashed", exc_info=error)
        self._to.hang_up("error")

    def hang_up(self) -> None:
        """The conversation is over."""
        self._to.end_call()

    def ended(self, reason: str, frames_in: int, frames_out: int) -> None:
        """The call is over."""
        self._over = True
        duration_ms = (clock.now_ns() - self._started_ns) // clock.NS_PER_MS
        self._to.log.info(
            "call ended",
            reason=reason,
            duration_ms=duration_ms,
            frames_in=frames_in,
            frames_out=frames_out,
        )
        self._to.records.send(CallEnded(self._call_id, clock.wall_ms(), reason, duration_ms))
