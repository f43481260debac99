"""Who waits for the recognizer: order, who is done together, who is not begun."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from gateway.speech_server.batches import BATCH_MAX, Batches
from gateway.speech_server.engines import Heard, InferenceThread, Utterance
from gateway.speech_server.meters import Meters
from gateway.speech_server.whisper import RATE
from tests.gateway.speech_server.toys import ToyRecognizer, until, wav


def batches_of(ear: ToyRecognizer, meters: Meters | None = None) -> Batches:
    return Batches(ear, InferenceThread("toy-ear"), meters or Meters())


def utterance(length: int, window: int = 8) -> Utterance:
    return Utterance(np.ones(length, np.float32), "en", window)


def test_the_language_of_the_first_words_holds_for_all_pieces() -> None:
    ear = ToyRecognizer()
    silence = np.zeros(31 * RATE, "<i2")
    speech = np.full(60 * RATE, 1000, "<i2")
    data = wav(np.concatenate([silence, speech]).tobytes())
    segments = asyncio.run(batches_of(ear).segments(data, ""))
    assert len(segments) >= 4
    assert segments[0].heard.text == ""
    heard_first = next(i for i, segment in enumerate(segments) if segment.heard.text)
    assert ear.asked == [""] * (heard_first + 1) + ["ru"] * (len(segments) - heard_first - 1)
    assert [s.start_s for s in segments[1:]] == [s.end_s for s in segments[:-1]]
    assert segments[-1].end_s == pytest.approx(91)


def queue(ear: ToyRecognizer, batches: Batches, *waiting: Utterance) -> list[object]:
    """What the waiting get while one is being done; every second one goes away."""

    async def run() -> list[object]:
        ear.open.clear()
        first = asyncio.ensure_future(batches.transcribe(utterance(1)))
        await until(ear.begun)
        others = [asyncio.ensure_future(batches.transcribe(each)) for each in waiting]
        await asyncio.sleep(0)
        for gone in [o for o, u in zip(others, waiting, strict=True) if u.language == "gone"]:
            gone.cancel()
        ear.open.set()
        return list(await asyncio.gather(first, *others, return_exceptions=True))

    return asyncio.run(run())


def test_those_that_wait_are_done_together_when_they_fit() -> None:
    ear, meters = ToyRecognizer(), Meters()
    waiting = [utterance(n, 30 if n == 3 else 8) for n in range(2, 9)]
    heard = queue(ear, batches_of(ear, meters), *waiting)
    assert ear.batches == [[1], [2, 4, 5, 6], [3], [7, 8]]
    assert max(map(len, ear.batches)) == BATCH_MAX
    assert [h.text for h in heard if isinstance(h, Heard)] == [f"{n} samples" for n in range(1, 9)]
    assert b"speech_server_batch_utterances_sum 8.0" in meters.page()


def test_those_whose_client_is_gone_are_not_begun() -> None:
    ear, meters = ToyRecognizer(), Meters()
    gone = Utterance(np.ones(9, np.float32), "gone", 8)
    queue(ear, batches_of(ear, meters), gone, utterance(2), gone)
    assert ear.batches == [[1], [2]]
    assert b"speech_server_utterances_abandoned_total 2.0" in meters.page()


def test_a_failure_is_told_to_all_of_its_batch_and_to_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ear = ToyRecognizer()
    batches = batches_of(ear)

    def heard(given: Utterance) -> Heard:
        if len(given.samples) == 3:
            raise LookupError("a bug")
        return Heard("fine", "en", 0, 0)

    monkeypatch.setattr(ear, "heard", heard)
    answers = queue(ear, batches, utterance(2), utterance(3), utterance(4, 30))
    assert [type(answer).__name__ for answer in answers] == [
        "Heard",
        "LookupError",
        "LookupError",
        "Heard",
    ]
