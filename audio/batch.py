"""One vectorised step over all frames that are ready, whoever they belong to. Pure.

Caller frames: decode -> level -> gate -> (voice activity of the windows that end here) -> 16 kHz.
Assistant frames: 16 or 24 kHz -> the wire's rate -> encode. One step object handles the rows of
one format; rows of different formats are grouped by whoever gathers them, and frames of a codec
that has a state (G.722) come decoded and leave to be encoded: here they are linear PCM.

No state is kept here. A filter's history is the end of the row's previous input cell, the voice
activity detector's window is the end of the input ring, and what must be remembered from frame to
frame (probability, noise floor, quiet frames, which state row is current) is part of the previous
frame's verdict. A step is therefore a pure function of cells, and doing it again after a crash
writes the same bytes again. Rows whose previous cell belongs to another lease, epoch or format
start with silence and a zero state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from audio import g711, vad
from audio.format import (
    BLOCKS_PER_FRAME,
    BLOCKS_PER_WINDOW,
    PCM_BYTES_PER_SAMPLE,
    PCM_RATE,
    WIRE_FORMATS,
    ByteOrder,
    Encoding,
)
from audio.layout import VERDICT_VALUES, Verdict
from audio.resample import Resampler, to_int16

Bools = NDArray[np.bool_]
Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Samples = NDArray[np.int16]

VadMode = Literal["silero", "level", "off"]

_PCM16_SCALE = np.float32(1 / 32768)
_AGE_MAX = np.float32(1000)


class Scorer(Protocol):
    """A voice activity model over a batch; see :class:`audio.vad.Silero`."""

    def score(self, windows: Floats, state: Floats) -> tuple[Floats, Floats]:
        """(n, context + window) in [-1, 1] and (n, 2, 128) -> probabilities (n,), new state."""
        ...


@dataclass(frozen=True, slots=True)
class Heard:
    """A caller step's results: PCM16 bytes (n, 640), verdicts (n, 8), rows with a window to score.

    ``skipped`` counts windows that ended in these frames but that the level gate knows to be
    silent, ``spared`` those that were judged by level for want of time.
    """

    pcm: Bytes
    verdict: Floats
    due: Bools
    skipped: int
    spared: int


class CallerStep:
    """Turns encoded caller frames of one encoding into 16 kHz PCM16 and verdicts.

    ``wire_bytes`` are those of a frame in its ring, ``frame_bytes`` of what :meth:`hear` takes:
    they differ only if the step is ``stateful``, when a codec has decoded the frame before.
    """

    def __init__(
        self, encoding: Encoding, mode: VadMode, scorer: Scorer | None, *, gated: bool = True
    ) -> None:
        assert (mode == "silero") == (scorer is not None)
        wire = WIRE_FORMATS[encoding]
        self._mode = mode
        self._gated = gated
        self._scorer = scorer
        self._resampler = Resampler.make(wire.rate, PCM_RATE)
        self._decode = decoder(encoding)
        self.stateful = wire.stateful
        self.wire_bytes = wire.frame_bytes
        self.frame_bytes = wire.samples_bytes
        self.history_bytes = self.frame_bytes // BLOCKS_PER_FRAME
        assert self._resampler.history * self.frame_bytes == self.history_bytes * wire.frame_samples

    def hear(
        self,
        frames: Bytes,
        history: Bytes,
        same: Bools,
        last: Floats,
        index: Ints,
        *,
        spare: bool = False,
    ) -> Heard:
        """Decode, measure and resample.

        ``frames`` (n, frame bytes), ``history`` (n, one block's bytes), ``same`` (n,): whether
        the previous cell belongs to the same stream, ``last`` (n, 8): its verdict, ``index``
        (n,): the frames' numbers in their rings. What a codec has decoded already counts as
        frames and history. With ``spare`` no window is due: their level must do.
        """
        samples = self._decode(frames)
        before = self._decode(history)
        before[~same] = 0
        verdict = np.where(same[:, None], last, _FRESH)
        level = vad.level_of(samples * _PCM16_SCALE)
        verdict[:, Verdict.LEVEL] = level
        verdict[:, Verdict.AGE] = np.minimum(verdict[:, Verdict.AGE] + 1, _AGE_MAX)
        skip = self._gate(level, verdict)
        pcm = to_int16(self._resampler(np.concatenate((before, samples), axis=1)))
        due = self._due(index)
        skip &= due
        due &= ~skip
        skipped, spared = int(np.count_nonzero(skip)), 0
        if spare and self._scorer is not None:
            spared = int(np.count_nonzero(due))
            guess = vad.level_probability(level, verdict[:, Verdict.FLOOR])
            verdict[due, Verdict.PROBABILITY] = guess[due]
            due[:] = False
        return Heard(pcm.view(np.uint8), verdict, due, skipped, spared)

    def _gate(self, level: Floats, verdict: Floats) -> Bools:
        """Judge the level alone, note in ``verdict`` what follows; which windows are skipped."""
        if self._mode == "off":
            return np.zeros(len(level), np.bool_)
        skip, floor, quiet = vad.gate(
            level,
            verdict[:, Verdict.FLOOR],
            verdict[:, Verdict.QUIET],
            verdict[:, Verdict.SETTLED],
        )
        verdict[:, Verdict.FLOOR] = floor
        verdict[:, Verdict.QUIET] = quiet
        if self._mode == "level":
            verdict[:, Verdict.PROBABILITY] = vad.level_probability(level, floor)
        return skip & self._gated

    def score(
        self, windows: Bytes, first: Ints, heard: Heard, index: Ints, state: Floats
    ) -> Floats:
        """Voice activity of the due windows; writes probabilities into ``heard.verdict``.

        ``windows`` (m, 9, block bytes) with the number of their first block ``first`` (m,),
        ``index`` (m,) the due frames' numbers, ``state`` (m, 2, 128), which may be written to.
        Returns the new state.
        """
        assert self._scorer is not None
        rows, blocks, _ = windows.shape
        samples = self._decode(windows.reshape(rows * blocks, -1)).reshape(rows, blocks, -1)
        samples *= _PCM16_SCALE
        verdict = heard.verdict[heard.due]
        stream_begins = (index - verdict[:, Verdict.AGE].astype(np.int64) + 1) * BLOCKS_PER_FRAME
        samples[first[:, None] + np.arange(blocks) < stream_begins[:, None]] = 0
        reset = vad.reset_due(verdict[:, Verdict.SETTLED])
        state[reset] = 0
        settled = np.where(reset, 0, verdict[:, Verdict.SETTLED])
        probability, state = self._scorer.score(samples.reshape(rows, -1), state)
        heard.verdict[heard.due, Verdict.PROBABILITY] = probability
        heard.verdict[heard.due, Verdict.SETTLED] = vad.next_settled(settled, probability)
        return state

    def _due(self, index: Ints) -> Bools:
        if self._mode != "silero":
            return np.zeros(len(index), np.bool_)
        blocks = index * BLOCKS_PER_FRAME
        due: Bools = (blocks + BLOCKS_PER_FRAME) // BLOCKS_PER_WINDOW > blocks // BLOCKS_PER_WINDOW
        return due


class AssistantStep:
    """Turns PCM16 assistant frames of one rate into a carrier's encoding."""

    def __init__(self, rate: int, encoding: Encoding) -> None:
        wire = WIRE_FORMATS[encoding]
        self._encode = encoder(encoding)
        self._resampler = Resampler.make(rate, wire.rate)
        self.stateful = wire.stateful
        self.history_bytes = self._resampler.history * PCM_BYTES_PER_SAMPLE

    def speak(self, frames: Bytes, history: Bytes, same: Bools) -> Bytes:
        """Resample and encode: (n, PCM bytes), (n, history bytes), (n,) -> (n, wire bytes).

        A codec with a state makes the wire's bytes of what is returned.
        """
        samples, before = _pcm("<", frames), _pcm("<", history)
        before[~same] = 0
        return self._encode(to_int16(self._resampler(np.concatenate((before, samples), axis=1))))


def decoder(encoding: Encoding) -> Callable[[Bytes], Floats]:
    """What turns bytes (..., n) into samples on the int16 scale, a new array."""
    order = WIRE_FORMATS[encoding].byte_order
    return g711.decode_table(encoding).take if order is None else partial(_pcm, order)


def encoder(encoding: Encoding) -> Callable[[Samples], Bytes]:
    """What turns int16 samples into bytes."""
    order = WIRE_FORMATS[encoding].byte_order
    return partial(g711.encode, encoding) if order is None else partial(_pcm_bytes, order)


def _pcm(order: ByteOrder, payload: Bytes) -> Floats:
    return np.ascontiguousarray(payload).view(f"{order}i2").astype(np.float32)


def _pcm_bytes(order: ByteOrder, samples: Samples) -> Bytes:
    return samples.astype(f"{order}i2", copy=False).view(np.uint8)


_FRESH = np.zeros(VERDICT_VALUES, np.float32)
