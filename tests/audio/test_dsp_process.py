"""The DSP step on real rings: right samples, fresh streams, redo after a kill, damage, formats."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio import g711
from audio.arena import Arena
from audio.dsp_process import main
from audio.format import PCM_RATE, TTS_RATE, WIRE_FORMATS, Encoding
from audio.layout import CELLS, META_WORDS, Meta
from supervisor.scoreboard import Field, Phase, RowName, Scoreboard
from tests.audio.plane import Plane, cut, noise, one_shot, samples_of, wire_bytes

FRAMES = 40
#: A codec with a state has tests of its own (test_codec_calls.py).
STATELESS = [encoding for encoding, wire in WIRE_FORMATS.items() if not wire.stateful]


@pytest.mark.parametrize("encoding", STATELESS, ids=lambda e: e.name)
def test_caller_audio_is_decoded_and_resampled_as_if_there_were_no_rings(
    make_plane: Callable[..., Plane], encoding: Encoding
) -> None:
    plane, wire = make_plane(), WIRE_FORMATS[encoding]
    slot = plane.slots[1]
    slot.lease(encoding, tag=5)
    samples = noise(wire.frame_samples * FRAMES, seed=1)
    raw = wire_bytes(encoding, samples)
    heard = plane.hear(slot, cut(raw, wire.frame_bytes))
    got = np.frombuffer(b"".join(pcm for pcm, _, _ in heard), np.int16)
    expected = one_shot(wire.rate, PCM_RATE, samples_of(encoding, raw))
    assert len(got) == len(expected)
    assert np.abs(got.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("rate", [PCM_RATE, TTS_RATE])
@pytest.mark.parametrize("encoding", STATELESS, ids=lambda e: e.name)
def test_assistant_audio_is_resampled_and_encoded_as_if_there_were_no_rings(
    make_plane: Callable[..., Plane], encoding: Encoding, rate: int
) -> None:
    plane, wire = make_plane(), WIRE_FORMATS[encoding]
    slot = plane.slots[0]
    slot.lease(encoding, tag=5)
    samples = noise(rate // 50 * FRAMES, seed=2)
    spoken = b"".join(plane.speak(slot, cut(samples.tobytes(), rate // 50 * 2)))
    expected = one_shot(rate, wire.rate, samples)
    if wire.byte_order is not None:
        got = samples_of(encoding, spoken).astype(int)
        assert np.abs(got - expected).max() <= 1
    else:
        codes = np.frombuffer(spoken, np.uint8)
        different = np.mean(codes != g711.encode(encoding, expected))
        assert different < 0.01, "one LSB may cross a decision boundary, now and then"


def test_slots_of_all_formats_go_through_one_pass(make_plane: Callable[..., Plane]) -> None:
    plane = make_plane(slots=2 * len(Encoding), mode="silero")
    for n, slot in enumerate(plane.slots):
        encoding = list(Encoding)[n % len(Encoding)]
        slot.lease(encoding, tag=n + 1)
        silence = bytes([WIRE_FORMATS[encoding].silence]) * WIRE_FORMATS[encoding].frame_bytes
        assert slot.caller.push(silence)
        assert slot.assistant.push(bytes((640, 960)[n % 2]))
    assert plane.loop.turn([0]) == [0]
    assert plane.loop.turn([0]) == [0]
    for slot in plane.slots:
        [(pcm, _, _)] = slot.heard()
        assert max(np.abs(np.frombuffer(pcm, np.int16))) <= 16, "a code step"
        assert len(slot.encoded()) == 1
    assert plane.row.counter("dsp_frames") == 4 * len(Encoding)


@settings(max_examples=10)
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
        while (slot.caller._words[slot.caller._published_at] - old_frames) % 8:
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
        plane.outputs.close()
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
            slot.heard()
            slot.caller.push(wire_bytes(Encoding.MULAW, noise(160, seed=step * 3 + n)))
        commit, plane.bank.commit_caller = plane.bank.commit_caller, lambda ready: None  # type: ignore[method-assign]
        plane.loop.turn([0])
        once = bytes(arena.buffer)
        plane.loop.turn([0])
        assert bytes(arena.buffer) == once
        plane.bank.commit_caller = commit  # type: ignore[method-assign]
        plane.work()


@pytest.mark.parametrize("word", [Meta.SEQUENCE, Meta.LENGTH])
def test_a_damaged_cell_is_counted_and_never_played(
    make_plane: Callable[..., Plane], word: Meta
) -> None:
    plane = make_plane()
    slot = plane.slots[0]
    slot.lease(Encoding.MULAW, tag=3)
    for n in range(5):
        slot.assistant.push(noise(320, seed=n).tobytes())
    slot.assistant._words[slot.assistant._meta_at + 2 * META_WORDS + word] = 2**33
    plane.work()
    assert plane.row.counter("dsp_bad_cells") == 1
    assert len(slot.encoded()) == 4
    assert plane.outputs.assistant.bad.tolist() == [1, 0]


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
    while heard := slot.heard():
        taken += len(heard)
        plane.work()
    assert taken == pushed, "and nothing was lost"


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
    assert len(slot.heard()) == 1
    os.kill(pids[0], signal.SIGTERM)
    os.close(alive_write)
    for pid in pids:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
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


def test_how_long_frames_waited_is_told_for_the_slot_furthest_behind(
    make_plane: Callable[..., Plane],
) -> None:
    plane = make_plane()
    nbytes = WIRE_FORMATS[Encoding.MULAW].frame_bytes
    for slot, behind in zip(plane.slots, (2, 5), strict=False):
        slot.lease(Encoding.MULAW, tag=1)
        for _ in range(behind):
            assert slot.caller.push(bytes(nbytes))
            assert slot.assistant.push(bytes(PCM_RATE // 50 * 2))
    plane.work()
    ages, total_ms = plane.row.histogram("dsp_queue_age_ms")
    assert (sum(ages), total_ms) == (5, (5 + 4 + 3 + 2 + 1) * 20)
    for ring in ("caller_ring_frames_max", "assistant_ring_frames_max"):
        assert plane.row.counter(ring) == 5
