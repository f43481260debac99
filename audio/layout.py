"""The byte map of an arena: where every array of every ring lies, as asserted offsets.

An arena is one shared-memory segment with S slots; a slot is one call's place in it. Everything
is a structure of arrays, so that the DSP process finds and gathers the frames of all calls with a
few array expressions, while the worker touches one cell with memoryview slices::

    0       header        magic, version, slots, cells, bytes                        int64 x 8
    64      slot words    encodings x 2, generation, head, done, tail x 2           int64 [9][S]
            caller_wire   payload u8 [S][C][640]   meta int64 [S][C][4]   worker -> dsp
            caller_pcm    payload u8 [S][C][640]   meta int64 [S][C][4]   dsp -> worker
            verdict       float32 [S][C][8]    what the VAD made of each caller frame
            assistant_pcm payload u8 [S][C][960]   meta int64 [S][C][4]   worker -> dsp
            assistant_wire payload u8 [S][C][640]  meta int64 [S][C][4]   dsp -> worker
            vad_state     float32 [S][2][2][128]   the recurrent rows, twice

Each direction has three counters: ``head`` (worker: cells written), ``done`` (DSP: cells turned
into results) and ``tail`` (worker: results read). ``done`` is at once the consumer's end of the
input ring and the producer's end of the output ring: one aligned store consumes, publishes and
commits. A cell's meta words are its sequence (index + 1), tag (lease and epoch), payload length
and the carrier's timestamp. Every array starts on a cache line. Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from audio.format import PCM_FRAME_BYTES, TTS_FRAME_BYTES, VAD_STATE_WIDTH

MAGIC = 0x564F_4943_4547_5731  # "VOICEGW1"
VERSION = 2

CELLS = 32
#: Cells behind ``done`` that the DSP process still reads (filter history, the VAD's window), so
#: that the writer may not reuse them yet.
HISTORY_CELLS = 3
USABLE_CELLS = CELLS - HISTORY_CELLS
SLOT_BYTES_MAX = 128 * 1024
#: Tag of the result of a frame that was dropped for its age: there is none. No lease has this tag
#: and no reader expects it (-1 is what a reader without a lease expects), so that nobody takes it.
AGED_TAG = -2

ALIGN = 64
WORD_BYTES = 8
HEADER_WORDS = 8


class SlotWord(IntEnum):
    """The int64 arrays [S] of an arena; each has one writer."""

    CALLER_ENCODING = 0
    CALLER_HEAD = 1
    CALLER_DONE = 2
    CALLER_TAIL = 3
    ASSISTANT_HEAD = 4
    ASSISTANT_DONE = 5
    ASSISTANT_TAIL = 6
    GENERATION = 7
    ASSISTANT_ENCODING = 8


class Meta(IntEnum):
    """The int64 words of a cell."""

    SEQUENCE = 0
    TAG = 1
    LENGTH = 2
    TIMESTAMP_MS = 3


class Verdict(IntEnum):
    """The float32 values of a caller frame; also the VAD's per-frame state, read by the next one.

    SELECTOR says which of the two state rows holds the state after this frame (0: none yet),
    AGE counts frames since the lease began, SETTLED how long the state has seen no speech.
    """

    PROBABILITY = 0
    LEVEL = 1
    FLOOR = 2
    QUIET = 3
    SELECTOR = 4
    AGE = 5
    SETTLED = 6


META_WORDS = len(Meta)
VERDICT_VALUES = 8
STATE_BUFFERS = 2
STATE_VALUES = STATE_BUFFERS * 2 * VAD_STATE_WIDTH


@dataclass(frozen=True, slots=True)
class RingPlace:
    """Where one bank of rings lies: payload and meta arrays, its two counters, bytes of a cell."""

    payload_at: int
    meta_at: int
    cell_bytes: int
    published: SlotWord
    consumed: SlotWord


class Layout:
    """Offsets (bytes from the start of the segment) for an arena of ``slots`` slots."""

    def __init__(self, slots: int) -> None:
        if slots < 1:
            raise ValueError(f"an arena needs at least one slot, not {slots}")
        self.slots = slots
        self._end = HEADER_WORDS * WORD_BYTES
        self._words_at = [self._take(slots * WORD_BYTES) for _ in SlotWord]
        wire, pcm, speech = PCM_FRAME_BYTES, PCM_FRAME_BYTES, TTS_FRAME_BYTES
        word = SlotWord
        self.caller_wire = self._ring(wire, word.CALLER_HEAD, word.CALLER_DONE)
        self.caller_pcm = self._ring(pcm, word.CALLER_DONE, word.CALLER_TAIL)
        self.verdict_at = self._take(slots * CELLS * VERDICT_VALUES * 4)
        self.assistant_pcm = self._ring(speech, word.ASSISTANT_HEAD, word.ASSISTANT_DONE)
        self.assistant_wire = self._ring(wire, word.ASSISTANT_DONE, word.ASSISTANT_TAIL)
        self.vad_state_at = self._take(slots * STATE_VALUES * 4)
        self.nbytes = self._end

    def word_at(self, word: SlotWord) -> int:
        """Offset of a slot-word array."""
        return self._words_at[word]

    def word_index(self, word: SlotWord, slot: int) -> int:
        """Where a slot's word is, counted in int64 from the start of the segment."""
        return self._words_at[word] // WORD_BYTES + slot

    def _ring(self, cell_bytes: int, published: SlotWord, consumed: SlotWord) -> RingPlace:
        assert cell_bytes % 8 == 0
        payload_at = self._take(self.slots * CELLS * cell_bytes)
        meta_at = self._take(self.slots * CELLS * META_WORDS * WORD_BYTES)
        return RingPlace(payload_at, meta_at, cell_bytes, published, consumed)

    def _take(self, nbytes: int) -> int:
        at = self._end
        assert at % ALIGN == 0
        self._end = at + -(-nbytes // ALIGN) * ALIGN
        return at


_ONE = Layout(1)
assert _ONE.nbytes <= SLOT_BYTES_MAX, "a slot must cost at most 128 kB"
assert CELLS & (CELLS - 1) == 0, "cell numbers are masked, not divided"
assert max(Verdict) < VERDICT_VALUES
assert HEADER_WORDS * WORD_BYTES == ALIGN
assert USABLE_CELLS * 20 >= 260, "a ring must bridge twice the time a DSP process needs to start"
