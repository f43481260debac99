"""Whole calls in G.722 and L16 through the rings and the DSP loop, both ways, VAD on.

A call's result must be that of a call in an encoding that is known to be right: a G.722 call is a
linear call with a codec at either end, an L16 call at 8 kHz is the G.711 call of the same samples,
and the order of bytes is nothing but that.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from audio import dsp_process
from audio.arena import Arena
from audio.format import PCM_FRAME_BYTES, PCM_RATE, TTS_RATE, WIRE_FORMATS, WIRE_RATE, Encoding
from audio.layout import SlotWord
from tests.audio.listening import clips
from tests.audio.plane import Heard, Plane, Slot, cut, noise, samples_of, wire_bytes

Samples = NDArray[np.int16]

SECONDS = 3


def speech(rate: int) -> Samples:
    """Silence of half a second, then a clip, in whole frames."""
    clip = (clips(rate)[0][: rate * SECONDS] * 30_000).astype(np.int16)
    quiet = noise(rate // 2, 5, level=8)
    return np.concatenate((quiet, clip))[: (len(quiet) + len(clip)) // 480 * 480]


def frames_of(encoding: Encoding, samples: Samples) -> list[bytes]:
    return cut(wire_bytes(encoding, samples), WIRE_FORMATS[encoding].frame_bytes)


def call(plane: Plane, slot: Slot, encoding: Encoding, frames: list[bytes]) -> Heard:
    slot.lease(encoding, tag=7)
    return plane.hear(slot, frames)


def assert_same(heard: Heard, expected: Heard) -> None:
    assert len(heard) == len(expected) > SECONDS * 50
    assert [pcm for pcm, _, _ in heard] == [pcm for pcm, _, _ in expected]
    for (_, p, level), (_, p_expected, level_expected) in zip(heard, expected, strict=True):
        assert (p, level) == pytest.approx((p_expected, level_expected), abs=1e-5)
    probabilities = [p for _, p, _ in heard]
    assert min(probabilities[:25]) < 0.2 < 0.8 < max(probabilities), "silence, then speech"


def test_a_g722_caller_is_heard_as_if_its_carrier_had_decoded(
    make_plane: Callable[..., Plane],
) -> None:
    plane = make_plane(slots=2, mode="silero")
    raw = wire_bytes(Encoding.G722, speech(PCM_RATE))
    heard = call(plane, plane.slots[0], Encoding.G722, cut(raw, 160))
    linear = frames_of(Encoding.PCM16, samples_of(Encoding.G722, raw))
    assert_same(heard, call(plane, plane.slots[1], Encoding.PCM16, linear))
    assert b"".join(pcm for pcm, _, _ in heard) == samples_of(Encoding.G722, raw).tobytes()
    assert plane.row.counter("codec_restarts") == 0


@pytest.mark.parametrize("rate", [PCM_RATE, TTS_RATE])
def test_the_assistant_speaks_g722_to_a_g722_caller(
    make_plane: Callable[..., Plane], rate: int
) -> None:
    plane = make_plane(slots=2)
    frames = cut(speech(rate).tobytes(), rate // 50 * 2)
    for slot, encoding in zip(plane.slots, (Encoding.G722, Encoding.PCM16), strict=True):
        slot.lease(encoding, tag=7)
    spoken, linear = (plane.speak(slot, frames) for slot in plane.slots)
    assert {len(frame) for frame in spoken} == {160}
    samples = np.frombuffer(b"".join(linear), np.int16)
    assert b"".join(spoken) == wire_bytes(Encoding.G722, samples)
    assert plane.row.counter("codec_restarts") == 0


@pytest.mark.parametrize("encoding", [Encoding.PCM16_8K, Encoding.PCM16_8K_BE])
def test_a_narrow_l16_caller_is_heard_like_one_in_mulaw(
    make_plane: Callable[..., Plane], encoding: Encoding
) -> None:
    plane = make_plane(slots=2, mode="silero")
    raw = wire_bytes(Encoding.MULAW, speech(WIRE_RATE))
    heard = call(
        plane, plane.slots[0], encoding, frames_of(encoding, samples_of(Encoding.MULAW, raw))
    )
    assert_same(heard, call(plane, plane.slots[1], Encoding.MULAW, cut(raw, 160)))


@pytest.mark.parametrize(
    ("big", "little"),
    [(Encoding.PCM16_BE, Encoding.PCM16), (Encoding.PCM16_8K_BE, Encoding.PCM16_8K)],
)
def test_byte_order_is_nothing_but_that(
    make_plane: Callable[..., Plane], big: Encoding, little: Encoding
) -> None:
    plane = make_plane(slots=2, mode="silero")
    samples, wide = speech(WIRE_FORMATS[big].rate), cut(speech(TTS_RATE).tobytes(), 960)
    heard = [
        call(plane, slot, encoding, frames_of(encoding, samples))
        for slot, encoding in zip(plane.slots, (big, little), strict=True)
    ]
    assert_same(*heard)
    spoken = [b"".join(plane.speak(slot, wide)) for slot in plane.slots]
    assert np.array_equal(np.frombuffer(spoken[0], ">i2"), np.frombuffer(spoken[1], "<i2"))


def test_a_caller_may_hear_another_encoding_than_it_speaks(
    make_plane: Callable[..., Plane],
) -> None:
    plane = make_plane(slots=2)
    wide = cut(speech(TTS_RATE).tobytes(), 960)
    mixed, plain = plane.slots
    mixed.lease(Encoding.ALAW, tag=7, assistant=Encoding.PCM16_BE)
    plain.lease(Encoding.PCM16_BE, tag=7)
    assert plane.speak(mixed, wide) == plane.speak(plain, wide)
    samples = speech(WIRE_RATE)
    heard = plane.hear(mixed, frames_of(Encoding.ALAW, samples))
    alone = call(plane, plain, Encoding.ALAW, frames_of(Encoding.ALAW, samples))
    assert [pcm for pcm, _, _ in heard] == [pcm for pcm, _, _ in alone]


def test_a_caller_in_g722_hears_nothing_of_an_interrupted_answer(
    make_plane: Callable[..., Plane],
) -> None:
    """A clear raises the assistant's epoch: the coder starts afresh, which is no restart."""
    plane = make_plane(slots=1)
    slot = plane.slots[0]
    slot.lease(Encoding.G722, tag=7)
    plane.speak(slot, cut(noise(320 * 5, seed=1).tobytes(), 640))
    slot.clear()
    answer = noise(320 * 5, seed=2)
    spoken = b"".join(plane.speak(slot, cut(answer.tobytes(), 640)))
    assert spoken == wire_bytes(Encoding.G722, answer)
    assert plane.row.counter("codec_restarts") == 0


def test_a_process_that_takes_over_goes_on_with_a_fresh_codec(
    make_plane: Callable[..., Plane], make_arena: Callable[[int], Arena]
) -> None:
    """The first is killed between its results and their commit: nothing of that is heard."""
    arena = make_arena(1)
    first, second = Plane(arena, "silero"), Plane(arena, "silero")
    slot = first.slots[0]
    slot.lease(Encoding.G722, tag=7)
    raw = wire_bytes(Encoding.G722, noise(320 * 20, seed=3))
    frames = cut(raw, 160)
    before = first.hear(slot, frames[:9])
    slot.caller.push(frames[9])
    first.bank.commit_caller = lambda ready: None  # type: ignore[method-assign]
    first.loop.turn([0])
    second.work()
    after = slot.heard() + second.hear(slot, frames[10:])
    assert b"".join(pcm for pcm, _, _ in before) == samples_of(Encoding.G722, raw[:1440]).tobytes()
    assert b"".join(pcm for pcm, _, _ in after) == samples_of(Encoding.G722, raw[1440:]).tobytes()
    assert second.row.counter("codec_restarts") == 1


def test_codecs_of_calls_that_are_over_are_freed(
    make_plane: Callable[..., Plane], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dsp_process, "TIDY_NS", 0)
    plane = make_plane(slots=3)
    for slot in plane.slots:
        slot.lease(Encoding.G722, tag=7)
        plane.hear(slot, [bytes(160)])
        plane.speak(slot, [bytes(PCM_FRAME_BYTES)])
    assert (len(plane.bank.decoders), len(plane.bank.encoders)) == (3, 3)
    plane.arena.words[plane.arena.layout.word_index(SlotWord.GENERATION, 1)] += 1
    plane.work()
    assert (len(plane.bank.decoders), len(plane.bank.encoders)) == (2, 2)
