"""Whose turn it is to speak, as one total table. Pure.

The pipeline reports what happened as an event and executes the actions it gets back; nothing else
decides who speaks. A missing entry is a bug and says which state met which event.

The caller may speak at any time. While the assistant speaks, an onset alone changes nothing;
speech that is held pauses it. Then it turns out what that was: an acknowledgement ("mhm"), and the
assistant goes on, or an interruption, which takes the turn. While the assistant says goodbye
nothing takes the turn any more: the goodbye is heard to the end, then the call is hung up.
"""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    """Whose turn it is."""

    LISTENING = auto()  # nobody speaks, the caller is expected to
    CALLER = auto()  # the caller speaks
    TRANSCRIBING = auto()  # the caller has spoken, the text is awaited
    RESPONDING = auto()  # the responder works, nothing is audible yet
    ASSISTANT = auto()  # the assistant is heard
    PAUSED = auto()  # the assistant was stopped by the caller's voice; it may go on
    CLOSING = auto()  # the assistant's last words are heard, then the call ends
    ENDED = auto()


class Event(Enum):
    """What happened."""

    SPEECH_STARTED = auto()  # the caller's voice began
    SPEECH_HELD = auto()  # ... and went on long enough to pause the assistant
    SPEECH_ENDED = auto()  # the pause after it is long enough to be the end of a turn
    ACKNOWLEDGED = auto()  # it was only a "mhm", or no speech at all
    INTERRUPTED = auto()  # it was more than that
    TRANSCRIPT = auto()  # speech-to-text gave text
    NO_TRANSCRIPT = auto()  # speech-to-text found no words
    NOT_UNDERSTOOD = auto()  # speech-to-text failed
    KEY = auto()  # the caller pressed a key: an entry begins or goes on
    DIGITS = auto()  # a complete keypad entry
    REPLY_AUDIBLE = auto()  # the first audio of a reply is on its way
    REPLY_SILENT = auto()  # the responder had nothing to say
    REPLY_HEARD = auto()  # everything said so far was heard
    GOODBYE = auto()  # the responder wants the call to end after what it said
    IDLE = auto()  # nobody has said anything for long
    DESERTED = auto()  # ... and the caller did not answer to being asked
    GOING_DOWN = auto()  # the call must end, whatever is going on
    TIME_UP = auto()  # the last words take longer than any
    STOPPED = auto()  # the carrier ended the stream


class Action(Enum):
    """What the pipeline is to do."""

    UNDERSTAND = auto()  # report the utterance's text as soon as it is there
    LISTEN_ON = auto()  # drop that text, keep the audio: the caller goes on speaking
    RESPOND = auto()  # give the text to the responder
    RESPOND_DIGITS = auto()  # give the keypad entry to the responder
    PAUSE = auto()  # stop what is heard, keep its place
    RESUME = auto()  # go on from the beginning of the clause that was being heard
    CUT = auto()  # stop the reply: cancel what produces it, clear what was sent
    FORGET = auto()  # drop the utterance heard so far
    ASK_AGAIN = auto()  # say that the caller was not understood
    ASK_PRESENCE = auto()  # ask whether the caller is still there
    LEAVE = auto()  # say goodbye to a caller who does not answer
    PART = auto()  # say the last words
    HANG_UP = auto()  # end the call


_S, _E, _A = State, Event, Action
_Next = tuple[State, tuple[Action, ...]]

TABLE: dict[tuple[State, Event], _Next] = {
    # The caller is expected to speak.
    (_S.LISTENING, _E.SPEECH_STARTED): (_S.CALLER, ()),
    (_S.LISTENING, _E.DIGITS): (_S.RESPONDING, (_A.RESPOND_DIGITS,)),
    (_S.LISTENING, _E.REPLY_AUDIBLE): (_S.ASSISTANT, ()),
    (_S.LISTENING, _E.GOODBYE): (_S.CLOSING, ()),
    (_S.LISTENING, _E.IDLE): (_S.RESPONDING, (_A.ASK_PRESENCE,)),
    (_S.LISTENING, _E.DESERTED): (_S.CLOSING, (_A.LEAVE,)),
    (_S.LISTENING, _E.GOING_DOWN): (_S.CLOSING, (_A.CUT, _A.PART)),  # words may be on their way
    # The caller speaks.
    (_S.CALLER, _E.SPEECH_ENDED): (_S.TRANSCRIBING, (_A.UNDERSTAND,)),
    (_S.CALLER, _E.DIGITS): (_S.RESPONDING, (_A.FORGET, _A.RESPOND_DIGITS)),
    (_S.CALLER, _E.GOING_DOWN): (_S.CLOSING, (_A.CUT, _A.FORGET, _A.PART)),
    # The text of the utterance is awaited; a caller who goes on takes it back.
    (_S.TRANSCRIBING, _E.SPEECH_STARTED): (_S.CALLER, (_A.LISTEN_ON,)),
    (_S.TRANSCRIBING, _E.TRANSCRIPT): (_S.RESPONDING, (_A.RESPOND,)),
    (_S.TRANSCRIBING, _E.NO_TRANSCRIPT): (_S.LISTENING, ()),
    (_S.TRANSCRIBING, _E.NOT_UNDERSTOOD): (_S.RESPONDING, (_A.ASK_AGAIN,)),
    (_S.TRANSCRIBING, _E.DIGITS): (_S.RESPONDING, (_A.FORGET, _A.RESPOND_DIGITS)),
    (_S.TRANSCRIBING, _E.GOING_DOWN): (_S.CLOSING, (_A.CUT, _A.FORGET, _A.PART)),
    # The responder works. A caller who adds something meanwhile is answered to all of it.
    (_S.RESPONDING, _E.INTERRUPTED): (_S.CALLER, (_A.CUT,)),
    (_S.RESPONDING, _E.DIGITS): (_S.RESPONDING, (_A.CUT, _A.RESPOND_DIGITS)),
    (_S.RESPONDING, _E.REPLY_AUDIBLE): (_S.ASSISTANT, ()),
    (_S.RESPONDING, _E.REPLY_SILENT): (_S.LISTENING, ()),
    (_S.RESPONDING, _E.GOODBYE): (_S.CLOSING, ()),
    (_S.RESPONDING, _E.GOING_DOWN): (_S.CLOSING, (_A.CUT, _A.PART)),
    # The assistant speaks.
    (_S.ASSISTANT, _E.SPEECH_HELD): (_S.PAUSED, (_A.PAUSE,)),
    (_S.ASSISTANT, _E.INTERRUPTED): (_S.CALLER, (_A.CUT,)),
    (_S.ASSISTANT, _E.KEY): (_S.LISTENING, (_A.CUT,)),
    (_S.ASSISTANT, _E.DIGITS): (_S.RESPONDING, (_A.CUT, _A.RESPOND_DIGITS)),
    (_S.ASSISTANT, _E.REPLY_HEARD): (_S.LISTENING, ()),
    (_S.ASSISTANT, _E.GOODBYE): (_S.CLOSING, ()),
    (_S.ASSISTANT, _E.GOING_DOWN): (_S.CLOSING, (_A.CUT, _A.PART)),
    # The caller's voice stopped it.
    (_S.PAUSED, _E.ACKNOWLEDGED): (_S.ASSISTANT, (_A.RESUME,)),
    (_S.PAUSED, _E.INTERRUPTED): (_S.CALLER, (_A.CUT,)),
    (_S.PAUSED, _E.KEY): (_S.LISTENING, (_A.CUT, _A.FORGET)),
    (_S.PAUSED, _E.DIGITS): (_S.RESPONDING, (_A.CUT, _A.FORGET, _A.RESPOND_DIGITS)),
    (_S.PAUSED, _E.GOING_DOWN): (_S.CLOSING, (_A.CUT, _A.FORGET, _A.PART)),
    # The last words.
    (_S.CLOSING, _E.REPLY_HEARD): (_S.ENDED, (_A.HANG_UP,)),
    (_S.CLOSING, _E.REPLY_SILENT): (_S.ENDED, (_A.HANG_UP,)),
    (_S.CLOSING, _E.TIME_UP): (_S.ENDED, (_A.HANG_UP,)),
}

_TEXT = frozenset({_E.TRANSCRIPT, _E.NO_TRANSCRIPT, _E.NOT_UNDERSTOOD})
_REPLY = frozenset({_E.REPLY_AUDIBLE, _E.REPLY_SILENT, _E.REPLY_HEARD, _E.GOODBYE})
_SILENCE = frozenset({_E.IDLE, _E.DESERTED})
_VOICE = frozenset({_E.SPEECH_STARTED, _E.SPEECH_HELD, _E.SPEECH_ENDED})
_JUDGED = frozenset({_E.ACKNOWLEDGED, _E.INTERRUPTED})

#: What changes nothing, with the reason.
IGNORED: dict[State, frozenset[Event]] = {
    # A key begins an entry, which is answered when it is complete.
    _S.LISTENING: _TEXT
    | _JUDGED
    | {_E.SPEECH_HELD, _E.SPEECH_ENDED, _E.KEY, _E.REPLY_SILENT, _E.REPLY_HEARD, _E.TIME_UP},
    # A reply that was cut may still report.
    _S.CALLER: _TEXT
    | _JUDGED
    | _REPLY
    | _SILENCE
    | {_E.SPEECH_STARTED, _E.SPEECH_HELD, _E.KEY, _E.TIME_UP},
    _S.TRANSCRIBING: _JUDGED
    | _REPLY
    | _SILENCE
    | {_E.SPEECH_HELD, _E.SPEECH_ENDED, _E.KEY, _E.TIME_UP},
    # Who speaks now is judged by what it was: a "mhm" does not take the answer back.
    _S.RESPONDING: _TEXT
    | _VOICE
    | _SILENCE
    | {_E.ACKNOWLEDGED, _E.KEY, _E.REPLY_HEARD, _E.TIME_UP},
    _S.ASSISTANT: _TEXT
    | _SILENCE
    | {
        _E.SPEECH_STARTED,
        _E.SPEECH_ENDED,
        _E.ACKNOWLEDGED,
        _E.REPLY_AUDIBLE,
        _E.REPLY_SILENT,
        _E.TIME_UP,
    },
    _S.PAUSED: _TEXT | _VOICE | _REPLY | _SILENCE | {_E.TIME_UP},
    _S.CLOSING: _TEXT
    | _VOICE
    | _JUDGED
    | _SILENCE
    | {_E.KEY, _E.DIGITS, _E.REPLY_AUDIBLE, _E.GOODBYE, _E.GOING_DOWN},
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
