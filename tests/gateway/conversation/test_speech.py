from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.conversation.speech import (
    SpeechDetector,
    SpeechEvent,
    SpeechPaused,
    SpeechPolicy,
    SpeechResumed,
    SpeechStarted,
)

# One letter a frame: voice, murmur (between the thresholds), silence, quiet voice (too faint); loud
# voice, and what is faint beside it but not beside the other.
FRAMES = {"V": (0.9, -30.0), "m": (0.4, -30.0), "s": (0.1, -30.0), "q": (0.9, -70.0)}
FRAMES |= {"L": (0.9, -15.0), "f": (0.9, -46.0)}


def runs_of(letters: str) -> st.SearchStrategy[str]:
    run = st.tuples(st.sampled_from(letters), st.integers(1, 14))
    return st.lists(run.map(lambda run: run[0] * run[1]), max_size=12).map("".join)


RUNS = runs_of("VVmssq")
LOUD_RUNS = runs_of("VVmssqLf")


def _feed(detector: SpeechDetector, frames: str) -> list[tuple[int, SpeechEvent]]:
    events = ((at, detector.feed(*FRAMES[frame])) for at, frame in enumerate(frames))
    return [(at, event) for at, event in events if event is not None]


@dataclass
class Model:
    """The whole history as a string, searched for onsets and pauses."""

    events: list[tuple[int, SpeechEvent]]
    speech: int
    silence: int


def _model(frames: str, policy: SpeechPolicy) -> Model:
    onset = re.compile(f"V{{{policy.onset_frames}}}")
    pause = re.compile(f"[sq]{{{policy.hangover_frames}}}")
    model, position = Model([], 0, 0), 0
    while started := onset.search(frames, position):
        start = SpeechResumed if model.events else SpeechStarted
        model.events.append((started.end() - 1, start(policy.onset_frames)))
        paused = pause.search(frames, started.end())
        if paused is None:
            voiced = frames[started.start() :].rstrip("sq")
            model.speech += len(voiced)
            model.silence = len(frames) - started.start() - len(voiced)
            return model
        model.events.append((paused.end() - 1, SpeechPaused(policy.hangover_frames)))
        model.speech += paused.start() - started.start()
        model.silence = len(frames) - paused.start()
        position = paused.end()
    return model


@given(RUNS, st.integers(1, 6), st.integers(1, 12))
def test_the_detector_agrees_with_a_search_of_the_whole_history(
    frames: str, onset_frames: int, hangover_frames: int
) -> None:
    policy = SpeechPolicy(onset_frames=onset_frames, hangover_frames=hangover_frames)
    detector = SpeechDetector(policy)
    events = _feed(detector, frames)
    model = _model(frames, policy)
    assert events == model.events
    assert (detector.speech_frames, detector.silence_frames) == (model.speech, model.silence)
    assert detector.in_utterance == bool(model.events)


@given(LOUD_RUNS, LOUD_RUNS)
def test_after_the_end_nothing_of_the_utterance_is_left(before: str, after: str) -> None:
    used, fresh = SpeechDetector(), SpeechDetector()
    _feed(used, before)
    used.end()
    assert not used.in_utterance
    assert (used.speech_ms, used.pause_ms) == (0, 0)
    assert _feed(used, after) == _feed(fresh, after)


def test_an_utterance_with_a_short_gap_and_a_pause() -> None:
    detector = SpeechDetector()
    assert _feed(detector, "s" * 9 + "VVVV") == [(12, SpeechStarted(4))]
    assert (detector.speech_ms, detector.pause_ms, detector.voiced) == (80, 0, True)
    assert _feed(detector, "sssss") == []
    assert (detector.speech_ms, detector.pause_ms, detector.voiced) == (80, 100, False)
    assert _feed(detector, "m") == []  # above the release threshold: still the same speech
    assert (detector.speech_ms, detector.pause_ms) == (200, 0)
    assert _feed(detector, "s" * 25) == [(9, SpeechPaused(10))]
    assert (detector.speech_ms, detector.pause_ms) == (200, 500)
    assert _feed(detector, "VVVV") == [(3, SpeechResumed(4))]
    assert (detector.speech_ms, detector.pause_ms) == (280, 0)


@given(st.integers(0, 40))
def test_what_the_model_hears_on_after_the_last_sound_is_silence(faint: int) -> None:
    detector, silent = SpeechDetector(), SpeechDetector()
    _feed(detector, "L" * 10 + "f" * min(faint, 13))
    _feed(silent, "L" * 10 + "s" * min(faint, 13))
    assert (detector.speech_ms, detector.pause_ms) == (silent.speech_ms, silent.pause_ms)


def test_what_is_faint_beside_a_shout_is_a_voice_by_itself() -> None:
    detector = SpeechDetector()
    assert _feed(detector, "f" * 6) == [(3, SpeechStarted(4))]
    assert (detector.speech_ms, detector.pause_ms) == (120, 0)
    assert _feed(detector, "Vf") == []
    assert (detector.speech_ms, detector.pause_ms) == (160, 0)


def test_a_shout_before_the_utterance_does_not_make_it_faint() -> None:
    detector = SpeechDetector()
    _feed(detector, "LLs" + "f" * 6)
    assert (detector.speech_ms, detector.pause_ms) == (120, 0)


@pytest.mark.parametrize("after", [10, 25])
def test_whoever_goes_on_faintly_is_not_taken_to_have_finished(after: int) -> None:
    """Only its silence is judged by the loudest sound: the pause never gets long."""
    detector = SpeechDetector()
    _feed(detector, "L" * 10 + "s" * after)
    pauses = [detector.pause_ms for _ in range(100) if _feed(detector, "f") is not None]
    assert max(pauses[4:]) <= 280


def test_one_window_of_the_detector_cannot_start_speech() -> None:
    # A window of 32 ms shows in two frames of 20 ms at most.
    assert _feed(SpeechDetector(), "VVssVVssVVss") == []


def test_what_is_too_faint_is_no_speech() -> None:
    detector = SpeechDetector()
    assert _feed(detector, "q" * 50) == []
    assert not detector.voiced


@pytest.mark.parametrize(
    "wrong",
    [
        {"onset_probability": 0.3},
        {"release_probability": 0.0},
        {"onset_probability": 1.1},
    ],
)
def test_thresholds_that_cannot_work_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="release_probability"):
        SpeechPolicy(**wrong)  # type: ignore[arg-type] # a table of one field each


def test_counts_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        SpeechPolicy(onset_frames=0)
    with pytest.raises(ValueError, match="at least 1"):
        SpeechPolicy(hangover_frames=0)
