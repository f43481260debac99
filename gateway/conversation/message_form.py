"""The message taker's form as a table: what is asked, what may be answered, what follows. Pure.

The caller is asked for a reason, a name and a number to call back on; everything is read back and
confirmed or corrected. One table maps (state, kind of input) to a step: the next state, sentences
to say, actions. After its sentences a step asks the question of the state that it leads to.

What a caller says is read by the state's list of what it listens for, in order of preference; an
utterance that is none of them is SPEECH: the answer to an open question, a failure elsewhere. The
third failure in a state takes the step of ``GIVE_UP`` instead: what was said is kept as it was
and the call goes on, because a person can make more of it than we can. So nothing is ever lost:
``partial`` gives, at any time, all that the caller said and nobody has stored yet.

    REASON ─► NAME ─► CALLER_NUMBER ─► NUMBER ─► CONFIRM ─► DONE
                        (when known)              ▲   │ no
                                                  └── CORRECT ─► any of the three questions
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum, auto

from gateway.conversation.dictation import digits, spell_digits
from gateway.conversation.endpointing import Question
from gateway.conversation.extract import is_goodbye, name, says_nothing, wants_repeat, yes_no
from gateway.conversation.lexicon import SENTENCES, lexicon
from gateway.conversation.words import Phrases, norms
from gateway.limits import DIGITS_MAX

ATTEMPTS_MAX = 3
#: Fewer dictated digits than this are no telephone number.
NUMBER_DIGITS_MIN = 5
#: More are none either: 15 (E.164) behind an international prefix (00 or 011) are the most.
NUMBER_DIGITS_MAX = 18
#: A dictated number is said twice, to be sure, when it is at least this long.
_TWICE_DIGITS_MIN = 7
ANSWER_CHARS_MAX = 2_000
#: How much of an answer is repeated aloud; all of it is stored.
SPOKEN_CHARS_MAX = 240
_ATTEMPTS_KEPT_MAX = 30

_CALLER_NUMBER = re.compile(rf"\+?[0-9]{{{NUMBER_DIGITS_MIN},15}}")
#: What Twilio sends in place of a withheld number: ANONYMOUS, RESTRICTED, BLOCKED, UNKNOWN and
#: UNAVAILABLE, typed on a telephone's keypad.
_HIDDEN = frozenset({"+266696687", "+7378742833", "+2562533", "+8656696", "+86282452253"})


class State(StrEnum):
    """Which question is open."""

    REASON = "reason"
    NAME = "name"
    CALLER_NUMBER = "caller_number"
    NUMBER = "number"
    CONFIRM = "confirm"
    CORRECT = "correct"
    DONE = "done"


class Input(Enum):
    """What the caller's words or keys are, in the state they are heard in."""

    NOTHING = auto()  # silence, a greeting, thanks: nothing to go by
    SPEECH = auto()  # words that are none of the others
    REPEAT = auto()  # "pardon?"
    YES = auto()
    NO = auto()
    NAME = auto()
    NUMBER = auto()
    ABOUT_REASON = auto()  # "the message is wrong"
    ABOUT_NAME = auto()
    ABOUT_NUMBER = auto()
    GOODBYE = auto()


class Action(Enum):
    """What a step does with what was heard."""

    FAIL = auto()  # count a failure; the third one gives up
    NOTE = auto()  # the name and the number that were heard, if any
    NOTE_REASON = auto()  # the whole utterance
    NOTE_CALLER_NUMBER = auto()
    SKIP = auto()  # ask this question no more
    CONFIRM = auto()
    TAKE_MESSAGE = auto()
    HANG_UP = auto()


@dataclass(frozen=True, slots=True)
class Step:
    """``next`` None = the first question that has no answer yet. ``asks``: then ask it."""

    next: State | None
    says: tuple[str, ...] = ()
    does: tuple[Action, ...] = ()
    asks: bool = True


@dataclass(frozen=True, slots=True)
class Heard:
    """A caller's input and what was extracted from it."""

    kind: Input
    text: str
    name: str = ""
    number: str = ""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A sentence to say: its id and what its placeholders stand for."""

    sentence: str
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Response:
    """What to do about an input: store ``message``, say the prompts, hang up; in this order."""

    prompts: tuple[Prompt, ...]
    message: Mapping[str, str] | None = None
    hang_up: bool = False


_S, _I, _A = State, Input, Action

QUESTIONS: Mapping[State, str] = {
    _S.REASON: "ask_reason",
    _S.NAME: "ask_name",
    _S.CALLER_NUMBER: "ask_caller_number",
    _S.NUMBER: "ask_number",
    _S.CONFIRM: "ask_confirm",
    _S.CORRECT: "ask_correct",
}

#: What kind of answer each question wants, for the endpointing.
EXPECTS: Mapping[State, Question] = {
    _S.REASON: Question.OPEN,
    _S.NAME: Question.NAME,
    _S.CALLER_NUMBER: Question.YES_NO,
    _S.NUMBER: Question.NUMBER,
    _S.CONFIRM: Question.YES_NO,
    _S.CORRECT: Question.OPEN,
    _S.DONE: Question.OPEN,
}

#: What each state listens for, the most telling first; SPEECH when it is none of these.
LISTENS_FOR: Mapping[State, tuple[Input, ...]] = {
    _S.REASON: (_I.REPEAT, _I.GOODBYE, _I.NOTHING),
    _S.NAME: (_I.REPEAT, _I.GOODBYE, _I.NAME, _I.NUMBER, _I.NOTHING),
    _S.CALLER_NUMBER: (_I.NUMBER, _I.REPEAT, _I.YES, _I.NO, _I.GOODBYE, _I.NOTHING),
    _S.NUMBER: (_I.NUMBER, _I.REPEAT, _I.GOODBYE, _I.NOTHING),
    _S.CONFIRM: (
        *(_I.REPEAT, _I.NUMBER, _I.NAME, _I.YES),
        *(_I.ABOUT_REASON, _I.ABOUT_NAME, _I.ABOUT_NUMBER, _I.NO, _I.GOODBYE, _I.NOTHING),
    ),
    _S.CORRECT: (
        *(_I.REPEAT, _I.NUMBER, _I.NAME),
        *(_I.ABOUT_REASON, _I.ABOUT_NAME, _I.ABOUT_NUMBER, _I.YES, _I.GOODBYE, _I.NOTHING),
    ),
    _S.DONE: (),
}

#: What single keys mean; five keys or more are a number wherever they are pressed.
KEYS: Mapping[State, Mapping[str, Input]] = {
    _S.CALLER_NUMBER: {"1": _I.YES, "2": _I.NO},
    _S.CONFIRM: {"1": _I.YES, "2": _I.NO},
    _S.CORRECT: {"1": _I.ABOUT_REASON, "2": _I.ABOUT_NAME, "3": _I.ABOUT_NUMBER},
}

_GOODBYE = Step(_S.DONE, ("goodbye",), (_A.TAKE_MESSAGE, _A.HANG_UP), asks=False)
_FAREWELL = Step(_S.DONE, ("farewell",), (_A.TAKE_MESSAGE, _A.HANG_UP), asks=False)


def _row(state: State) -> dict[tuple[State, Input], Step]:
    """What holds in every state that asks a question, unless ``TABLE`` says otherwise."""
    again = Step(state, (f"retry_{state}",), (_A.FAIL,), asks=False)
    row = {(state, kind): again for kind in Input}
    row[state, _I.REPEAT] = Step(state)
    row[state, _I.GOODBYE] = _GOODBYE
    row[state, _I.NUMBER] = Step(state, ("heard_number",), (_A.NOTE,))
    return row


_NOTE = Step(None, (), (_A.NOTE,))

TABLE: Mapping[tuple[State, Input], Step] = {
    **{entry: step for state in QUESTIONS for entry, step in _row(state).items()},
    **{(_S.DONE, kind): Step(_S.DONE, ("farewell",), (_A.HANG_UP,), asks=False) for kind in Input},
    (_S.REASON, _I.SPEECH): Step(None, ("heard_reason",), (_A.NOTE_REASON, _A.NOTE)),
    (_S.REASON, _I.GOODBYE): _FAREWELL,
    (_S.NAME, _I.NAME): Step(None, ("heard_name",), (_A.NOTE,)),
    (_S.CALLER_NUMBER, _I.YES): Step(None, (), (_A.NOTE_CALLER_NUMBER,)),
    (_S.CALLER_NUMBER, _I.NO): Step(_S.NUMBER),
    (_S.CALLER_NUMBER, _I.NUMBER): _NOTE,
    (_S.NUMBER, _I.NUMBER): _NOTE,
    (_S.CONFIRM, _I.YES): Step(
        _S.DONE, ("goodbye",), (_A.CONFIRM, _A.TAKE_MESSAGE, _A.HANG_UP), asks=False
    ),
    (_S.CONFIRM, _I.NO): Step(_S.CORRECT),
    # A correction that comes with the "no", or at once, needs no more questions.
    **{(state, _I.NUMBER): _NOTE for state in (_S.CONFIRM, _S.CORRECT)},
    **{(state, _I.NAME): _NOTE for state in (_S.CONFIRM, _S.CORRECT)},
    **{(state, _I.ABOUT_REASON): Step(_S.REASON) for state in (_S.CONFIRM, _S.CORRECT)},
    **{(state, _I.ABOUT_NAME): Step(_S.NAME) for state in (_S.CONFIRM, _S.CORRECT)},
    **{(state, _I.ABOUT_NUMBER): Step(_S.NUMBER) for state in (_S.CONFIRM, _S.CORRECT)},
    # "What should I correct?" "It is all right."
    (_S.CORRECT, _I.YES): Step(_S.CONFIRM),
}

#: The step of a state's third failure.
GIVE_UP: Mapping[State, Step] = {
    _S.REASON: Step(None, ("go_on",), (_A.SKIP,)),
    _S.NAME: Step(None, ("go_on",), (_A.SKIP,)),
    _S.CALLER_NUMBER: Step(_S.NUMBER, ("go_on",)),
    _S.NUMBER: Step(None, ("go_on",), (_A.SKIP,)),
    _S.CONFIRM: _GOODBYE,
    _S.CORRECT: _GOODBYE,
}

_FIELDS: Mapping[State, str] = {
    _S.REASON: "reason",
    _S.NAME: "name",
    _S.CALLER_NUMBER: "number",
    _S.NUMBER: "number",
}
_REMARKS = "remarks"
#: Under which field words are kept that answered no question; remarks otherwise.
_SAID_AS: Mapping[State, str] = {_S.REASON: "reason"}
_STATUS = "status"

_DETECTS: Mapping[Input, Callable[[Heard, str], bool]] = {
    _I.NOTHING: lambda heard, language: says_nothing(heard.text, language),
    _I.REPEAT: lambda heard, language: wants_repeat(heard.text, language),
    _I.YES: lambda heard, language: yes_no(heard.text, language) is True,
    _I.NO: lambda heard, language: yes_no(heard.text, language) is False,
    _I.NAME: lambda heard, _language: bool(heard.name),
    _I.NUMBER: lambda heard, _language: bool(heard.number),
    _I.ABOUT_REASON: lambda heard, language: _holds(heard, lexicon(language).words.about_reason),
    _I.ABOUT_NAME: lambda heard, language: _holds(heard, lexicon(language).words.about_name),
    _I.ABOUT_NUMBER: lambda heard, language: _holds(heard, lexicon(language).words.about_number),
    _I.GOODBYE: lambda heard, language: is_goodbye(heard.text, language),
}


def read_speech(state: State, text: str, language: str) -> Heard:
    """What an utterance means in a state, with the name and the number that count there."""
    text = " ".join(text.split())[:ANSWER_CHARS_MAX]
    heard = Heard(_I.SPEECH, text, _name(state, text, language), _number(state, text, language))
    for kind in LISTENS_FOR[state]:
        if _DETECTS[kind](heard, language):
            return replace(heard, kind=kind)
    return heard


def read_keys(state: State, keys: str) -> Heard:
    """What a keypad entry means in a state. ``#`` ends an entry, ``*`` starts it over."""
    entry = keys.partition("#")[0].rpartition("*")[2]
    number = "".join(key for key in entry if key in "0123456789")[:DIGITS_MAX]
    if NUMBER_DIGITS_MIN <= len(number) <= NUMBER_DIGITS_MAX:
        return Heard(_I.NUMBER, number, number=number)
    kind = KEYS.get(state, {}).get(number)
    return Heard(kind or (_I.SPEECH if len(number) > 1 else _I.NOTHING), number)


def _holds(heard: Heard, phrases: Phrases) -> bool:
    return phrases.found_in(norms(heard.text))


def _name(state: State, text: str, language: str) -> str:
    if state in (_S.CALLER_NUMBER, _S.NUMBER, _S.DONE):
        return ""
    return name(text, language, introduced=state is not _S.NAME)


def _number(state: State, text: str, language: str) -> str:
    # A number in the reason may be anything: an order, a date, an address.
    if state in (_S.REASON, _S.DONE):
        return ""
    return _telephone_number(digits(text, language))


def _telephone_number(dictated: str) -> str:
    """What was dictated if it can be a telephone number; once, if it was said twice."""
    number = dictated.removeprefix("+")
    half = len(number) // 2
    if half >= _TWICE_DIGITS_MIN and number[:half] == number[half:]:
        number = number[:half]
    if not NUMBER_DIGITS_MIN <= len(number) <= NUMBER_DIGITS_MAX:
        return ""
    return "+" + number if dictated.startswith("+") else number


class MessageForm:
    """One caller's message while it is being taken."""

    __slots__ = (
        *("_caller_number", "_confirmed", "_failures", "_fields", "_said", "_settled", "_taken"),
        "state",
    )

    def __init__(self, caller_number: str = "") -> None:
        """``caller_number``: where the call comes from; offered for the call back if it is one."""
        hidden = caller_number in _HIDDEN or not _CALLER_NUMBER.fullmatch(caller_number)
        self._caller_number = "" if hidden else caller_number
        self.state = State.REASON
        self._failures = 0
        self._fields: dict[str, str] = {}
        self._settled: set[str] = set()
        self._said: dict[str, list[str]] = {}
        self._confirmed = False
        self._taken = False

    def begin(self) -> Response:
        """What follows the greeting."""
        return Response(self._prompts(("offer", QUESTIONS[self.state])))

    def hear(self, text: str, language: str) -> Response:
        """Take an utterance."""
        return self._take(read_speech(self.state, text, language))

    def press(self, keys: str) -> Response:
        """Take a keypad entry."""
        return self._take(read_keys(self.state, keys))

    def partial(self) -> Mapping[str, str] | None:
        """All that was said and not stored yet; None when there is nothing."""
        return None if self._taken else self._message()

    def _take(self, heard: Heard) -> Response:
        step = TABLE[self.state, heard.kind]
        if Action.FAIL in step.does:
            step = self._fail(heard, step)
        for action in step.does:
            self._note(action, heard)
        target = step.next or self._first_open()
        ends = target is State.CONFIRM or Action.TAKE_MESSAGE in step.does
        if ends and self._message() is None:
            # The caller never said anything: nothing to read back, nothing to pass on.
            step, target = _FAREWELL, State.DONE
        if target is not self.state:
            self.state, self._failures = target, 0
        question = (QUESTIONS[target],) if step.asks else ()
        prompts = self._prompts((*step.says, *question))
        message = self._store() if Action.TAKE_MESSAGE in step.does else None
        return Response(prompts, message, Action.HANG_UP in step.does)

    def _fail(self, heard: Heard, step: Step) -> Step:
        if heard.kind is not Input.NOTHING:
            # A sentence that holds no name is no name: to whoever reads the message, a remark.
            said = self._said.setdefault(_SAID_AS.get(self.state, _REMARKS), [])
            if len(said) < _ATTEMPTS_KEPT_MAX:
                said.append(heard.text)
        self._failures += 1
        return GIVE_UP[self.state] if self._failures >= ATTEMPTS_MAX else step

    def _note(self, action: Action, heard: Heard) -> None:
        match action:
            case Action.NOTE_REASON:
                self._set("reason", heard.text)
            case Action.NOTE:
                self._set("name", heard.name)
                self._set("number", heard.number)
            case Action.NOTE_CALLER_NUMBER:
                self._set("number", self._caller_number)
            case Action.SKIP:
                self._settled.add(_FIELDS[self.state])
            case Action.CONFIRM:
                self._confirmed = True

    def _set(self, key: str, value: str) -> None:
        if value:
            self._fields[key] = value
            self._settled.add(key)

    def _first_open(self) -> State:
        for state in (State.REASON, State.NAME):
            if _FIELDS[state] not in self._settled:
                return state
        if "number" not in self._settled:
            return State.CALLER_NUMBER if self._caller_number else State.NUMBER
        return State.CONFIRM

    def _store(self) -> Mapping[str, str] | None:
        message = self.partial()
        self._taken = True
        return message

    def _message(self) -> dict[str, str] | None:
        message = {key: self._value(key) for key in (*dict.fromkeys(_FIELDS.values()), _REMARKS)}
        message = {key: value for key, value in message.items() if value}
        if not message:
            return None
        whole = self._fields.keys() >= set(_FIELDS.values())
        unconfirmed = "unconfirmed" if whole else "partial"
        return message | {_STATUS: "confirmed" if self._confirmed else unconfirmed}

    def _value(self, key: str) -> str:
        return self._fields.get(key) or " / ".join(self._said.get(key, ()))

    def _prompts(self, sentences: tuple[str, ...]) -> tuple[Prompt, ...]:
        return tuple(
            Prompt(sentence, {key: self._value(key) for key in SENTENCES[sentence] - {"business"}})
            for sentence in sentences
        )


def render(sentence: str, values: Mapping[str, str], language: str, business: str) -> str:
    """A sentence of ``language`` with its placeholders filled in, as a voice is to read it."""
    not_given = lexicon(language).sentences["not_given"]
    spoken = {key: _spoken(value, language) or not_given for key, value in values.items()}
    return sentence.format(business=business, **spoken)


def _spoken(value: str, language: str) -> str:
    if value.removeprefix("+").isdecimal():
        return spell_digits(value, language)
    if len(value) > SPOKEN_CHARS_MAX:
        value = value[:SPOKEN_CHARS_MAX].rpartition(" ")[0] or value[:SPOKEN_CHARS_MAX]
    return value.rstrip(" .,;:!?…؟،؛")
