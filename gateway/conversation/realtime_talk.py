"""One call with a speech-to-speech model: the server's events in, what is to be done out. Pure.

The shell (``responders.realtime``) owns the socket, the player and the clock. It reports what
happened, executes the actions it gets back in their order, and executes those of ``Cut`` (which
it answers by ``cut`` with what was heard) before it goes on with the rest.

A session may be lost at any time: it ends after an hour, servers restart, networks break. The next
one is a new conversation, so what was said so far is told to it as text, and what the caller said
meanwhile is sent again by the shell. A server that cannot be reached, does not answer in time, or
fails twice, is given up: somebody else takes the call then.

What the model believes to have said is what was heard. When the caller interrupts, every item
that is not heard to its end is truncated where it was heard to (``realtime_playout``), and late
audio of the response that was cut is dropped. The last words are an exception: nobody is heard
over them (the server is told not to listen), and the call ends when they were heard.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from audio.format import NS_PER_MS
from gateway.conversation.call_tools import Keep, Leave, Refused, read_request
from gateway.conversation.history import Role
from gateway.conversation.realtime_actions import (
    Action,
    Do,
    Failed,
    GiveUp,
    Interrupted,
    Phase,
    Play,
    Said,
    Send,
)
from gateway.conversation.realtime_cost import Meter
from gateway.conversation.realtime_plan import (
    DEAF,
    GO_ON,
    GOODBYE,
    HARMLESS,
    PART,
    Plan,
    TurnDetection,
)
from gateway.conversation.realtime_playout import Item, Playout
from gateway.providers import realtime_events as events
from gateway.providers.realtime_events import GarbageError, JsonObject, id_of, object_of, text_of

CONNECT_MS = 2_000  # from the beginning of the call, or of a reconnect, to a session
ANSWER_MS = 8_000  # from the end of the caller's turn to the first audio, or between two pieces
LEAVE_MS = 8_000  # for last words to come; then the call ends without them
SESSION_MS = 55 * 60_000  # a session lives 60 minutes: look for a quiet moment from here on ...
SESSION_MS_MAX = 59 * 60_000  # ... and do not wait for one any more
LOSSES_MAX = 3
LOSS_FORGOTTEN_MS = 60_000
FAILURES_MAX = 2
QUEUED_MS_MAX = 120_000  # audio that came and was not heard yet
LINES_MAX = 100
DEAD_MAX = 16


@dataclass(slots=True)
class _Line:
    role: Role
    text: str = ""
    said: bool = False
    closed: bool = False  # was cut to what was heard


class Talk:
    """One call's conversation with the model. All times are of one monotonic clock (ns)."""

    def __init__(self, plan: Plan, meter: Meter, now_ns: int) -> None:
        self._plan = plan
        self._meter = meter
        self.phase = Phase.OPENING
        #: Events that made no sense, and audio beyond what we hold.
        self.garbage = 0
        self._phase_ns = self._live_ns = now_ns
        self._losses = self._failures = 0
        self._playout = Playout(plan.bytes_per_ms)
        self._lines: dict[str, _Line] = {}
        self._dead: deque[str] = deque(maxlen=DEAD_MAX)
        self._greeted = self._owed = False
        self._caller_speaks = False
        self._begin_session()
        self._leaving: Leave | None = None
        self._leaving_ns = 0
        self._parted = False
        self._handlers: dict[str, Callable[[JsonObject, int], list[Action]]] = {
            "session.updated": self._session_updated,
            "error": self._error,
            "input_audio_buffer.speech_started": self._speech_started,
            "input_audio_buffer.speech_stopped": self._speech_stopped,
            "input_audio_buffer.committed": self._committed,
            "conversation.item.input_audio_transcription.completed": self._transcribed,
            "conversation.item.input_audio_transcription.failed": self._not_transcribed,
            "response.created": self._response_created,
            "response.output_item.added": self._item_added,
            "response.output_audio.delta": self._audio,
            "response.output_audio.done": self._audio_done,
            "response.output_audio_transcript.delta": self._words,
            "response.output_audio_transcript.done": self._all_words,
            "response.output_item.done": self._item_done,
            "response.done": self._response_done,
        }

    def _begin_session(self) -> None:
        self._active = ""  # the response that is being made
        self._asked = False  # for one that was not begun yet
        self._unwanted = False  # ... and is to be stopped when it is
        self._audible = False  # audio came of the active response
        self._pending: JsonObject | None = None  # asked for when the active one is done
        self._outputs: list[Action] = []
        self._due_ns = 0  # since when an answer is awaited; 0 = none is
        self._progress_ns = 0

    @property
    def is_audible(self) -> bool:
        """Whether the caller hears the assistant, or is about to."""
        return len(self._playout) > 0

    @property
    def is_leaving(self) -> bool:
        """Whether these are the last words."""
        return self._leaving is not None

    # What the shell reports

    def opened(self, now_ns: int) -> list[Action]:
        """A connection is there."""
        self._begin_session()
        self._enter(Phase.CONFIGURING, now_ns)
        return [Send(events.session_update(self._plan.session()))]

    def received(self, event: JsonObject, now_ns: int) -> list[Action]:
        """An event of the server's; one that makes no sense is counted."""
        handler = self._handlers.get(str(event["type"]))
        if handler is None or self.phase is Phase.OVER:
            return []
        self._progress_ns = now_ns
        try:
            return handler(event, now_ns)
        except GarbageError:
            self.garbage += 1
            return []

    def lost(self, reason: str, now_ns: int) -> list[Action]:
        """The connection is gone, or none could be made."""
        if self.phase is Phase.OVER:
            return []
        if self.phase is not Phase.LIVE:
            return self._give_up(reason)
        return self._reopen(reason, now_ns)

    def cut(self, heard_ms: int) -> list[Action]:
        """Playout was stopped, ``heard_ms`` into what was queued since it was last silent."""
        actions = self._say(self._playout.newly_heard(heard_ms, unfinished=True))
        told = False
        for truncation in self._playout.cut(heard_ms):
            item = truncation.item
            if not item.lost:
                actions.append(Send(events.truncate(item.item_id, truncation.audio_end_ms)))
            line = self._lines.get(item.item_id)
            if line is not None:
                line.text, line.closed = truncation.heard_text, True
            if item.said and not told:
                told = True
                actions.append(Interrupted(truncation.heard_text))
        return actions

    def heard(self, heard_ms: int) -> list[Action]:
        """The caller has heard so much by now."""
        return self._say(self._playout.newly_heard(heard_ms))

    def all_heard(self, now_ns: int) -> list[Action]:
        """The caller has heard everything that was said."""
        actions = self._say(self._playout.all_heard())
        if self.phase is Phase.OVER:
            return actions
        if self._leaving is not None and not self._active and not self._asked:
            actions += self._leave()
        elif self._session_is_old(now_ns):
            actions += self._renew(now_ns)
        return actions

    def caller_began(self) -> list[Action]:
        """Our detector: the caller speaks long enough to take the turn."""
        self._caller_speaks = True
        return [] if self.is_leaving else self._interrupt()

    def caller_ended(self, now_ns: int) -> list[Action]:
        """Our detector: the caller's turn is over (only when turns are ours to detect)."""
        self._caller_speaks = False
        if self.is_leaving or self.phase is not Phase.LIVE:
            return []
        stopped: list[Action] = self._interrupt()
        return [*stopped, Send(events.commit()), *self._ask(events.response_create(), now_ns)]

    def keys(self, digits: str, now_ns: int) -> list[Action]:
        """The caller pressed these keys."""
        if self.is_leaving or self.phase is not Phase.LIVE:
            return []
        item = events.message_item("user", f"(The caller pressed the keys {digits})")
        self._owed = True
        return [*self._interrupt(), Send(item), *self._ask(events.response_create(), now_ns)]

    def part(self, now_ns: int) -> list[Action]:
        """The call must end: say so. Empty when nothing can be said."""
        if self.phase is not Phase.LIVE:
            return []
        if self._leaving is not None:
            return [Do.END_UTTERANCE]
        stopped = self._interrupt()
        self._parted = True
        actions = self._start_leaving(Leave(), now_ns)
        parting = events.response_create(PART, tools=False)
        return [*stopped, *actions, *self._ask(parting, now_ns)]

    def tick(self, now_ns: int) -> list[Action]:
        """Time has passed."""
        if self.phase is Phase.OVER:
            return []
        if self._leaving is not None:
            late = _is_past(self._leaving_ns, LEAVE_MS, now_ns)
            return self._leave() if late and not self.is_audible else []
        if self.phase is not Phase.LIVE:
            late = _is_past(self._phase_ns, CONNECT_MS, now_ns)
            return self._give_up("no session in time") if late else []
        if self._due_ns and _is_past(self._due_ns, ANSWER_MS, now_ns):
            return self._reopen("no answer in time", now_ns)
        if self._active and _is_past(self._progress_ns, ANSWER_MS, now_ns):
            return self._reopen("the answer stopped half-way", now_ns)
        return self._renew(now_ns) if self._session_is_old(now_ns) else []

    # What the server says

    def _session_updated(self, _event: JsonObject, now_ns: int) -> list[Action]:
        if self.phase is not Phase.CONFIGURING:
            return []
        self._enter(Phase.LIVE, now_ns)
        self._live_ns = now_ns
        actions: list[Action] = [
            Send(
                events.message_item("user" if line.role is Role.CALLER else "assistant", line.text)
            )
            for line in self._lines.values()
            if line.text
        ]
        actions.append(Do.REPLAY)
        if not self._greeted:
            actions += self._ask(events.response_create(self._plan.greeting), now_ns)
        elif self._owed:
            actions += self._ask(events.response_create(GO_ON), now_ns)
        return actions

    def _error(self, event: JsonObject, now_ns: int) -> list[Action]:
        error = object_of(event, "error")
        code = str(error.get("code") or error.get("type") or "unknown")[:64]
        self._asked = False
        if code in HARMLESS:
            return []
        reason = f"the server reports {code}" if code.isprintable() else "the server reports"
        if self.phase is Phase.CONFIGURING:
            return self._give_up(reason)
        if code == "session_expired":
            return self._reopen(reason, now_ns)
        return [Failed(reason)]

    def _speech_started(self, _event: JsonObject, _now_ns: int) -> list[Action]:
        self._caller_speaks = True
        if self.is_leaving or self._plan.turn_detection is TurnDetection.OURS:
            return []
        if self._active:  # the server stops it by itself
            self._dead.append(self._active)
        self._due_ns = 0
        return [Do.CUT] if self.is_audible else []

    def _speech_stopped(self, _event: JsonObject, _now_ns: int) -> list[Action]:
        self._caller_speaks = False
        return []

    def _committed(self, event: JsonObject, now_ns: int) -> list[Action]:
        self._line(id_of(event, "item_id"), Role.CALLER)
        if not self.is_leaving:
            self._owed = True
            self._due_ns = now_ns
        return [Do.TAKEN]

    def _transcribed(self, event: JsonObject, _now_ns: int) -> list[Action]:
        text = text_of(event, "transcript").strip()
        self._line(id_of(event, "item_id"), Role.CALLER).text = text
        return [Said(Role.CALLER, text)] if text else []

    def _not_transcribed(self, _event: JsonObject, _now_ns: int) -> list[Action]:
        return [Failed("what the caller said could not be written down")]

    def _response_created(self, event: JsonObject, _now_ns: int) -> list[Action]:
        self._active = id_of(object_of(event, "response"), "id")
        unwanted, self._unwanted = self._unwanted, False
        self._asked = self._audible = False
        return self._stop_response() if unwanted else []

    def _item_added(self, event: JsonObject, _now_ns: int) -> list[Action]:
        item = object_of(event, "item")
        if item.get("type") == "message" and not self._is_dead(event):
            self._line(id_of(item, "id"), Role.ASSISTANT)
        return []

    def _audio(self, event: JsonObject, _now_ns: int) -> list[Action]:
        if self._is_dead(event):
            return []
        audio, item_id = events.audio_of(event), id_of(event, "item_id")
        if self._playout.queued_ms >= QUEUED_MS_MAX or not self._playout.received(
            item_id, len(audio)
        ):
            self.garbage += 1
            return []
        first: list[Action] = [] if self._audible else [Do.ANSWERING]
        self._greeted = self._audible = True
        self._owed, self._due_ns, self._failures = False, 0, 0
        return [*first, Play(audio)]

    def _audio_done(self, event: JsonObject, _now_ns: int) -> list[Action]:
        if self._is_dead(event):
            return []
        self._playout.ended(id_of(event, "item_id"))
        return [Do.END_ITEM]

    def _words(self, event: JsonObject, _now_ns: int) -> list[Action]:
        return self._write(event, text_of(event, "delta"), whole=False)

    def _all_words(self, event: JsonObject, _now_ns: int) -> list[Action]:
        return self._write(event, text_of(event, "transcript"), whole=True)

    def _item_done(self, event: JsonObject, now_ns: int) -> list[Action]:
        item = object_of(event, "item")
        if item.get("type") != "function_call" or self._is_dead(event) or self.is_leaving:
            return []
        self._due_ns = 0
        name, call_id = text_of(item, "name"), id_of(item, "call_id")
        asked = read_request(name, text_of(item, "arguments"), self._plan.transfer_targets)
        if isinstance(asked, Leave):
            return self._start_leaving(asked, now_ns)
        output = f"refused: {asked.reason}" if isinstance(asked, Refused) else "stored"
        self._outputs.append(Send(events.function_output(call_id, output)))
        return [asked] if isinstance(asked, Keep) else []

    def _response_done(self, event: JsonObject, now_ns: int) -> list[Action]:
        response = object_of(event, "response")
        self._meter.add(object_of(response, "usage"))
        if id_of(response, "id") == self._active:
            self._active = ""
            self._due_ns = 0
        if self._meter.is_over and self._leaving is None:
            return self._give_up("the call costs more than it may")
        actions, self._outputs = self._outputs, []
        if response.get("status") == "failed":
            actions += self._response_failed(now_ns)
        elif actions:
            actions += self._ask(events.response_create(), now_ns)
        elif self._pending is not None:
            pending, self._pending = self._pending, None
            actions += self._ask(pending, now_ns)
        elif self.is_audible:
            actions.append(Do.END_UTTERANCE)
        elif self._leaving is not None and not self._asked:
            actions += self._say_last_words(now_ns)
        return actions

    # Inside

    def _response_failed(self, now_ns: int) -> list[Action]:
        self._failures += 1
        if self._leaving is not None:
            return [Do.END_UTTERANCE] if self.is_audible else self._leave()
        if self._failures >= FAILURES_MAX:
            return self._give_up("the model fails")
        again = events.response_create("" if self._greeted else self._plan.greeting)
        return [Failed("the model failed"), *self._ask(again, now_ns)]

    def _say_last_words(self, now_ns: int) -> list[Action]:
        """The model wants to leave without a word: it is asked for one, once."""
        if self._parted:
            return self._leave()
        self._parted = True
        return self._ask(events.response_create(GOODBYE, tools=False), now_ns)

    def _start_leaving(self, leave: Leave, now_ns: int) -> list[Action]:
        self._leaving = leave
        self._leaving_ns = now_ns
        self._due_ns = 0
        if self._plan.turn_detection is TurnDetection.OURS:
            return []
        return [Send(events.session_update(DEAF))]

    def _leave(self) -> list[Action]:
        assert self._leaving is not None
        self.phase = Phase.OVER
        return [self._leaving]

    def _interrupt(self) -> list[Action]:
        """Stop what is being made and what is heard."""
        actions = self._stop_response()
        self._unwanted = self._asked
        self._pending = None
        self._due_ns = 0
        return [*actions, Do.CUT] if self.is_audible else actions

    def _stop_response(self) -> list[Action]:
        if not self._active or self._active in self._dead:
            return []
        self._dead.append(self._active)
        return [Send(events.response_cancel())]

    def _ask(self, event: JsonObject, now_ns: int) -> list[Action]:
        """Have the model speak, as soon as it does not speak any more."""
        self._due_ns = 0 if self.is_leaving else now_ns
        if self._active or self._asked:
            self._pending = event
            return []
        self._asked = True
        return [Send(event)]

    def _is_dead(self, event: JsonObject) -> bool:
        return id_of(event, "response_id") in self._dead

    def _write(self, event: JsonObject, text: str, *, whole: bool) -> list[Action]:
        if self._is_dead(event):
            return []
        item_id = id_of(event, "item_id")
        line = self._line(item_id, Role.ASSISTANT)
        if line.closed:
            return []
        line.text = (text if whole else line.text + text)[: events.TEXT_CHARS_MAX]
        if self._playout.write(item_id, line.text, whole=whole) or line.said or not whole:
            return []
        line.said = True  # its audio was heard before its words came
        return [Said(Role.ASSISTANT, line.text)] if line.text else []

    def _line(self, item_id: str, role: Role) -> _Line:
        line = self._lines.get(item_id)
        if line is None:
            if len(self._lines) >= LINES_MAX:
                del self._lines[next(iter(self._lines))]
            line = self._lines[item_id] = _Line(role)
        return line

    def _say(self, items: list[Item]) -> list[Action]:
        for item in items:
            self._line(item.item_id, Role.ASSISTANT).said = True
        return [Said(Role.ASSISTANT, item.text) for item in items]

    # Sessions come and go

    def _enter(self, phase: Phase, now_ns: int) -> None:
        self.phase = phase
        self._phase_ns = now_ns

    def _reopen(self, reason: str, now_ns: int) -> list[Action]:
        """This session is of no use any more."""
        if self._leaving is not None:
            self._begin_session()
            return [Do.END_UTTERANCE] if self.is_audible else self._leave()
        if _is_past(self._live_ns, LOSS_FORGOTTEN_MS, now_ns):
            self._losses = 0
        self._losses += 1
        if self._losses > LOSSES_MAX:
            return self._give_up(reason)
        return [Failed(reason), *self._renew(now_ns)]

    def _renew(self, now_ns: int) -> list[Action]:
        self._owed = self._owed or bool(self._active) or self._asked
        self._playout.session_lost()
        self._begin_session()
        self._enter(Phase.OPENING, now_ns)
        ended: list[Action] = [Do.END_ITEM, Do.END_UTTERANCE] if self.is_audible else []
        return [*ended, Do.REOPEN]

    def _session_is_old(self, now_ns: int) -> bool:
        if self.phase is not Phase.LIVE:
            return False
        if _is_past(self._live_ns, SESSION_MS_MAX, now_ns):
            return True
        busy = self._active or self._asked or self.is_audible or self._caller_speaks
        return _is_past(self._live_ns, SESSION_MS, now_ns) and not busy

    def _give_up(self, reason: str) -> list[Action]:
        self.phase = Phase.OVER
        ended: list[Action] = [Do.END_ITEM] if self.is_audible else []
        return [*ended, GiveUp(reason)]


def _is_past(since_ns: int, wait_ms: int, now_ns: int) -> bool:
    return now_ns - since_ns > wait_ms * NS_PER_MS
