"""Frames are told by their sound, whatever happened to them on the way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loadtest import mulaw
from loadtest.clips import load_clips
from loadtest.identify import Echo, Identification, Reference, identify
from loadtest.material import conversation_loop
from loadtest.options import DEFAULT_AUDIO
from loadtest.schedule import FRAME_NS, NS_PER_MS
from loadtest.wires import PLAIN, TWILIO, Wire
from tests.loadtest.echo_server import low_pass

FRAMES = 150
NONE = np.empty(0, np.int64)
Floats = NDArray[np.float32]


@cache
def reference(wire: Wire = TWILIO) -> Reference:
    return Reference(conversation_loop(load_clips(DEFAULT_AUDIO, wire.rate), wire, 1).samples)


def sent_frames(offset: int, count: int = FRAMES, wire: Wire = TWILIO) -> Floats:
    rows = reference(wire).samples[reference(wire).rows(offset, offset + count)]
    assert rows.shape == (count, wire.frame_samples)
    return rows


def through_a_server(samples: Floats, taps: int = 47) -> Floats:
    """Up to twice the rate and back through FIR filters, and mu-law, as 20 ms rows."""
    response = low_pass(taps, 3700 / 16000)
    wide = np.zeros(2 * samples.size)
    wide[::2] = 2 * samples.ravel()
    wide = np.convolve(wide, response)[: wide.size]
    narrow = np.convolve(wide, response)[: wide.size : 2]
    pcm = np.clip(np.rint(narrow * 32768), -32768, 32767).astype(np.int16)
    heard = mulaw.decode(mulaw.encode(pcm)).astype(np.float32) / np.float32(32768)
    return heard.reshape(samples.shape)


class Came(NamedTuple):
    """What came of a call: the frames in their order of arrival."""

    order: Sequence[int]
    offset: int = 1000
    latency_ms: int = 20


def found(came: Came, received: Floats | None = None, sent: int = FRAMES) -> Identification:
    """Identify frames that arrived as fast as they were sent, in the given order."""
    if received is None:
        received = through_a_server(sent_frames(came.offset, sent))[list(came.order)]
    arrival = np.arange(len(received)) * FRAME_NS + came.latency_ms * NS_PER_MS
    # No frame can arrive before it was sent: a lost one makes room, so later ones keep their time.
    newest = np.maximum.accumulate(np.array(came.order, np.int64)) if len(came.order) else arrival
    arrival = np.maximum(arrival, newest * FRAME_NS + came.latency_ms * NS_PER_MS)
    echo = Echo(came.offset, sent, 0, received, arrival)
    return identify(reference(), echo)


@settings(max_examples=25)
@example(offset=1129, taps=46, latency=0)  # a pause, but for the onset of a vowel at the very end
@given(st.integers(0, 2**32), st.sampled_from([31, 46, 47, 64, 95]), st.integers(0, 400))
def test_every_frame_of_an_undisturbed_call_is_told(offset: int, taps: int, latency: int) -> None:
    received = through_a_server(sent_frames(offset), taps)
    result = found(Came(range(FRAMES), offset, latency), received)
    # The first rows hold the silence in which a filter begins.
    assert result.frames[3:].tolist() == list(range(3, FRAMES))
    assert result.delay_samples == pytest.approx((taps - 1) / 2, abs=0.13)


def test_nearly_every_frame_of_the_whole_loop_is_told() -> None:
    count = reference().frames
    received = through_a_server(sent_frames(0, count))
    result = found(Came(range(count), 0), received, count)
    assert np.mean(result.frames == np.arange(count)) >= 0.999


@settings(max_examples=25)
@given(st.data())
def test_permutations_losses_and_repetitions_are_found(data: st.DataObject) -> None:
    order = list(range(FRAMES))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(5, len(order) - 10))
        kind = data.draw(st.sampled_from(["drop", "repeat", "swap"]))
        if kind == "drop":
            del order[at : at + data.draw(st.integers(1, 5))]
        elif kind == "repeat":
            order.insert(at, order[at])
        else:
            order[at], order[at + 2] = order[at + 2], order[at]
    result = found(Came(order))
    assert result.frames[3:].tolist() == order[3:]


def test_what_nobody_sent_is_nobodys_frame() -> None:
    received = through_a_server(sent_frames(1000))
    foreign = through_a_server(sent_frames(3000))
    received[40:60] = foreign[40:60]
    result = found(Came(range(FRAMES)), received)
    assert (result.frames[41:59] == -1).all()
    assert result.frames[61:].tolist() == list(range(61, FRAMES))
    assert set(range(41, 59)) <= set(result.in_place(NONE).tolist())


def test_silence_and_noise_are_not_told() -> None:
    noise = np.random.default_rng(7).normal(0, 0.1, (FRAMES, 160)).astype(np.float32)
    for received in (np.zeros((FRAMES, 160), np.float32), noise):
        result = found(Came(range(FRAMES)), received)
        assert result.delay_samples is None
        assert (result.frames == -1).all()


def test_nothing_received() -> None:
    result = found(Came([]), np.empty((0, 160), np.float32))
    assert result.frames.size == 0
    assert result.in_place(NONE).size == 0


@pytest.mark.parametrize("received", [1, 2, 7])
def test_a_very_short_call(received: int) -> None:
    rows = through_a_server(sent_frames(1000))[:received]
    result = found(Came(range(received)), rows)
    assert set(result.frames.tolist()) <= {-1, *range(received)}


def test_a_frame_that_is_ten_seconds_late_is_still_told() -> None:
    count = 700
    order = [*range(100), *range(101, count), 100]
    received = through_a_server(sent_frames(1000, count))[order]
    result = found(Came(order), received, count)
    assert result.frames[-1] == 100


def test_a_frame_cannot_be_one_that_was_not_yet_due() -> None:
    received = through_a_server(sent_frames(1000))
    arrival = np.arange(FRAMES) * FRAME_NS - 10 * FRAME_NS  # ten frames too soon
    result = identify(reference(), Echo(1000, FRAMES, 0, received, arrival))
    assert not np.any(result.frames == np.arange(FRAMES))


def test_the_wide_band_wire_too() -> None:
    rows = sent_frames(500, FRAMES, PLAIN)
    delayed = np.concatenate([np.zeros(11, np.float32), rows.ravel()])[: rows.size]
    arrival = np.arange(FRAMES) * FRAME_NS + 5 * NS_PER_MS
    echo = Echo(500, FRAMES, 0, delayed.reshape(rows.shape), arrival)
    result = identify(reference(PLAIN), echo)
    assert result.frames.tolist() == list(range(FRAMES))
    assert result.delay_samples == 11


def test_frames_that_were_never_sent_leave_no_room() -> None:
    frames = np.array([0, 1, -1, 6, -1, 8])  # 3, 4 and 5 never reached the server
    found = Identification(frames, 0.0).in_place(np.array([5, 3, 4]))
    assert found.tolist() == [2, 7]
    assert Identification(frames, 0.0).in_place(NONE).tolist() == [7]


def test_a_seam_is_what_its_neighbours_leave_room_for() -> None:
    heard = np.array([0, 1, 7, 4, 5, 5, 9, 10, 12])  # 2, 6, 7 and 11 never reached the server
    found = Identification(heard, 0.0).with_seams(np.array([2, 6, 7, 11]))
    assert found.frames.tolist() == [0, 1, 3, 4, 5, 8, 9, 10, 12]
    assert Identification(heard, 0.0).with_seams(NONE).frames.tolist() == heard.tolist()


def test_in_place_needs_neighbours_that_agree() -> None:
    unknown = -1
    frames = np.array([unknown, 4, unknown, 6, unknown, unknown, 11, unknown])
    assert Identification(frames, 0.0).in_place(NONE).tolist() == [5]


@pytest.mark.parametrize(("frames", "held"), [([-1, -1, 2, 3], [0, 1]), ([-1, 0, 1], [])])
def test_the_beginning_is_a_neighbour_too(frames: list[int], held: list[int]) -> None:
    assert Identification(np.array(frames), 0.0).in_place(NONE).tolist() == held
