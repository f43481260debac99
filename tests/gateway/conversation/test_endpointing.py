from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation.endpointing import (
    EndpointingPolicy,
    Question,
    Reading,
    Verdict,
    decide,
    read,
    settle,
)
from gateway.conversation.language import LANGUAGES
from gateway.limits import UTTERANCE_MS_MAX

POLICY = EndpointingPolicy()


@pytest.mark.parametrize(
    ("reading", "delay_ms"),
    [
        (Reading.UNKNOWN, 1_060),
        (Reading.ANSWERED, 500),
        (Reading.COMPLETE, 740),
        (Reading.NAMED, 860),
        (Reading.UNFINISHED, 1_400),
    ],
)
def test_the_pause_ends_the_turn_exactly_when_the_table_says(
    reading: Reading, delay_ms: int
) -> None:
    assert decide(POLICY, pause_ms=delay_ms - 1, speech_ms=500, reading=reading) is Verdict.WAIT
    assert decide(POLICY, pause_ms=delay_ms, speech_ms=500, reading=reading) is Verdict.END


def test_without_speech_there_is_no_turn_to_end() -> None:
    assert decide(POLICY, pause_ms=10_000, speech_ms=0) is Verdict.WAIT


def test_an_utterance_that_never_pauses_ends_at_the_limit() -> None:
    assert decide(POLICY, pause_ms=0, speech_ms=UTTERANCE_MS_MAX - 1) is Verdict.WAIT
    assert decide(POLICY, pause_ms=0, speech_ms=UTTERANCE_MS_MAX) is Verdict.END


def test_minimum_and_maximum_hold_for_every_reading() -> None:
    for policy in (EndpointingPolicy(answered_ms=0), EndpointingPolicy(unfinished_ms=60_000)):
        delays = [policy.delay_ms(reading) for reading in Reading]
        assert all(policy.min_ms <= delay <= policy.max_ms for delay in delays)


def test_a_policy_that_cannot_work_is_refused() -> None:
    with pytest.raises(ValueError, match="must hold"):
        EndpointingPolicy(min_ms=800, max_ms=700)
    with pytest.raises(ValueError, match="must hold"):
        EndpointingPolicy(min_ms=0)


@pytest.mark.parametrize(
    ("language", "transcript", "reading"),
    [
        ("en", "I would like an appointment.", Reading.COMPLETE),
        ("en", 'Is that possible?"', Reading.COMPLETE),
        ("en", "I would like an appointment", Reading.UNKNOWN),
        ("en", "I would like an appointment and", Reading.UNFINISHED),
        ("en", "I would like to, um.", Reading.UNFINISHED),
        ("en", "I would like...", Reading.UNFINISHED),
        ("en", "Call me on 555 12", Reading.UNFINISHED),
        ("en", "I need two.", Reading.COMPLETE),
        ("en", "", Reading.UNKNOWN),
        ("en", "?!", Reading.UNKNOWN),
        ("ru", "Я хочу записаться и", Reading.UNFINISHED),
        ("ru", "Ну, эээ", Reading.UNFINISHED),
        ("ru", "Я хочу записаться.", Reading.COMPLETE),
        ("ar", "أريد موعدا و", Reading.UNFINISHED),
        ("ar", "هل هذا ممكن؟", Reading.COMPLETE),
        ("ar", "أريد موعدا،", Reading.UNFINISHED),
    ],
)
def test_what_a_transcript_says(language: str, transcript: str, reading: Reading) -> None:
    assert read(transcript, language) is reading


@pytest.mark.parametrize(
    ("question", "transcript", "reading"),
    [
        (Question.YES_NO, "Yes", Reading.ANSWERED),
        (Question.YES_NO, "The weather", Reading.UNKNOWN),
        (Question.NAME, "John Smith", Reading.ANSWERED),
        (Question.NAME, "My name is", Reading.UNFINISHED),
        (Question.NUMBER, "five", Reading.UNFINISHED),
        (Question.NUMBER, "555 123.", Reading.UNFINISHED),
        (Question.NUMBER, "555 1234.", Reading.COMPLETE),
        (Question.NUMBER, "555 123 4567", Reading.ANSWERED),
        (Question.OPEN, "Yes", Reading.UNKNOWN),
    ],
)
def test_the_question_changes_what_a_full_answer_is(
    question: Question, transcript: str, reading: Reading
) -> None:
    assert read(transcript, "en", question) is reading


@pytest.mark.parametrize("question", Question)
@pytest.mark.parametrize("reading", Reading)
def test_a_full_stop_is_believed_when_the_voice_falls(reading: Reading, question: Question) -> None:
    assert settle(reading, question, falls=True) is reading
    level = settle(reading, question, falls=False)
    if reading is Reading.COMPLETE:
        assert level is Reading.UNKNOWN
    elif reading is Reading.ANSWERED and question is Question.NAME:
        assert level is Reading.NAMED, "half a name looks like one"
    else:
        assert level is reading


@pytest.mark.parametrize("reading", Reading)
def test_a_turn_model_counts_where_nothing_else_does(reading: Reading) -> None:
    doubtful = reading in (Reading.UNKNOWN, Reading.COMPLETE)
    assert settle(reading, Question.OPEN, falls=False, goes_on=True) is (
        Reading.UNFINISHED if doubtful else reading
    )
    assert settle(Reading.COMPLETE, Question.OPEN, falls=True, goes_on=True) is Reading.COMPLETE


@given(st.text(), st.sampled_from(LANGUAGES), st.sampled_from(Question))
def test_any_transcript_has_a_reading(text: str, language: str, question: Question) -> None:
    assert read(text, language, question) in Reading


@given(st.integers(0, 3_000), st.integers(0, 40_000), st.sampled_from(Reading))
def test_waiting_longer_never_unends_a_turn(pause: int, speech: int, reading: Reading) -> None:
    if decide(POLICY, pause_ms=pause, speech_ms=speech, reading=reading) is Verdict.END:
        later = decide(POLICY, pause_ms=pause + 20, speech_ms=speech, reading=reading)
        assert later is Verdict.END
