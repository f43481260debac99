"""When the caller's turn is over: how long a pause may last. Pure, told counts of milliseconds.

Silence alone decides badly: people pause inside a sentence for longer than they wait for an
answer. So the transcript of what was said so far, when there is one, is read first, and its
reading picks the pause from a table: a full answer to the question that was asked is soonest
over, a trailing "and", "um" or half a telephone number is given most time. A full stop alone is
not believed, speech-to-text writes it behind anything: the voice must have come to rest as well
(``cadence``).

Pauses are counted from the last sound, not from where a voice detector ceases to hear one
(``speech``), so a wait that is longer than a pause inside a sentence is so for every speaker. Of
134 recorded prompts (Asterisk's, English and Russian, no test material of ours) 73 ended as a whole
sentence whose voice had come to rest, and torn inside 10 seemed to. Reckoned from these, a pause of
800 ms cuts off 8 % of sentences, one of 600 ms 2 % (7 with a wait of 720). What says nothing waits
for a second and a little, because people do pause for a second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from gateway.conversation.dictation import digits, trailing_digits
from gateway.conversation.extract import name, yes_no
from gateway.conversation.lexicon import lexicon
from gateway.conversation.words import norms
from gateway.limits import UTTERANCE_MS_MAX

#: A dictated number this long is a whole telephone number; a shorter one may go on.
WHOLE_NUMBER_DIGITS = 10
_PART_NUMBER_DIGITS = range(3, 7)

_SENTENCE_ENDS = (".", "!", "?", "؟", "۔")
_GOES_ON = ("...", "…", ",", "،", "-", "–", "—", ":", ";", "؛")
_CLOSERS = " \t\n\"'»”’)]"


class Question(StrEnum):
    """What kind of answer is expected."""

    OPEN = "open"
    YES_NO = "yes_no"
    NAME = "name"
    NUMBER = "number"


class Reading(StrEnum):
    """What the transcript says about the turn."""

    UNKNOWN = "unknown"  # no transcript yet, or nothing to conclude from it
    ANSWERED = "answered"  # a full answer to the question
    COMPLETE = "complete"  # a whole sentence
    NAMED = "named"  # a name, or half of one
    UNFINISHED = "unfinished"  # a hesitation, a conjunction, half a number


class Verdict(Enum):
    """What to do about the pause."""

    WAIT = auto()
    END = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointingPolicy:
    """How long a pause must last, in milliseconds, for each reading; all within min and max."""

    base_ms: int = 1_060
    answered_ms: int = 500
    complete_ms: int = 740
    named_ms: int = 860
    unfinished_ms: int = 1_400
    min_ms: int = 300
    max_ms: int = 1_500
    utterance_ms_max: int = UTTERANCE_MS_MAX

    def __post_init__(self) -> None:
        if not 0 < self.min_ms <= self.max_ms < self.utterance_ms_max:
            raise ValueError("0 < min_ms <= max_ms < utterance_ms_max must hold")

    def delay_ms(self, reading: Reading) -> int:
        """The pause that ends the turn."""
        delays = {
            Reading.UNKNOWN: self.base_ms,
            Reading.ANSWERED: self.answered_ms,
            Reading.COMPLETE: self.complete_ms,
            Reading.NAMED: self.named_ms,
            Reading.UNFINISHED: self.unfinished_ms,
        }
        return min(max(delays[reading], self.min_ms), self.max_ms)


def decide(
    policy: EndpointingPolicy, *, pause_ms: int, speech_ms: int, reading: Reading = Reading.UNKNOWN
) -> Verdict:
    """Whether the turn is over, ``speech_ms`` into it and ``pause_ms`` after its last voice."""
    if speech_ms > 0 and speech_ms + pause_ms >= policy.utterance_ms_max:
        return Verdict.END
    if speech_ms <= 0 or pause_ms < policy.min_ms:  # no reading ends a turn sooner
        return Verdict.WAIT
    return Verdict.END if pause_ms >= policy.delay_ms(reading) else Verdict.WAIT


def read(transcript: str, language: str, question: Question = Question.OPEN) -> Reading:
    """What a transcript, interim or final, says about the turn."""
    written = transcript.rstrip(_CLOSERS)
    if not norms(written):
        return Reading.UNKNOWN
    if _unfinished(written, language, question):
        return Reading.UNFINISHED
    if _ANSWERED[question](written, language):
        return Reading.ANSWERED
    return Reading.COMPLETE if written.endswith(_SENTENCE_ENDS) else Reading.UNKNOWN


def settle(reading: Reading, question: Question, *, falls: bool, goes_on: bool = False) -> Reading:
    """A reading in the light of the voice: a whole sentence ends with a voice that falls.

    Of an answer only a name asks for that: any two words may be one, and half of one is one as
    well; then it is given more time. ("Yes" is too short to fall.) ``goes_on``: what a turn model
    says, if there is one; it counts where nothing else does.
    """
    if reading is Reading.ANSWERED and question is Question.NAME and not falls:
        return Reading.NAMED
    doubtful = reading is Reading.UNKNOWN or (reading is Reading.COMPLETE and not falls)
    if not doubtful:
        return reading
    return Reading.UNFINISHED if goes_on else Reading.UNKNOWN


def _unfinished(written: str, language: str, question: Question) -> bool:
    if written.endswith(_GOES_ON) or lexicon(language).words.unfinished.ends(norms(written)):
        return True
    dictated = len(trailing_digits(written, language).lstrip("+"))
    if question is Question.NUMBER:
        return 0 < dictated < _PART_NUMBER_DIGITS.stop
    return dictated in _PART_NUMBER_DIGITS


_ANSWERED: dict[Question, Callable[[str, str], bool]] = {
    Question.OPEN: lambda _text, _language: False,
    Question.YES_NO: lambda text, language: yes_no(text, language) is not None,
    Question.NAME: lambda text, language: bool(name(text, language, introduced=False)),
    Question.NUMBER: lambda text, language: (
        len(digits(text, language).lstrip("+")) >= WHOLE_NUMBER_DIGITS
    ),
}
