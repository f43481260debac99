"""A DSP loop in the test's own process, the workers' ends of its slots, and audio to send."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from audio import g711
from audio.arena import Arena
from audio.bank import Bank
from audio.batch import VadMode
from audio.dsp_process import AudioPlane, DspLoop
from audio.format import WIRE_FORMATS, Encoding
from audio.g722 import new_codec
from audio.layout import SlotWord
from audio.resample import Resampler, to_int16
from audio.results import CallerResults, Results
from audio.ring import RingWriter
from supervisor.scoreboard import Row, RowName, Scoreboard

Heard = list[tuple[bytes, float, float]]


class Outputs:
    """Both output rings of every slot; what was taken for a slot waits until it is asked for."""

    def __init__(self, arena: Arena) -> None:
        self.caller = CallerResults(arena)
        self.assistant = Results(arena, arena.layout.assistant_wire)
        self._heard: dict[int, Heard] = defaultdict(list)
        self._encoded: dict[int, list[bytes]] = defaultdict(list)

    def begin(self, slot: int, tag: int) -> None:
        self.caller.begin(slot, tag)
        self._heard[slot].clear()
        self.begin_assistant(slot, tag)

    def begin_assistant(self, slot: int, tag: int) -> None:
        self.assistant.begin(slot, tag)
        self._encoded[slot].clear()

    def heard(self, slot: int) -> Heard:
        for n, pcm, probability, level in self.caller.take_heard():
            self._heard[n].append((pcm, probability, level))
        return self._heard.pop(slot, [])

    def encoded(self, slot: int) -> list[bytes]:
        for n, payload in self.assistant.take():
            self._encoded[n].append(payload)
        return self._encoded.pop(slot, [])

    def close(self) -> None:
        self.caller.close()
        self.assistant.close()


class Slot:
    """A worker's end of one slot, leased with a tag."""

    def __init__(self, arena: Arena, n: int, outputs: Outputs) -> None:
        self._arena, self._n, self._outputs = arena, n, outputs
        self.caller = RingWriter(arena, arena.layout.caller_wire, n)
        self.assistant = RingWriter(arena, arena.layout.assistant_pcm, n)

    def lease(self, caller: Encoding, tag: int, assistant: Encoding | None = None) -> None:
        spoken = caller if assistant is None else assistant
        for word, encoding in (
            (SlotWord.CALLER_ENCODING, caller),
            (SlotWord.ASSISTANT_ENCODING, spoken),
        ):
            self._arena.words[self._arena.layout.word_index(word, self._n)] = encoding
        self.caller.tag = self.assistant.tag = tag
        self._outputs.begin(self._n, tag)

    def clear(self) -> None:
        """The assistant is interrupted."""
        self.assistant.tag += 1
        self._outputs.begin_assistant(self._n, self.assistant.tag)

    def heard(self) -> Heard:
        """The caller's frames that came since the last time."""
        return self._outputs.heard(self._n)

    def encoded(self) -> list[bytes]:
        """The assistant's frames that came since the last time."""
        return self._outputs.encoded(self._n)


class Plane:
    """An arena with its DSP loop in this process, and workers' ends of its slots."""

    def __init__(self, arena: Arena, mode: VadMode = "off") -> None:
        self.row: Row = Scoreboard([RowName("dsp", 0)], 1).row("dsp", 0)
        self.arena = arena
        self.bank = Bank(arena)
        self.plane = AudioPlane(mode)
        self.loop = DspLoop(self.plane, [self.bank], self.row, 10)
        self.outputs = Outputs(arena)
        self.slots = [Slot(arena, n, self.outputs) for n in range(arena.layout.slots)]

    def work(self) -> None:
        while self.loop.turn([0]):
            pass

    def hear(self, slot: Slot, frames: list[bytes]) -> Heard:
        """Push caller frames one by one and collect what comes out."""
        heard: Heard = []
        for frame in frames:
            assert slot.caller.push(frame)
            self.work()
            heard += slot.heard()
        return heard

    def speak(self, slot: Slot, frames: list[bytes]) -> list[bytes]:
        """Push assistant frames one by one and collect what comes out."""
        spoken: list[bytes] = []
        for frame in frames:
            assert slot.assistant.push(frame)
            self.work()
            spoken += slot.encoded()
        return spoken


def noise(samples: int, seed: int, level: int = 8000) -> NDArray[np.int16]:
    random = np.random.default_rng(seed)
    return random.integers(-level, level, samples).astype(np.int16)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def wire_bytes(encoding: Encoding, samples: NDArray[np.int16]) -> bytes:
    """What a carrier sends for a whole call's samples."""
    wire = WIRE_FORMATS[encoding]
    if wire.stateful:
        return new_codec().encode(samples)
    if wire.byte_order is None:
        return g711.encode(encoding, samples).tobytes()
    return samples.astype(f"{wire.byte_order}i2").tobytes()


def samples_of(encoding: Encoding, data: bytes) -> NDArray[np.int16]:
    """The samples of a whole call's bytes."""
    wire = WIRE_FORMATS[encoding]
    if wire.stateful:
        return np.frombuffer(memoryview(new_codec().decode(data)), np.int16)
    if wire.byte_order is None:
        return g711.decode(encoding, np.frombuffer(data, np.uint8))
    return np.frombuffer(data, f"{wire.byte_order}i2").astype(np.int16)


def one_shot(rate_in: int, rate_out: int, samples: NDArray[np.int16]) -> NDArray[np.int16]:
    """The resampler frame by frame over the whole signal, without any ring."""
    resampler = Resampler.make(rate_in, rate_out)
    padded = np.concatenate((np.zeros(resampler.history), samples)).astype(np.float32)
    frame = rate_in // 50
    rows = [padded[at : at + resampler.history + frame] for at in range(0, len(samples), frame)]
    return to_int16(resampler(np.array(rows))).ravel()
