"""The optional turn model: its input against another implementation's, a tiny real model asked."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.errors import ConfigurationError
from gateway.providers.turn_model import PCM_BYTES, WAITING_MAX, SmartTurn, features
from tests.fakes.onnx_model import mean_model

#: What pipecat 1.14's extraction (Hugging Face's, in numpy) makes of ``sweep``: band -> the values
#: at these frames.
FRAMES = (0, 500, 510, 650, 799)
ORACLE: dict[int, tuple[float, ...]] = {
    0: (0.1333, 1.3444, 0.6209, 0.5936, 0.6206),
    7: (-0.216, 1.3737, 1.6871, 0.5601, 0.6908),
    20: (-0.216, 0.761, 0.4426, 0.3869, 0.5662),
    41: (-0.216, 0.5927, 0.6834, 0.4911, 0.7733),
    60: (-0.216, 0.5035, 0.4019, 0.5993, 0.4564),
    79: (-0.216, 0.5193, 0.5982, 0.5027, 0.5948),
}


def sweep() -> bytes:
    """3 s that rise from 200 to 2000 Hz, with a hiss in all bands."""
    at = np.arange(3 * 16_000, dtype=np.int64)
    hiss = (at * at * 31 + at * 17) % 1009 - 504
    tone = 9000 * np.sin(2 * np.pi * (200 * at / 16_000 + 300 * (at / 16_000) ** 2))
    whole: NDArray[np.int16] = (tone + hiss).astype("<i2")
    return whole.tobytes()


def pcm(samples: NDArray[np.float64]) -> bytes:
    whole: NDArray[np.int16] = (samples * 32767).astype("<i2")
    return whole.tobytes()


#: All of 8 s is loud: the mean of its features is above zero; one second leaves silence in front.
FULL = pcm(np.random.default_rng(1).uniform(-0.5, 0.5, 8 * 16_000))
SHORT = FULL[: PCM_BYTES // 8]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "turn.onnx"
    file.write_bytes(mean_model())
    return file


def test_the_input_is_what_the_model_was_trained_with() -> None:
    found = features(sweep())
    assert found.shape == (80, 800)
    assert found.dtype == np.float32
    for band, values in ORACLE.items():
        assert found[band, FRAMES] == pytest.approx(values, abs=1e-3)


def test_the_last_eight_seconds_count() -> None:
    before = pcm(np.random.default_rng(2).uniform(-1, 1, 16_000))
    assert np.array_equal(features(before + FULL), features(FULL))


def test_how_loud_the_line_is_changes_nothing() -> None:
    soft = (np.frombuffer(sweep(), "<i2") // 2).astype("<i2").tobytes()
    assert np.abs(features(soft) - features(sweep())).mean() < 0.02


def test_silence_has_features() -> None:
    assert np.all(np.isfinite(features(bytes(3200))))


def test_a_model_is_asked_off_the_event_loop(path: Path) -> None:
    async def scene() -> list[bool]:
        model = SmartTurn.load(path)
        threads = set[str]()
        judge = model.over

        def over(found: NDArray[np.float32]) -> float:
            threads.add(threading.current_thread().name)
            return judge(found)

        model.over = over  # type: ignore[method-assign]
        answers = [await model.goes_on(SHORT), await model.goes_on(FULL)]
        await model.aclose()
        assert threads == {"turn-model_0"}
        return answers

    assert asyncio.run(scene()) == [True, False]


def test_who_would_wait_too_long_is_not_asked_about(path: Path) -> None:
    async def scene() -> list[bool]:
        model = SmartTurn.load(path)
        answers = await asyncio.gather(*(model.goes_on(SHORT) for _ in range(WAITING_MAX + 3)))
        answers += [await model.goes_on(SHORT)]
        await model.aclose()
        return answers

    answers = asyncio.run(scene())
    assert answers == [True] * WAITING_MAX + [False] * 3 + [True]


def test_who_goes_on_meanwhile_leaves_the_queue(path: Path) -> None:
    async def scene() -> bool:
        model = SmartTurn.load(path)
        asked = [asyncio.create_task(model.goes_on(FULL)) for _ in range(WAITING_MAX)]
        await asyncio.sleep(0)
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        answer = await model.goes_on(SHORT)
        await model.aclose()
        return answer

    assert asyncio.run(scene())


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "no ONNX model that can be loaded"),
        (b"not a model", "no ONNX model that can be loaded"),
        (mean_model(("N", 80, 3000)), r"\['N', 80, 3000\], not \[N, 80, 800\]"),
        (mean_model(("N", 128000), axes=(1,)), r"\['N', 128000\], not \[N, 80, 800\]"),
        (mean_model(name="audio"), "its one input must be input_features, float32"),
        (mean_model(axes=(2,)), "it gives 80 numbers a caller, not one"),
    ],
)
def test_what_is_no_such_model_is_refused_in_a_sentence(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    file = tmp_path / "other.onnx"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=sentence) as caught:
        SmartTurn.load(file)
    assert str(caught.value).startswith(f"TURN_MODEL={file}: ")
    assert "\n" not in str(caught.value)
