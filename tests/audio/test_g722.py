"""G.722: what comes back, in pieces and whole; one object a stream, fresh where none fits."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from audio.format import PCM_FRAME_BYTES, PCM_RATE, WIRE_FORMATS, Encoding
from audio.g722 import Bytes, Codecs, Rows, new_codec
from tests.audio.listening import clips
from tests.audio.plane import cut, noise, samples_of, wire_bytes

Samples = NDArray[np.int16]

FRAME = 320
#: Of the filter bank that splits the bands and joins them again, both ways.
DELAY_SAMPLES = 22


def rows(
    *slots: int, frame: int = 0, tag: int = 1, generation: int = 1, begun: bool = False
) -> Rows:
    """The next frame of some slots."""
    one = np.ones(len(slots), np.int64)
    return Rows(np.array(slots), frame * one, tag * one, generation * one, one * begun > 0)


def batch(*frames: bytes) -> Bytes:
    return np.frombuffer(b"".join(frames), np.uint8).reshape(len(frames), -1)


def there_and_back(samples: Samples) -> Samples:
    return samples_of(Encoding.G722, wire_bytes(Encoding.G722, samples))


def snr_db(sent: Samples, heard: Samples) -> float:
    """Signal to noise, the codec's delay taken out, after its steps have adapted."""
    signal = sent[1600:-DELAY_SAMPLES].astype(np.float64)
    error = heard[1600 + DELAY_SAMPLES :] - signal
    return float(10 * np.log10(np.square(signal).sum() / np.square(error).sum()))


@pytest.mark.parametrize(("hertz", "least_db"), [(300, 35), (1000, 32), (3400, 30), (6500, 20)])
@pytest.mark.parametrize("amplitude", [300, 3000, 30_000])
def test_a_tone_comes_back(hertz: int, amplitude: int, least_db: float) -> None:
    """Six bits a sample up to 4 kHz, two beyond."""
    phase = 2 * np.pi * hertz * np.arange(PCM_RATE) / PCM_RATE
    tone = (amplitude * np.sin(phase)).astype(np.int16)
    assert snr_db(tone, there_and_back(tone)) >= least_db


def test_speech_comes_back() -> None:
    for clip in clips(PCM_RATE)[:3]:
        speech = (clip * 30_000).astype(np.int16)[: PCM_RATE * 4]
        assert snr_db(speech, there_and_back(speech)) >= 15


def test_the_codes_are_those_of_the_release_that_was_checked() -> None:
    """Whole numbers only, so that the input is the same everywhere: a chirp of triangles."""
    n = np.arange(4 * PCM_RATE, dtype=np.int64)
    triangle = np.abs((n * n // 64) % 4096 - 2048) * 14 - 14_336
    codes = wire_bytes(Encoding.G722, triangle.astype(np.int16))
    decoded = samples_of(Encoding.G722, codes).astype("<i2").tobytes()
    found = [sha256(data).hexdigest()[:16] for data in (codes, decoded)]
    assert found == ["2750ec44c841e93e", "0e3058c3d176ee07"]


@given(st.integers(0, 2**32), st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_pieces_equal_the_whole(seed: int, sizes: list[int]) -> None:
    samples = noise(2 * sum(sizes), seed, 30_000)
    coder, decoder = new_codec(), new_codec()
    codes, heard, at = b"", b"", 0
    for size in sizes:
        piece = coder.encode(samples[at : at + 2 * size])
        codes += piece
        heard += bytes(decoder.decode(piece))
        at += 2 * size
    assert codes == wire_bytes(Encoding.G722, samples)
    assert heard == samples_of(Encoding.G722, codes).tobytes()


@given(st.integers(0, 2**32), st.permutations([0, 1, 2, 3, 4] * 3))
def test_streams_do_not_touch_each_other(seed: int, order: list[int]) -> None:
    """Whatever the order in which five slots are served, and in whatever batches."""
    streams = [noise(3 * FRAME, seed + n) for n in range(5)]
    codecs, done = Codecs(), [0] * 5
    heard = [b""] * 5
    for start in range(0, len(order), 4):
        served = sorted(set(order[start : start + 4]))
        frames = [streams[n][done[n] * FRAME :][:FRAME].tobytes() for n in served]
        where = rows(*served)._replace(frame=np.array([done[n] for n in served]))
        codes, restarts = codecs.encode(where, batch(*frames))
        assert restarts == 0
        for n, row in zip(served, codes, strict=True):
            heard[n] += row.tobytes()
            done[n] += 1
    for n in range(5):
        assert heard[n] == wire_bytes(Encoding.G722, streams[n][: done[n] * FRAME])


def encoded(frames: int = 6, seed: int = 1) -> list[bytes]:
    return cut(wire_bytes(Encoding.G722, noise(frames * FRAME, seed)), 160)


def fresh(frame: bytes) -> bytes:
    return samples_of(Encoding.G722, frame).tobytes()


@pytest.mark.parametrize("begun", [False, True])
def test_a_new_tag_begins_afresh_and_is_no_restart(*, begun: bool) -> None:
    """But for a stream that was under way elsewhere: it went on here without its past."""
    codecs, frames = Codecs(), encoded()
    codecs.decode(rows(3, frame=0, tag=1), batch(frames[0]))
    pcm, restarts = codecs.decode(rows(3, frame=1, tag=2, begun=begun), batch(frames[1]))
    assert (pcm.tobytes(), restarts) == (fresh(frames[1]), begun)
    assert len(codecs) == 1


def test_a_stream_that_comes_from_another_process_is_restarted() -> None:
    frames = encoded()
    pcm, restarts = Codecs().decode(rows(3, frame=5, begun=True), batch(frames[5]))
    assert (pcm.tobytes(), restarts) == (fresh(frames[5]), 1)


@pytest.mark.parametrize("frame", [0, 2, 3, 34], ids=["repeated", "hole", "more", "a round later"])
def test_any_but_the_next_frame_restarts(frame: int) -> None:
    codecs, frames = Codecs(), encoded()
    codecs.decode(rows(3, frame=0), batch(frames[0]))
    pcm, restarts = codecs.decode(rows(3, frame=frame), batch(frames[2]))
    assert (pcm.tobytes(), restarts) == (fresh(frames[2]), 1)
    pcm, restarts = codecs.decode(rows(3, frame=frame + 1, begun=True), batch(frames[3]))
    assert pcm.tobytes() == fresh(frames[2] + frames[3])[PCM_FRAME_BYTES:]
    assert restarts == 0


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(1, 3)), max_size=30))
def test_a_slot_has_one_object_until_it_is_leased_again(leases: list[tuple[int, int]]) -> None:
    codecs, generation = Codecs(), np.ones(8, np.int64)
    for slot, leased in leases:
        generation[slot] += leased - 1
        which = rows(slot, tag=int(generation[slot]), generation=int(generation[slot]))
        codecs.decode(which, batch(bytes(160)))
        assert len(codecs) <= 8
    codecs.forget(generation)
    assert len(codecs) == len({slot for slot, _ in leases})
    codecs.forget(generation + 1)
    assert len(codecs) == 0


def test_a_frame_of_silence_is_silent() -> None:
    silence = bytes([WIRE_FORMATS[Encoding.G722].silence]) * 160 * 50
    assert np.abs(samples_of(Encoding.G722, silence)).max() <= 3
