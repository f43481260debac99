"""Silero on ONNX Runtime: the fallback for a model file that :mod:`audio.vad` does not know.

The same interface as :class:`audio.vad.Silero`, three times slower and 40 MB larger. It needs the
extra ``onnx``; the import waits until here, because it starts threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audio.format import BLOCK_MS, PCM_RATE, VAD_WINDOW_MS, WIRE_RATE

Floats = NDArray[np.float32]

_INPUTS = {"input", "state", "sr"}
_VERBOSITY_ERRORS = 3


class OnnxSilero:
    """One session, one thread, for one sampling rate."""

    def __init__(self, model: bytes, rate: int) -> None:
        """Load the model for ``rate`` (8000 or 16000) from the bytes of an ONNX file.

        Raises ModuleNotFoundError without ONNX Runtime, ValueError when the bytes are no model
        or one that takes other inputs than Silero v5 does.
        """
        if rate not in (WIRE_RATE, PCM_RATE):
            raise ValueError(f"Silero knows 8000 and 16000 Hz, not {rate}")
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "this VAD model needs onnxruntime; install the extra `onnx`"
            ) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = _VERBOSITY_ERRORS
        try:
            self._session = onnxruntime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise ValueError(f"not an ONNX model: {error}") from error
        inputs = {each.name for each in self._session.get_inputs()}
        if inputs != _INPUTS:
            raise ValueError(f"not a Silero v5 model: its inputs are {', '.join(sorted(inputs))}")
        self.window = rate * VAD_WINDOW_MS // 1000
        self.context = rate * BLOCK_MS // 1000
        self._rate = np.array(rate, np.int64)

    def score(self, windows: Floats, state: Floats) -> tuple[Floats, Floats]:
        """(n, context + window) in [-1, 1] and (n, 2, 128) -> probabilities (n,), new state."""
        assert windows.shape == (len(state), self.context + self.window), windows.shape
        if len(windows) == 0:
            return np.empty(0, np.float32), state
        fed = {
            "input": np.ascontiguousarray(windows),
            "state": np.ascontiguousarray(state.transpose(1, 0, 2)),
            "sr": self._rate,
        }
        probability, after = self._session.run(None, fed)
        return probability[:, 0], np.ascontiguousarray(after.transpose(1, 0, 2))
