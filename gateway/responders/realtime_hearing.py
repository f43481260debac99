"""The caller's audio on its way to a speaking model: in pieces, at the rate it wants."""

from __future__ import annotations

import numpy as np
import soxr

from audio.format import PCM_BYTES_PER_SAMPLE, PCM_RATE, TTS_RATE, WIRE_RATE
from gateway.conversation.realtime_plan import Plan

APPEND_MS = 40  # caller audio in one event: half the events of one a frame, 20 ms later


class Hearing:
    """The caller's audio in pieces of ``APPEND_MS``, in the session's format."""

    def __init__(self, plan: Plan) -> None:
        rate_bytes = WIRE_RATE if plan.passes_through else PCM_BYTES_PER_SAMPLE * PCM_RATE
        self._piece_bytes = rate_bytes * APPEND_MS // 1000
        self._waiting = bytearray()
        self._up: soxr.ResampleStream | None = None
        if not plan.passes_through:
            self._up = soxr.ResampleStream(PCM_RATE, TTS_RATE, 1, dtype="int16", quality="LQ")

    def take(self, audio: bytes) -> list[bytes]:
        """Pieces that are complete now."""
        self._waiting += audio
        pieces: list[bytes] = []
        while len(self._waiting) >= self._piece_bytes:
            piece = bytes(self._waiting[: self._piece_bytes])
            del self._waiting[: self._piece_bytes]
            pieces.append(piece if self._up is None else self._raise(piece))
        return [piece for piece in pieces if piece]

    def _raise(self, pcm: bytes) -> bytes:
        assert self._up is not None
        raised: bytes = self._up.resample_chunk(np.frombuffer(pcm, np.int16)).tobytes()
        return raised
