"""Whose turn it is to speak, as one total table. Pure.

The pipeline reports what happened as an event and executes the actions it gets back; nothing else
decides who speaks. A missing entry is a bug and says which state met which event.

The caller may speak at any time. While the assistant speaks, an onset alone changes nothing; only
speech that is held long enough takes the turn (barge-in). While the assistant says goodbye
nothing takes the turn any more: the goodbye is heard to the end, then the call is hung up.
"""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """Whose turn it is."""

    LISTENING = auto()  # nobody speaks, the caller is expected to
    CALLER = auto()  # the caller speaks
    TRANSCRIBING = auto()  # the caller's utterance is being turned into text
    RESPONDING = auto()  # the responder works, nothing is audible yet
    ASSISTANT = auto()  # the assistant is heard
    CLOSING = auto()  # the assistant's last words are heard, then the call ends
    ENDED = auto()


class Event(Enum):
    """What happened."""

    SPEECH_STARTED = auto()  # the caller's voice began
    SPEECH_HELD = auto()  # ... and went on long enough to be an interruption
    SPEECH_ENDED = auto()  # the pause after it is long enough to be the end of an utterance
    TRANSCRIPT = auto()  # speech-to-text gave text
    NO_TRANSCRIPT = auto()  # speech-to-text gave nothing, or failed
    DIGITS = auto()  # a complete keypad entry
    REPLY_AUDIBLE = auto()  # the first audio of a reply is on its way
    REPLY_SILENT = auto()  # the responder had nothing to say
    REPLY_HEARD = auto()  # everything said so far was heard
    GOODBYE = auto()  # the responder wants the call to end after what it said
    GOING_DOWN = auto()  # the call must end, whatever is going on
    STOPPED = auto()  # the carrier ended the stream


class Action(Enum):
    """What the pipeline is to do."""

    TRANSCRIBE = auto()  # send the utterance to speech-to-text
    UNTRANSCRIBE = auto()  # cancel that, keep the audio: the caller goes on speaking
    RESPOND = auto()  # give the text to the responder
    RESPOND_DIGITS = auto()  # give the keypad entry to the responder
    CUT = auto()  # stop the reply: cancel what produces it, clear what was sent
    HANG_UP = auto()  # end the call
    FORGET = auto()  # drop the utterance heard so far
    PART = auto()  # say the last words


_S, _E, _A = State, Event, Action
_Next = tuple[State, tuple[Action, ...]]

TABLE: dict[tuple[State, Event], _Next] = {
    # The caller is expected to speak.
    (_S.LISTENING, _E.SPEECH_STARTED): (_S.CALLER, ()),
    (_S.LISTENING, _E.SPEECH_HELD): (_S.CALLER, ()),
    (_S.LISTENING, _E.DIGITS): (_S.RESPONDING, (_A.RESPOND_DIGITS,)),
    (_S.LISTENING, _E.REPLY_AUDIBLE): (_S.ASSISTANT, ()),
    (_S.LISTENING, _E.GOODBYE): (_S.CLOSING, ()),
    (_S.LISTENING, _E.GOING_DOWN): (_S.CLOSING, (_A.CUT, _A.PART)),  # words may be on their way
    # The caller speaks.
    (_S.CALLER, _E.SPEECH_ENDED): (_S.TRANSCRIBING, (_A.TRANSCRIBE,)),
    (_S.CALLER, _E.DIGITS): (_S.RESPONDING, (_A.FORGET, _A.RESPOND_DIGITS)),
    (_S.CALLER, _E.GOING_DOWN): (_S.CLOSING, (_A.CUT, _A.FORGET, _A.PART)),
    # The utterance is being transcribed; a caller who goes on takes it back.
    (_S.TRANSCRIBING, _E.SPEECH_STARTED): (_S.CALLER, (_A.UNTRANSCRIBE,)),
    (_S.TRANSCRIBING, _E.SPEECH_HELD): (_S.CALLER, (_A.UNTRANSCRIBE,)),
    (_S.TRANSCRIBING, _E.TRANSCRIPT): (_S.RESPONDING, (_A.RESPOND,)),
    (_S.TRANSCRIBING, _E.NO_TRANSCRIPT): (_S.LISTENING, ()),
    (_S.TRANSCRIBING, _E.DIGITS): (_S.RESPONDING, (_A.UNTRANSCRIBE, _A.FORGET, _A.RESPOND_DIGITS)),
    (_S.TRANSCRIBING, _E.GOING_DOWN): (
        _S.CLOSING,
        (_A.UNTRANSCRIBE, _A.CUT, _A.FORGET, _A.PART),
    ),
    # The responder works. A caller who adds something meanwhile is answered to all of it.
    (_S.RESPONDING, _E.SPEECH_ENDED): (_S.TRANSCRIBING, (_A.CUT, _A.TRANSCRIBE)),
    (_S.RESPONDING, _E.DIGITS): (_S.RESPONDING, (_A.CUT, _A.RESPOND_DIGITS)),
    (_S.RESPONDING, _E.REPLY_AUDIBLE): (_S.ASSISTANT, ()),
    (_S.RESPONDING, _E.REPLY_SILENT): (_S.LISTENING, ()),
    (_S.RESPONDING, _E.GOODBYE): (_S.CLOSING, ()),
    (_S.RESPONDING, _E.GOING_DOWN): (_S.CLOSING, (_A.CUT, _A.PART)),
    # The assistant speaks.
    (_S.ASSISTANT, _E.SPEECH_HELD): (_S.CALLER, (_A.CUT,)),
    (_S.ASSISTANT, _E.DIGITS): (_S.RESPONDING, (_A.CUT, _A.RESPOND_DIGITS)),
    (_S.ASSISTANT, _E.REPLY_HEARD): (_S.LISTENING, ()),
    (_S.ASSISTANT, _E.GOODBYE): (_S.CLOSING, ()),
    (_S.ASSISTANT, _E.GOING_DOWN): (_S.CLOSING, (_A.CUT, _A.PART)),
    # The last words.
    (_S.CLOSING, _E.REPLY_HEARD): (_S.ENDED, (_A.HANG_UP,)),
    (_S.CLOSING, _E.REPLY_SILENT): (_S.ENDED, (_A.HANG_UP,)),
}

#: What changes nothing, with the reason.
IGNORED: dict[State, frozenset[Event]] = {
    # A detector that was reset may end speech that never began; a cut reply may still report.
    _S.LISTENING: frozenset(
        {_E.SPEECH_ENDED, _E.TRANSCRIPT, _E.NO_TRANSCRIPT, _E.REPLY_SILENT, _E.REPLY_HEARD}
    ),
    _S.CALLER: frozenset(
        {
            _E.SPEECH_STARTED,
            _E.SPEECH_HELD,
            _E.TRANSCRIPT,
            _E.NO_TRANSCRIPT,
            _E.REPLY_AUDIBLE,
            _E.REPLY_SILENT,
            _E.REPLY_HEARD,
            _E.GOODBYE,
        }
    ),
    _S.TRANSCRIBING: frozenset(
        {_E.SPEECH_ENDED, _E.REPLY_AUDIBLE, _E.REPLY_SILENT, _E.REPLY_HEARD, _E.GOODBYE}
    ),
    # The caller who speaks now is heard again when the reply has begun: SPEECH_HELD repeats.
    _S.RESPONDING: frozenset(
        {
            _E.SPEECH_STARTED,
            _E.SPEECH_HELD,
            _E.TRANSCRIPT,
            _E.NO_TRANSCRIPT,
            _E.REPLY_HEARD,
        }
    ),
    _S.ASSISTANT: frozenset(
        {
            _E.SPEECH_STARTED,
            _E.SPEECH_ENDED,
            _E.TRANSCRIPT,
            _E.NO_TRANSCRIPT,
            _E.REPLY_AUDIBLE,
            _E.REPLY_SILENT,
        }
    ),
    _S.CLOSING: frozenset(
        {
            _E.SPEECH_STARTED,
            _E.SPEECH_HELD,
            _E.SPEECH_ENDED,
            _E.TRANSCRIPT,
            _E.NO_TRANSCRIPT,
            _E.DIGITS,
            _E.REPLY_AUDIBLE,
            _E.GOODBYE,
            _E.GOING_DOWN,
        }
    ),
    _S.ENDED: frozenset(_E),
}


class Turn:
    """One call's turn: a state, moved by events."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        # The call begins with the responder's greeting.
        self.state = State.RESPONDING

    def on(self, event: Event) -> tuple[Action, ...]:
        """Move on and return what is to be done, in order; ``LookupError`` for a missing entry."""
        if event is Event.STOPPED:
            self.state = State.ENDED
            return ()
        entry = TABLE.get((self.state, event))
        if entry is not None:
            self.state, actions = entry
            return actions
        if event not in IGNORED[self.state]:
            raise LookupError(f"no rule for {event.name} while {self.state.name}")
        return ()
