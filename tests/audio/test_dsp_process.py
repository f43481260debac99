"""The DSP step on real rings: right samples, fresh streams, redo after a kill, damage, formats."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audio import g711
from audio.arena import Arena
from audio.bank import Bank
from audio.batch import VadMode
from audio.dsp_process import AudioPlane, DspLoop, main
from audio.format import PCM_RATE, TTS_RATE, WIRE_FORMATS, Encoding
from audio.layout import CELLS, META_WORDS, Meta, SlotWord
from audio.resample import Resampler, to_int16
from audio.ring import CallerReader, RingReader, RingWriter, slot_word
from supervisor.scoreboard import Field, Phase, Row, RowName, Scoreboard

FRAMES = 40


@dataclass
class Slot:
    """A worker's end of one slot, leased with a tag."""

    caller: RingWriter
    heard: CallerReader
    assistant: RingWriter
    encoded: RingReader
    encoding: memoryview

    def close(self) -> None:
        for end in (self.caller, self.heard, self.assistant, self.encoded):
            end.close()
        self.encoding.release()

    def lease(self, encoding: Encoding, tag: int) -> None:
        self.encoding[0] = encoding
        self.caller.tag = self.heard.tag = self.assistant.tag = self.encoded.tag = tag
        self.heard.discard()
        self.encoded.discard()


class Plane:
    """An arena with its DSP loop in this process, and workers' ends of its slots."""

    def __init__(self, arena: Arena, mode: VadMode = "off") -> None:
        self.row: Row = Scoreboard([RowName("dsp", 0)], 1).row("dsp", 0)
        self.bank = Bank(arena)
        self.plane = AudioPlane(mode)
        self.loop = DspLoop(self.plane, [self.bank], self.row, 10)
        layout = arena.layout
        self.slots = [
            Slot(
                RingWriter(arena, layout.caller_wire, n),
                CallerReader(arena, n),
                RingWriter(arena, layout.assistant_pcm, n),
                RingReader(arena, layout.assistant_wire, n),
                slot_word(arena, SlotWord.ENCODING, n),
            )
            for n in range(layout.slots)
        ]

    def work(self) -> None:
        while self.loop.turn([0]):
            pass

    def hear(self, slot: Slot, frames: list[bytes]) -> list[tuple[bytes, float, float]]:
        """Push caller frames one by one and collect what comes out."""
        heard = []
        for frame in frames:
            assert slot.caller.push(frame)
            self.work()
            while (result := slot.heard.pop_heard()) is not None:
                heard.append(result)
        return heard

    def speak(self, slot: Slot, frames: list[bytes]) -> list[bytes]:
        """Push assistant frames one by one and collect what comes out."""
        spoken = []
        for frame in frames:
            assert slot.assistant.push(frame)
            self.work()
            while (result := slot.encoded.pop()) is not None:
                spoken.append(result)
        return spoken

    def close(self) -> None:
        for slot in self.slots:
            slot.close()


@pytest.fixture
def make_plane(make_arena: Callable[[int], Arena]) -> Callable[..., Plane]:
    return lambda slots=2, mode="off": Plane(make_arena(slots), mode)


def noise(samples: int, seed: int, level: int = 8000) -> NDArray[np.int16]:
    random = np.random.default_rng(seed)
    return random.integers(-level, level, samples).astype(np.int16)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def wire_bytes(encoding: Encoding, samples: NDArray[np.int16]) -> bytes:
    return (
        samples.tobytes()
        if encoding is Encoding.PCM16
        else g711.encode(encoding, samples).tobytes()
    )


def one_shot(rate_in: int, rate_out: int, samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """The resampler frame by frame over the whole signal, without any ring."""
    resampler = Resampler.make(rate_in, rate_out)
    padded = np.concatenate((np.zeros(resampler.history), samples)).astype(np.float32)
    frame = rate_in // 50
    rows = [padded[at : at + resampler.history + frame] for at in range(0, len(samples), frame)]
    return to_int16(resampler(np.array(rows))).ravel()


@pytest.mark.parametrize("encoding", list(Encoding))
def test_caller_audio_is_decoded_and_resampled_as_if_there_were_no_rings(
    make_plane: Callable[..., Plane], encoding: Encoding
) -> None:
    plane, wire = make_plane(), WIRE_FORMATS[encoding]
    slot = plane.slots[1]
    slot.lease(encoding, tag=5)
    samples = noise(wire.frame_samples * FRAMES, seed=1)
    raw = wire_bytes(encoding, samples)
    heard = plane.hear(slot, cut(raw, wire.frame_bytes))
    if encoding is not Encoding.PCM16:
        samples = g711.decode(encoding, np.frombuffer(raw, np.uint8))
    got = np.frombuffer(b"".join(pcm for pcm, _, _ in heard), np.int16)
    expected = one_shot(wire.rate, PCM_RATE, samples)
    assert len(got) == len(expected)
    assert np.abs(got.astype(int) - expected).max() <= 1
    plane.close()


@pytest.mark.parametrize("rate", [PCM_RATE, TTS_RATE])
@pytest.mark.parametrize("encoding", list(Encoding))
def test_assistant_audio_is_resampled_and_encoded_as_if_there_were_no_rings(
    make_plane: Callable[..., Plane], encoding: Encoding, rate: int
) -> None:
    plane, wire = make_plane(), WIRE_FORMATS[encoding]
    slot = plane.slots[0]
    slot.lease(encoding, tag=5)
    samples = noise(rate // 50 * FRAMES, seed=2)
    spoken = b"".join(plane.speak(slot, cut(samples.tobytes(), rate // 50 * 2)))
    expected = one_shot(rate, wire.rate, samples)
    if encoding is Encoding.PCM16:
        got = np.frombuffer(spoken, np.int16)
        assert np.abs(got.astype(int) - expected).max() <= 1
    else:
        got = np.frombuffer(spoken, np.uint8)
        different = np.mean(got != g711.encode(encoding, expected))
        assert different < 0.01, "one LSB may cross a decision boundary, now and then"
    plane.close()


def test_slots_of_all_formats_go_through_one_pass(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(slots=6, mode="silero")
    for n, slot in enumerate(plane.slots):
        encoding = list(Encoding)[n % 3]
        slot.lease(encoding, tag=n + 1)
        silence = bytes([WIRE_FORMATS[encoding].silence]) * WIRE_FORMATS[encoding].frame_bytes
        assert slot.caller.push(silence)
        assert slot.assistant.push(bytes((640, 960)[n % 2]))
    assert plane.loop.turn([0]) == [0]
    assert plane.loop.turn([0]) == [0]
    for slot in plane.slots:
        heard = slot.heard.pop_heard()
        assert heard is not None
        assert max(np.abs(np.frombuffer(heard[0], np.int16))) <= 16, "a code step"
        assert slot.encoded.pop() is not None
    assert plane.row.counter("dsp_frames") == 12
    plane.close()


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.integers(1, 30))
def test_a_new_lease_hears_nothing_of_the_old_one(seed: int, old_frames: int) -> None:
    """Results, probabilities included, are those of a slot never used before."""
    arenas = [Arena.create(1), Arena.create(1)]
    used, fresh = (Plane(arena, "silero") for arena in arenas)
    used.slots[0].lease(Encoding.MULAW, tag=1)
    loud = cut(wire_bytes(Encoding.MULAW, noise(160 * old_frames, seed, 30_000)), 160)
    used.hear(used.slots[0], loud)
    used.speak(used.slots[0], [noise(320, seed).tobytes()] * old_frames)
    frames = cut(wire_bytes(Encoding.MULAW, noise(160 * 20, seed + 1)), 160)
    speech = [noise(480, seed + 2).tobytes()] * 5
    results = []
    for plane in (used, fresh):
        slot = plane.slots[0]
        # The same position in the ring decides where windows of 32 ms begin.
        while (slot.caller._published[0] - old_frames) % 8:
            plane.hear(slot, loud[:1])
        slot.lease(Encoding.MULAW, tag=2)
        results.append((plane.hear(slot, frames), plane.speak(slot, speech)))
    (heard_used, spoken_used), (heard_fresh, spoken_fresh) = results
    for (pcm, p, level), (pcm_fresh, p_fresh, level_fresh) in zip(
        heard_used, heard_fresh, strict=True
    ):
        assert pcm == pcm_fresh
        assert (p, level) == pytest.approx((p_fresh, level_fresh), abs=1e-5)
    assert spoken_used == spoken_fresh
    for plane, arena in zip((used, fresh), arenas, strict=True):
        plane.close()
        del plane.bank, plane.loop
        arena.close()


def test_a_step_done_twice_writes_the_same_bytes(
    make_plane: Callable[..., Plane], make_arena: Callable[[int], Arena]
) -> None:
    """A process killed after the scatter and before the commit leaves exactly this behind."""
    arena = make_arena(3)
    plane = Plane(arena, "silero")
    for n, slot in enumerate(plane.slots):
        slot.lease(Encoding.MULAW, tag=n + 1)
    for step in range(30):
        for n, slot in enumerate(plane.slots):
            slot.heard.discard()
            slot.caller.push(wire_bytes(Encoding.MULAW, noise(160, seed=step * 3 + n)))
        commit, plane.bank.commit_caller = plane.bank.commit_caller, lambda ready: None  # type: ignore[method-assign]
        plane.loop.turn([0])
        once = bytes(arena.buffer)
        plane.loop.turn([0])
        assert bytes(arena.buffer) == once
        plane.bank.commit_caller = commit  # type: ignore[method-assign]
        plane.work()
    plane.close()


@pytest.mark.parametrize("word", [Meta.SEQUENCE, Meta.LENGTH])
def test_a_damaged_cell_is_counted_and_never_played(
    make_plane: Callable[..., Plane], word: Meta
) -> None:
    plane = make_plane()
    slot = plane.slots[0]
    slot.lease(Encoding.MULAW, tag=3)
    for n in range(5):
        slot.assistant.push(noise(320, seed=n).tobytes())
    slot.assistant._meta[2 * META_WORDS + word] = 2**33
    plane.work()
    assert plane.row.counter("dsp_bad_cells") == 1
    frames = []
    while (frame := slot.encoded.pop()) is not None:
        frames.append(frame)
    assert len(frames) == 4
    assert slot.encoded.bad == 1
    plane.close()


def test_a_slot_whose_reader_sleeps_stops_being_served(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane()
    slot = plane.slots[0]
    slot.lease(Encoding.MULAW, tag=1)
    pushed = 0
    for _ in range(3 * CELLS):
        pushed += slot.caller.push(bytes(160))
        plane.loop.turn([0])
    assert pushed < 3 * CELLS, "back-pressure reaches the writer"
    taken = 0
    while slot.heard.pop_heard() is not None:
        taken += 1
        plane.work()
    assert taken == pushed, "and nothing was lost"
    plane.close()


def test_the_process_serves_until_told_to_stop_or_left_alone(
    make_arena: Callable[[int], Arena],
) -> None:
    arena = make_arena(1)
    board = Scoreboard([RowName("dsp", 0), RowName("dsp", 1)], 1)
    wakes = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2)]
    worker_fd = os.eventfd(0)
    alive_read, alive_write = os.pipe()
    pids = [_fork(board, n, arena, wakes[n], worker_fd, alive_read, alive_write) for n in range(2)]
    slot = Plane(arena).slots[0]
    slot.lease(Encoding.MULAW, tag=1)
    assert slot.caller.push(b"\xff" * 160)
    os.eventfd_write(wakes[0], 1)
    os.eventfd_read(worker_fd)
    assert slot.heard.pop_heard() is not None
    os.kill(pids[0], signal.SIGTERM)
    os.close(alive_write)
    for pid in pids:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    slot.close()
    for fd in (*wakes, worker_fd, alive_read):
        os.close(fd)


def _fork(
    board: Scoreboard,
    index: int,
    arena: Arena,
    wake_fd: int,
    worker_fd: int,
    alive_read: int,
    alive_write: int,
) -> int:
    pid = os.fork()
    if pid == 0:
        os.close(alive_write)
        row = board.row("dsp", index)
        status = main(
            row=row,
            board=board,
            index=index,
            arenas=(arena,),
            wake_fd=wake_fd,
            worker_fds=(worker_fd,),
            alive_fd=alive_read,
            vad="off",
            tick_ms=10,
        )
        os._exit(status)
    while board.row("dsp", index).get(Field.PHASE) != Phase.READY:
        os.sched_yield()
    return pid
