"""``python -m audio.torture``: kill processes on the rings at random moments, and look for damage.

Two runs. *Ring*: a producer and a consumer of one ring are killed in turn while they work as fast
as they can. Every cell's payload follows from its number, so what is taken can be checked exactly:

* A cell is checked after its copy and before it counts as consumed, its number against the one
  that must come next, its bytes against the number's. What was found is in shared memory by then:
  no kill hides damage, at worst it is counted twice.
* One cell may be taken again: that whose taker was killed after the check and before the count.
  Any other that comes twice, is passed over or is not what was written counts as corrupt.
* A cell that the producer was told is written (``push`` returned True) must be published then,
  and in the end every published cell must have been checked: else it is lost.

What a killed consumer had consumed dies with it, as a killed worker's calls do.

*DSP*: 64 slots stream known audio through a DSP process that is killed again and again, its
standby taking over. The output must be what an undisturbed run gives: PCM16 to one LSB (matrix
products round differently in batches of different sizes), encoded audio accordingly, voice
activity to 1e-5.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from audio import dsp_process, g711
from audio.arena import Arena
from audio.batch import VadMode
from audio.format import PCM_FRAME_BYTES, Encoding
from audio.layout import Layout, SlotWord
from audio.results import CallerResults, Ints, Results
from audio.ring import RingWriter
from supervisor.scoreboard import Field, Phase, RowName, Scoreboard

SLOTS = 64
_READY_TIMEOUT_S = 30
_RING = Layout(1)
_HEAD = _RING.word_index(_RING.caller_wire.published, 0)
_TAIL = _RING.word_index(_RING.caller_wire.consumed, 0)
# Slot words that this run has no other use for: the producer's, and the consumer's.
_ACKNOWLEDGED = _RING.word_index(SlotWord.CALLER_ENCODING, 0)
_CHECKED = _RING.word_index(SlotWord.ASSISTANT_HEAD, 0)
_CORRUPT = _RING.word_index(SlotWord.ASSISTANT_DONE, 0)


@dataclass
class RingResult:
    """What the ring run found."""

    kills: int = 0
    cells: int = 0
    corrupt: int = 0
    lost: int = 0


def payload_of(number: int) -> bytes:
    """The only right content of the cell with this number; 8 to 640 bytes."""
    return number.to_bytes(8, "little") * (1 + number * 7 % 80)


def torture_ring(seconds: float, seed: int) -> RingResult:
    """Kill a ring's producer and consumer at random for ``seconds``."""
    arena, dice = Arena.create(1), random.Random(seed)
    result, ends_at = RingResult(), time.monotonic() + seconds
    words = arena.words
    pids = {produce: _fork(lambda: produce(arena)), consume: _fork(lambda: consume(arena))}
    while time.monotonic() < ends_at:
        time.sleep(dice.uniform(0.001, 0.06))
        victim = dice.choice([produce, consume])
        _kill(pids[victim])
        result.kills += 1
        if victim is produce:
            result.lost += max(0, words[_ACKNOWLEDGED] - words[_HEAD])
        pids[victim] = _fork(lambda victim=victim: victim(arena))  # type: ignore[misc]
    for pid in pids.values():
        _kill(pid)
    rest = CheckedResults(arena)
    rest.take()
    rest.close()
    result.lost += max(words[_ACKNOWLEDGED], words[_HEAD]) - words[_CHECKED]
    result.cells, result.corrupt = words[_CHECKED], words[_CORRUPT]
    arena.close()
    return result


def produce(arena: Arena) -> None:
    """Write the next cells until killed; says which were acknowledged."""
    writer, words = RingWriter(arena, arena.layout.caller_wire, 0), arena.words
    while True:
        number = words[_HEAD]
        if writer.push(payload_of(number)):
            words[_ACKNOWLEDGED] = number + 1
        else:
            os.sched_yield()


def consume(arena: Arena) -> None:
    """Take and check cells until killed."""
    results = CheckedResults(arena)
    while True:
        if not results.take():
            os.sched_yield()


class CheckedResults(Results):
    """Goes on where its predecessor was killed; checks every cell before it is consumed."""

    def __init__(self, arena: Arena) -> None:
        super().__init__(arena, arena.layout.caller_wire)
        self.expect(0, tag=0)
        self._words = words = arena.words
        words[_CORRUPT] += words[_CHECKED] - words[_TAIL] not in (0, 1)
        words[_CHECKED] = words[_TAIL]

    @override
    def _frames(self, cells: Ints) -> list[bytes]:
        """Called once a round, also when it has nothing but a cell that is passed over."""
        words, frames = self._words, super()._frames(cells)
        number = words[_TAIL]
        words[_CORRUPT] += number != words[_CHECKED] or frames != [payload_of(number)]
        words[_CHECKED] = number + 1
        return frames


@dataclass
class Heard:
    """All output of one slot: PCM, encoded bytes, probabilities."""

    pcm: list[bytes] = field(default_factory=list)
    probability: list[float] = field(default_factory=list)
    encoded: list[bytes] = field(default_factory=list)


@dataclass
class DspResult:
    """What the DSP run found, against an undisturbed one."""

    kills: int
    frames: int
    frames_lost: int
    pcm_difference_max: int
    codes_different: float
    probability_difference_max: float


class Streams:
    """The workers' ends of all slots, and the audio that goes through them."""

    def __init__(self, arena: Arena, frames: int, seed: int) -> None:
        self._frames = frames
        self._caller, self._speech = _material(frames, seed)
        layout = arena.layout
        slots = range(layout.slots)
        self._in = [RingWriter(arena, layout.caller_wire, n, tag=1) for n in slots]
        self._heard = CallerResults(arena)
        self._say = [RingWriter(arena, layout.assistant_pcm, n, tag=1) for n in slots]
        self._encoded = Results(arena, layout.assistant_wire)
        for n in slots:
            self._heard.begin(n, tag=1)
            self._encoded.begin(n, tag=1)
        self._pushed = [[0, 0] for _ in slots]
        self.heard = [Heard() for _ in slots]

    def exchange(self) -> bool:
        """Push what fits, take what is ready; whether everything has come back."""
        for n in range(len(self.heard)):
            self._push(n, 0, self._in[n], self._caller[n])
            self._push(n, 1, self._say[n], self._speech[n])
        for n, pcm, probability, _ in self._heard.take_heard():
            self.heard[n].pcm.append(pcm)
            self.heard[n].probability.append(probability)
        for n, encoded in self._encoded.take():
            self.heard[n].encoded.append(encoded)
        return all(len(h.pcm) == len(h.encoded) == self._frames for h in self.heard)

    def close(self) -> None:
        """Let go of the arena."""
        self._heard.close()
        self._encoded.close()

    def _push(self, n: int, way: int, writer: RingWriter, frames: list[bytes]) -> None:
        # A few frames ahead, as a call is: the whole ring ahead would make every batch alike.
        while self._pushed[n][way] < self._frames and len(writer) < 4:
            writer.push(frames[self._pushed[n][way]])
            self._pushed[n][way] += 1


def _material(frames: int, seed: int) -> tuple[list[list[bytes]], list[list[bytes]]]:
    """For each slot caller frames (mu-law) and assistant frames (16 or 24 kHz PCM)."""
    random_ = np.random.default_rng(seed)
    caller, speech = [], []
    for n in range(SLOTS):
        # Bursts of loud and quiet, so that the level gate opens and closes.
        loud = np.repeat(random_.integers(0, 2, frames // 25 + 1), 25)[:frames]
        pcm = random_.normal(0, 1, (frames, 160)) * np.where(loud, 6000, 6)[:, None]
        codes = g711.encode(Encoding.MULAW, pcm.clip(-32768, 32767).astype(np.int16))
        caller.append([row.tobytes() for row in codes])
        wide = random_.normal(0, 5000, (frames, (320, 480)[n % 2])).clip(-32768, 32767)
        speech.append([row.tobytes() for row in wide.astype(np.int16)])
    return caller, speech


class DspPair:
    """Two DSP processes, one of them serving; a killed one is replaced as the standby."""

    def __init__(self, arena: Arena, mode: VadMode, *, gated: bool) -> None:
        self._arena, self._mode, self._gated = arena, mode, gated
        self.board = Scoreboard([RowName("dsp", 0), RowName("dsp", 1)], 1)
        self._wakes = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2)]
        self._worker_fd = os.eventfd(0, os.EFD_NONBLOCK)
        self._alive_read, self._alive_write = os.pipe()
        self._pids = [self._start(n) for n in range(2)]
        for n in range(2):
            self._wait_ready(n)

    def ring(self) -> None:
        """Wake the serving process."""
        os.eventfd_write(self._wakes[self.board.dsp_of(0)], 1)

    def kill(self) -> None:
        """Kill the serving process at whatever it is doing, let the standby take over."""
        victim = self.board.dsp_of(0)
        other = 1 - victim
        self._wait_ready(other)
        _kill(self._pids[victim])
        self.board.assign(0, other)
        os.eventfd_write(self._wakes[other], 1)
        self._pids[victim] = self._start(victim)

    def close(self) -> None:
        """End both."""
        for pid in self._pids:
            _kill(pid)
        fds = (*self._wakes, self._worker_fd, self._alive_read, self._alive_write)
        for fd in fds:
            os.close(fd)

    def _start(self, n: int) -> int:
        row = self.board.row("dsp", n)
        row.take(0, time.monotonic_ns())
        return _fork(
            lambda: dsp_process.main(
                row=row,
                board=self.board,
                index=n,
                arenas=(self._arena,),
                wake_fd=self._wakes[n],
                worker_fds=(self._worker_fd,),
                alive_fd=self._alive_read,
                vad=self._mode,
                tick_ms=2,
                gated=self._gated,
            )
        )

    def _wait_ready(self, n: int) -> None:
        give_up_at = time.monotonic() + _READY_TIMEOUT_S
        while self.board.row("dsp", n).get(Field.PHASE) != Phase.READY:
            assert time.monotonic() < give_up_at, "the DSP process does not get ready"
            time.sleep(0.002)


def stream(frames: int, kills: int, seed: int, *, gated: bool) -> tuple[list[Heard], int]:
    """All output of 64 slots; the serving process is killed ``kills`` times on the way."""
    arena, dice = Arena.create(SLOTS), random.Random(seed)
    streams, pair = Streams(arena, frames, seed), DspPair(arena, "silero", gated=gated)
    killed, kill_at = 0, time.monotonic() + 0.02
    try:
        while not streams.exchange():
            pair.ring()
            if killed < kills and time.monotonic() >= kill_at:
                time.sleep(dice.uniform(0, 0.004))
                pair.kill()
                killed += 1
                kill_at = time.monotonic() + dice.uniform(0, 0.03)
            time.sleep(0.001)
    finally:
        pair.close()
        streams.close()
        arena.close()
    return streams.heard, killed


def torture_dsp(kills: int, seed: int, *, gated: bool) -> DspResult:
    """Compare a run with kills with one without."""
    frames = max(200, kills * 8)
    calm, _ = stream(frames, 0, seed, gated=gated)
    hurt, killed = stream(frames, kills, seed, gated=gated)

    def gather(run: list[Heard], part: Callable[[Heard], bytes]) -> NDArray[np.uint8]:
        return np.frombuffer(b"".join(map(part, run)), np.uint8)

    pcm_calm, pcm_hurt = (
        gather(run, lambda h: b"".join(h.pcm)).view("<i2").astype(int) for run in (calm, hurt)
    )
    codes_calm, codes_hurt = (gather(run, lambda h: b"".join(h.encoded)) for run in (calm, hurt))
    p_calm, p_hurt = (np.array([h.probability for h in run]) for run in (calm, hurt))
    return DspResult(
        kills=killed,
        frames=2 * frames * SLOTS,
        frames_lost=(len(pcm_calm) - len(pcm_hurt)) * 2 // PCM_FRAME_BYTES,
        pcm_difference_max=int(np.abs(pcm_calm - pcm_hurt).max()),
        codes_different=float(np.mean(codes_calm != codes_hurt)),
        probability_difference_max=float(np.abs(p_calm - p_hurt).max()),
    )


def _fork(run: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            run()
        finally:
            os._exit(1)
    return pid


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def main(arguments: list[str] | None = None) -> int:
    """Run both and print what was found; status 1 when anything was damaged."""
    parser = argparse.ArgumentParser(prog="python -m audio.torture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="how long the ring run lasts")
    parser.add_argument("--kills", type=int, default=200, help="kills of the DSP process")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    say = sys.stdout.write
    ring = torture_ring(given.seconds, given.seed)
    say(
        f"ring: {ring.kills} kills, {ring.cells} cells: "
        f"{ring.corrupt} corrupt or repeated, {ring.lost} lost\n"
    )
    good = ring.corrupt == ring.lost == 0
    for gated in (True, False):
        dsp = torture_dsp(given.kills, given.seed, gated=gated)
        say(
            f"DSP, level gate {'on' if gated else 'off'}: {dsp.kills} kills, {dsp.frames} frames: "
            f"{dsp.frames_lost} lost, PCM differs by {dsp.pcm_difference_max} at most, "
            f"{dsp.codes_different:.6%} of the encoded bytes, "
            f"probability by {dsp.probability_difference_max:.1e} at most\n"
        )
        good &= dsp.frames_lost == 0 and dsp.pcm_difference_max <= 1
        good &= dsp.probability_difference_max <= 1e-5
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
