"""What a caller heard, as a WAV file; and the transcripts, where the wire carries them."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from loadtest.caller import Caller
from loadtest.clips import FULL_SCALE, resample, to_pcm16
from loadtest.errors import UsageError
from loadtest.recorder import Recorder
from loadtest.schedule import NS_PER_MS, NS_PER_SECOND
from loadtest.wires import PLAIN, Wire

HEARD_RATE = 8000


def make_folder(folder: Path) -> None:
    """Make the folder; raises UsageError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--save-heard {folder}: {error.strerror}") from error


def save_heard(folder: Path, caller: Caller, wire: Wire) -> None:
    """Write ``call-NNN.wav`` (8 kHz PCM16, from the call's opening on) and the transcripts."""
    if not caller.record.opened_ns:
        return
    name = f"call-{caller.plan.index:03d}"
    samples = heard(caller, wire)
    if wire.rate != HEARD_RATE:
        floats = samples.astype(np.float32) / np.float32(FULL_SCALE)
        samples = to_pcm16(resample(floats, wire.rate, HEARD_RATE))
    with wave.open(str(folder / f"{name}.wav"), "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(HEARD_RATE)
        writer.writeframes(samples.astype("<i2").tobytes())
    if wire is PLAIN:
        (folder / f"{name}.json").write_bytes(transcripts(caller.record))


def heard(caller: Caller, wire: Wire) -> NDArray[np.int16]:
    """Samples at the wire's rate on the call's own time line; silence where nothing was played."""
    record, playout = caller.record, caller.playout
    length_ns = max(record.closed_ns - record.opened_ns, 0)
    line = np.zeros(length_ns * wire.rate // NS_PER_SECOND, np.int16)
    at, decode = 0, wire.assistant.decoder()
    for start_ns, length, played in zip(
        playout.starts, record.lengths, playout.played, strict=True
    ):
        audio = memoryview(record.audio)[at : at + played - played % wire.assistant.unit]
        at += length
        begin = (start_ns - record.opened_ns) * wire.rate // NS_PER_SECOND
        samples = decode(audio)[: max(0, len(line) - begin)]
        line[begin : begin + len(samples)] = samples
    return line


def transcripts(record: Recorder) -> bytes:
    """A JSON list of what the server said was said, in the order of arrival."""
    return orjson.dumps(
        [
            {
                "at_ms": (said.at_ns - record.opened_ns) // NS_PER_MS,
                "role": said.role,
                "text": said.text,
            }
            for said in record.transcripts
        ],
        option=orjson.OPT_INDENT_2,
    )
