"""Which sent frame is each received frame? By normalised correlation with what was sent.

The bytes do not survive decoding, two resamplings and encoding, so a received frame is told by its
sound. Two steps, both over a whole call at once, after the run:

1. *Alignment.* The server's filters delay the audio by a constant that is no whole frame. The
   loudest second received is cross-correlated with what had been sent by then, each frame brought
   to the same loudness: else a loud vowel outweighs all the rest, and a vowel resembles itself a
   pitch period later. The peak's position modulo a frame is the constant, to a fraction of a
   sample.
2. *Identification.* The sent stream is shifted by the constant and cut into frames. Each received
   frame is compared with those of the last second before its arrival, in one matrix product for a
   run of frames; what is not found there is looked for in the last ``WIDE_FRAMES`` frames. A frame
   cannot be one that had not been due when it arrived. The best match above ``SCORE_MIN`` wins.

A frame whose match is not clear stays unidentified. It counts as arrived, not as lost, if the
frames around it show that it is in its place (``in_place``).

Rejected: comparing bytes (they differ), counting frames (hides a loss behind a duplicate), energy
envelopes (speech repeats itself). Pure: numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from loadtest.schedule import FRAME_NS, FRAMES_PER_SECOND

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

SCORE_MIN = 0.6
NARROW_FRAMES = FRAMES_PER_SECOND
WIDE_FRAMES = 30 * FRAMES_PER_SECOND
RUN_FRAMES = 64

#: Alignment: length of a probe, how far back it is looked for, and how many are tried.
PROBE_FRAMES = FRAMES_PER_SECOND
PROBE_BACK_FRAMES = 4 * FRAMES_PER_SECOND
PROBES = 5
#: The constant delay is known to this fraction of a sample.
STEPS_PER_SAMPLE = 8
_SINC_REACH = 16

UNIDENTIFIED = -1


class Reference:
    """The loop all callers read, as a server's constant delay makes it look."""

    def __init__(self, samples: Floats) -> None:
        """``samples``: (frames, samples per frame), as a decoder makes them of what was sent."""
        assert samples.ndim == 2
        self.samples = samples
        self.frames, self.frame_samples = samples.shape
        self._spectrum = np.fft.rfft(samples.ravel())
        # Calls of one server share a few delays; each costs one copy of the loop.
        self.delayed = lru_cache(maxsize=32)(self._delayed)

    def rows(self, first: int, last: int) -> Ints:
        """Row numbers of the loop's frames ``first`` to ``last`` (exclusive), any integers."""
        rows: Ints = np.arange(first, last) % self.frames
        return rows

    def _delayed(self, steps: int) -> Floats:
        """The loop delayed by ``steps`` eighths of a sample, cut into frames of unit energy."""
        count = self.samples.size
        turn = np.exp(
            -2j * np.pi * np.arange(len(self._spectrum)) * steps / (STEPS_PER_SAMPLE * count)
        )
        delayed = np.fft.irfft(self._spectrum * turn, count)
        return unit_rows(delayed.astype(np.float32).reshape(self.samples.shape))


@dataclass(frozen=True, slots=True)
class Echo:
    """One call's exchange: where in the loop it began, what was sent, and what came back.

    ``received`` has a row for each 20 ms received (float32, samples per frame); ``arrival_ns``
    says when the row was complete. Frame ``k`` was due at ``first_ns + k * 20 ms``.
    """

    offset: int
    sent: int
    first_ns: int
    received: Floats
    arrival_ns: Ints

    def newest(self) -> Ints:
        """For each row the newest frame that had been due when it arrived."""
        due = (self.arrival_ns - self.first_ns) // FRAME_NS
        return np.clip(due, UNIDENTIFIED, self.sent - 1)


@dataclass(frozen=True, slots=True)
class Identification:
    """For each received row the frame it is, or -1; and the constant delay in samples."""

    frames: Ints
    delay_samples: float | None

    def with_seams(self, unsent: Ints) -> Identification:
        """The same, with the frames told that follow one which never reached the server.

        There a filter puts together what does not belong together, which may sound like anything;
        but the frames before and after such a seam leave room for no other.
        """
        frames, gone = self.frames.copy(), set(unsent.tolist())
        rows = {frame: row for row, frame in reversed(list(enumerate(frames.tolist())))}
        for seam in sorted({frame + 1 for frame in gone} - gone):
            before, after = seam - 2, seam + 1
            while before in gone:
                before -= 1
            while after in gone:
                after += 1
            row = rows.get(before, len(frames)) + 1
            if row + 1 < len(frames) and (frames[row + 1] == after or after - 1 in gone):
                frames[row] = seam
                rows[seam] = row
        return Identification(frames, self.delay_samples)

    def in_place(self, unsent: Ints) -> Ints:
        """The frames that unidentified rows must hold: their neighbours leave room for no other.

        ``unsent`` are the frames that never reached the server, and leave no room.
        """
        unsent = np.unique(unsent)
        known = np.flatnonzero(self.frames >= 0)
        if known.size < 2:
            return np.empty(0, np.int64)
        # Which of the frames that were sent it is, without those that were not.
        order = self.frames - np.searchsorted(unsent, self.frames)
        if order[known[0]] == known[0]:  # the beginning is as good a neighbour
            known = np.concatenate(([-1], known))
        before, after = known[:-1], known[1:]
        order_before = np.where(before >= 0, order[before], -1)
        gap = after - before
        holes = np.flatnonzero((gap > 1) & (order[after] - order_before == gap))
        frame_before = np.where(before >= 0, self.frames[before], -1)
        runs = [np.arange(frame_before[n] + 1, self.frames[after[n]]) for n in holes]
        return np.setdiff1d(np.concatenate(runs), unsent) if runs else np.empty(0, np.int64)


def identify(reference: Reference, echo: Echo) -> Identification:
    """Tell each received row of one call."""
    frames = np.full(len(echo.received), UNIDENTIFIED, np.int64)
    steps = find_delay(reference, echo)
    if steps is None:
        return Identification(frames, None)
    sent = reference.delayed(steps)
    rows = unit_rows(echo.received)
    newest = echo.newest()
    for window in (NARROW_FRAMES, WIDE_FRAMES):
        unknown = np.flatnonzero(frames < 0)
        for at in range(0, len(unknown), RUN_FRAMES):
            run = unknown[at : at + RUN_FRAMES]
            first = max(0, int(newest[run].min()) - window)
            candidates = sent[
                reference.rows(echo.offset + first, echo.offset + newest[run].max() + 1)
            ]
            frames[run] = _best(rows[run] @ candidates.T, first, newest[run])
    return Identification(frames, steps / STEPS_PER_SAMPLE)


def _best(scores: Floats, first: int, newest: Ints) -> Ints:
    """The best candidate of each row, among those that had been due; -1 below SCORE_MIN."""
    if scores.shape[1] == 0:
        return np.full(len(scores), UNIDENTIFIED, np.int64)
    candidate = np.arange(first, first + scores.shape[1])
    scores = np.where(candidate <= newest[:, None], scores, -1.0)
    best = scores.argmax(axis=1)
    clear = scores[np.arange(len(scores)), best] >= SCORE_MIN
    return np.where(clear, candidate[best], UNIDENTIFIED)


def find_delay(reference: Reference, echo: Echo) -> int | None:
    """The constant delay within a frame, in eighths of a sample, -80..79 samples at 8 kHz.

    None when nothing that was received resembles what was sent.
    """
    for row in _loudest(echo.received):
        probe = unit_rows(echo.received[row : row + PROBE_FRAMES]).ravel()
        newest = int(echo.newest()[min(row + PROBE_FRAMES, len(echo.received)) - 1])
        oldest = max(0, newest - PROBE_BACK_FRAMES)
        rows = reference.rows(echo.offset + oldest, echo.offset + newest + 1)
        steps = _peak(unit_rows(reference.samples[rows]).ravel(), probe)
        if steps is not None:
            half: int = reference.frame_samples * STEPS_PER_SAMPLE // 2
            return (steps + half) % (2 * half) - half
    return None


def _loudest(received: Floats) -> list[int]:
    """First rows of the loudest probes, each in a fifth of the call of its own."""
    energy = np.concatenate([[0.0], np.cumsum((received.astype(np.float64) ** 2).sum(axis=1))])
    length = min(PROBE_FRAMES, len(received))
    windows = energy[length:] - energy[:-length] if length else energy[:0]
    parts = [part for part in np.array_split(np.arange(len(windows)), PROBES) if part.size]
    best = [int(part[windows[part].argmax()]) for part in parts]
    return sorted(best, key=lambda row: -windows[row])


def _peak(sent: Floats, probe: Floats) -> int | None:
    """Delay (eighths of a sample) at which ``probe`` lies within ``sent``, None if it does not.

    The sign is such that a probe which equals ``sent`` from its sample ``n`` on gives ``-8 n``.
    """
    size = 1 << (len(sent) + len(probe) - 1).bit_length()
    product = np.fft.rfft(sent, size) * np.conj(np.fft.rfft(probe, size))
    correlation = np.fft.irfft(product, size)
    at = int(correlation.argmax())
    begin = at if at <= len(sent) else at - size
    overlap = sent[max(0, begin) : max(0, begin + len(probe))]
    energy = float(np.linalg.norm(overlap)) * float(np.linalg.norm(probe))
    if energy <= 0 or correlation[at] < SCORE_MIN * energy:
        return None
    near = correlation[(at + np.arange(-_SINC_REACH, _SINC_REACH + 1)) % size]
    return -(begin * STEPS_PER_SAMPLE + _finest(near))


def _finest(near: NDArray[np.float64]) -> int:
    """Where between its samples the peak of a band-limited correlation lies, in eighths."""
    steps = np.arange(-STEPS_PER_SAMPLE, STEPS_PER_SAMPLE + 1)
    place = np.arange(-_SINC_REACH, _SINC_REACH + 1)
    distance = steps[:, None] / STEPS_PER_SAMPLE - place
    taper = np.cos(np.pi * np.clip(distance / (2 * _SINC_REACH + 2), -0.5, 0.5)) ** 2
    return int(steps[(np.sinc(distance) * taper * near).sum(axis=1).argmax()])


def unit_rows(rows: Floats) -> Floats:
    """Rows scaled to unit energy; silent ones stay zero."""
    norm = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    unit: Floats = rows / np.maximum(norm, np.float32(1e-6))[:, None]
    return unit
