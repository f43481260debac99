"""G.722 through libg722: 16 kHz in 64 kbit/s, the one codec here that cannot be batched.

G.722 (ITU-T) splits 16 kHz audio into two bands and codes each as ADPCM: every code is a step from
the sample before it. What a code means hangs on all codes before it, so that a stream needs an
object of its own in either direction, and nobody can write that object's state into an arena: it
is the library's. It therefore breaks the rule that a DSP process keeps no state, in one place and
with these limits:

* An object serves one slot under one tag, and only the next frame after its last one. For any
  other frame (a new lease or epoch, a hole, a stream that comes from another process) it is
  thrown away and a fresh one starts. Inside a stream that is a restart, and counted: until its
  steps have adapted speech is rough (measured: 150 ms to an error of -20 dB, 300 at most).
* An object is ahead of ``done`` from the step to the commit. A process killed there takes it
  along, and its successor starts afresh like after any move: a redo never meets a half-done state.
* A slot has one object a direction at most; it goes when the slot is leased again.

Measured on one core (``python -m audio.bench``): 10 us a frame to decode, 15 us to encode, in any
batch; a new object takes 30 us. A hundred such calls cost an eighth of a core.

The library (PyPI ``G722``: libg722, C, in the public domain) reproduces the ITU's test vectors bit
for bit. It is not typed; this is the one file that knows it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import G722
import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

from audio.format import CODE_FRAME_BYTES, PCM_FRAME_BYTES, PCM_RATE

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

BIT_RATE = 64_000


class Codec(Protocol):
    """One stream's coder and decoder; what each has heard so far is hidden inside."""

    def decode(self, codes: bytes, /) -> Buffer:
        """Codes to native int16 samples, two a code."""
        ...

    def encode(self, samples: NDArray[np.int16], /) -> bytes:
        """Int16 samples, contiguous and even in number, to codes."""
        ...


def new_codec() -> Codec:
    """A codec at the beginning of a stream."""
    codec: Codec = G722.G722(PCM_RATE, BIT_RATE)
    return codec


class Rows(NamedTuple):
    """Whose frames a batch holds, all (n,): slot, frame's number, tag, generation of the lease.

    ``begun`` says whether the frame before belongs to the same stream.
    """

    slots: Ints
    frame: Ints
    tag: Ints
    generation: Ints
    begun: NDArray[np.bool_]


@dataclass(slots=True)
class _Held:
    codec: Codec
    tag: int
    generation: int
    next_frame: int


class Codecs:
    """The codec objects of one direction of an arena: one a slot at most."""

    def __init__(self) -> None:
        self._held: dict[int, _Held] = {}

    def __len__(self) -> int:
        """How many objects there are."""
        return len(self._held)

    def decode(self, rows: Rows, frames: Bytes) -> tuple[Bytes, int]:
        """(n, 160) codes to (n, 640) bytes of PCM16; and how many streams were restarted."""
        codecs, restarts = self._take(rows)
        pcm = b"".join(
            codec.decode(frame.tobytes()) for codec, frame in zip(codecs, frames, strict=True)
        )
        return np.frombuffer(pcm, np.uint8).reshape(-1, PCM_FRAME_BYTES), restarts

    def encode(self, rows: Rows, pcm: Bytes) -> tuple[Bytes, int]:
        """(n, 640) bytes of PCM16 to (n, 160) codes; and how many streams were restarted."""
        codecs, restarts = self._take(rows)
        samples = np.ascontiguousarray(pcm).view(np.int16)
        codes = b"".join(codec.encode(row) for codec, row in zip(codecs, samples, strict=True))
        return np.frombuffer(codes, np.uint8).reshape(-1, CODE_FRAME_BYTES), restarts

    def forget(self, generation: Ints) -> None:
        """Free the objects of slots that were leased again; ``generation`` is every slot's."""
        old = [slot for slot, held in self._held.items() if generation[slot] != held.generation]
        for slot in old:
            del self._held[slot]

    def _take(self, rows: Rows) -> tuple[list[Codec], int]:
        """The object of each row, fresh where none fits; they are one frame further from now on."""
        codecs, restarts = [], 0
        for slot, frame, tag, generation, begun in zip(*(c.tolist() for c in rows), strict=True):
            held = self._held.get(slot)
            if held is None or held.tag != tag or held.next_frame != frame:
                restarts += begun or (held is not None and held.tag == tag)
                held = self._held[slot] = _Held(new_codec(), tag, generation, frame)
            held.next_frame = frame + 1
            codecs.append(held.codec)
        return codecs, restarts
