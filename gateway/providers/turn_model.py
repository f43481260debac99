"""Whether the caller goes on, by an optional model: Smart Turn v3, an ONNX file. Asked in doubt.

Input: ``input_features`` [N, 80, 800] float32, Whisper's log-mel of the last 8 s at 16 kHz, mean 0
and variance 1 before that, silence in front when there is less. Output: the probability that the
turn is over, one number a row. (As in pipecat 1.14, where the model comes from; BSD-2.)

Only its "goes on" is believed. On recorded prompts torn in their midst it called 46 of 56 doubtful
pauses the end, so an early end must not follow from it; of 25 doubtful real ends it took 3 for a
pause, which costs those callers 400 ms.

One session and one thread a worker: a decision takes 30 to 75 ms of one core, the event loop none
of it. Who would have to wait behind ``WAITING_MAX`` others is not asked about; nor does a caller
wait for the answer, the text decides when it comes too late.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audio.log_mel import HOP_SAMPLES, MELS, RATE, log_mel
from gateway.errors import ConfigurationError

SECONDS = 8
FRAMES = SECONDS * RATE // HOP_SAMPLES
PCM_BYTES = SECONDS * RATE * 2
WAITING_MAX = 8
_INPUT = "input_features"
_OVER_MIN = 0.5
_VARIANCE_MIN = 1e-7  # silence is not divided by zero

Features = NDArray[np.float32]


def features(pcm: bytes) -> Features:
    """The model's input for one caller: shape (80, 800)."""
    heard = np.frombuffer(pcm[-PCM_BYTES:], "<i2").astype(np.float32) / np.float32(32768)
    samples = np.pad(heard, (SECONDS * RATE - len(heard), 0))
    samples -= samples.mean()
    samples /= np.sqrt(samples.var() + np.float32(_VARIANCE_MIN))
    return log_mel(samples, SECONDS * RATE)


class SmartTurn:
    """The model of a worker."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._thread = ThreadPoolExecutor(1, "turn-model")
        self._waiting = 0

    @classmethod
    def load(cls, path: Path) -> SmartTurn:
        """From a file, tried out once. Raises ``ConfigurationError`` when it is no such model."""
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                "TURN_MODEL needs onnxruntime, which is not installed (the extra `onnx`)"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        model = None
        try:
            session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
            model = cls(session)
            model.over(np.zeros((MELS, FRAMES), np.float32))
        except Exception as error:
            raise ConfigurationError(f"TURN_MODEL={path}: {_why(error)}") from error
        return model

    def over(self, found: Features) -> float:
        """The probability that the turn is over. ``ValueError`` for another kind of model."""
        inputs = self._session.get_inputs()
        if [(one.name, one.type) for one in inputs] != [(_INPUT, "tensor(float)")]:
            raise ValueError(f"its one input must be {_INPUT}, float32")
        shape = inputs[0].shape
        if len(shape) != 3 or list(shape[1:]) != [MELS, FRAMES]:
            raise ValueError(f"its input has the shape {shape}, not [N, {MELS}, {FRAMES}]")
        (probability, *_) = self._session.run(None, {_INPUT: found[np.newaxis]})
        if np.size(probability) != 1:
            raise ValueError(f"it gives {np.size(probability)} numbers a caller, not one")
        return float(np.ravel(probability)[0])

    async def goes_on(self, pcm: bytes) -> bool:
        """See ``base.TurnModel``."""
        if self._waiting >= WAITING_MAX:
            return False
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._judge, pcm)
        finally:
            self._waiting -= 1

    async def aclose(self) -> None:
        """Whoever waits is no longer answered."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _judge(self, pcm: bytes) -> bool:
        return self.over(features(pcm)) < _OVER_MIN


def _why(error: Exception) -> str:
    """One line of what ONNX Runtime says over several, or our own."""
    if isinstance(error, ValueError):
        return f"no Smart Turn v3 model: {error}"
    return f"no ONNX model that can be loaded: {str(error).splitlines()[0][:200]}"
