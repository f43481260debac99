"""Speaks a prepared passage, pauses as long, and so on: the load of a telephone call.

A real assistant speaks about half of the time, and its synthesizer delivers a clause much faster
than it is heard. So does this one, but it needs neither a speech service nor a recording: the
passage is made of vowels, period by period of the voice's pitch. The caller's audio is taken
through the rings and judged by the VAD as in any conversation; nobody answers it.

The rhythm is absolute: utterance ``n`` begins ``n`` periods after the first, however late the one
before was. A gateway that is late is not given less to do for that. Each call begins at a phase of
its own, which is drawn from its id, so that calls that begin together do not speak together.
"""

from __future__ import annotations

import asyncio
import math
import zlib
from array import array
from collections.abc import Callable
from functools import cache

from audio.format import TTS_RATE
from gateway import clock
from gateway.player import Player

PASSAGE_MS = 3_000
PERIOD_MS = 2 * PASSAGE_MS
CLAUSES = 3
SYLLABLE_MS = 200

_PITCH_HZ = 125
_PITCH_SAMPLES = TTS_RATE // _PITCH_HZ
_SYLLABLE_PITCHES = SYLLABLE_MS * _PITCH_HZ // 1000
_HARMONICS = 3_400 // _PITCH_HZ
#: The first two formants (Hz) of the vowels of "ah, eh, ee, oh, oo", and their width.
_VOWELS = ((730, 1090), (530, 1840), (270, 2290), (570, 840), (300, 870))
_FORMANT_HZ = 120
#: Loudest sample, of full scale; and the softest part of a syllable, of its loudest.
_PEAK = 0.4
_SOFT = 0.3

assert PASSAGE_MS % (CLAUSES * SYLLABLE_MS) == 0, "a clause is a whole number of syllables"
assert TTS_RATE % _PITCH_HZ == 0
assert SYLLABLE_MS * _PITCH_HZ % 1000 == 0


class Recital:
    """A conversation that only speaks. ``crashed`` is told of a bug of ours: it ends the call."""

    def __init__(
        self, player: Player, call_id: str, crashed: Callable[[BaseException], None]
    ) -> None:
        self._player = player
        self._call_id = call_id
        self._crashed = crashed
        self._heard = asyncio.Event()
        self._speaking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, at the phase of this call."""
        self._speaking = asyncio.create_task(self._recite())
        self._speaking.add_done_callback(self._done)

    def hear(self, pcm: bytes, probability: float, level: float) -> None:
        """The passage goes on, whoever speaks."""

    def digit(self, digit: str) -> None:
        """Keys change nothing."""

    def heard_all(self) -> None:
        """The caller has heard the passage."""
        self._heard.set()

    def say_goodbye(self) -> bool:
        """It has no words of its own."""
        return False

    async def aclose(self) -> None:
        """Fall silent."""
        if self._speaking is not None:
            self._speaking.cancel()
            await asyncio.gather(self._speaking, return_exceptions=True)

    async def _recite(self) -> None:
        due_ns = clock.now_ns() + phase_ms(self._call_id) * clock.NS_PER_MS
        while True:
            await clock.sleep_ms(max(0, due_ns - clock.now_ns()) / clock.NS_PER_MS)
            self._heard.clear()
            for clause in passage():
                await self._player.feed(clause)
                await self._player.end_clause()
            self._player.end_utterance()
            await self._heard.wait()
            due_ns += PERIOD_MS * clock.NS_PER_MS

    def _done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._crashed(error)


def phase_ms(call_id: str) -> int:
    """How long after its beginning a call is first spoken to: 0 to one period."""
    return zlib.crc32(call_id.encode()) % PERIOD_MS


@cache
def passage() -> tuple[bytes, ...]:
    """The clauses, 24 kHz PCM16 each; made once, in a few milliseconds."""
    syllables = [_syllable(*formants) for formants in _VOWELS]
    each = PASSAGE_MS // CLAUSES // SYLLABLE_MS
    return tuple(
        b"".join(syllables[(clause * each + n) % len(syllables)] for n in range(each))
        for clause in range(CLAUSES)
    )


def _syllable(first_hz: int, second_hz: int) -> bytes:
    """One vowel that swells and fades."""
    samples = _pitch_period(first_hz, second_hz)
    spoken = array("h")
    for n in range(_SYLLABLE_PITCHES):
        swell = math.sin(math.pi * (n + 0.5) / _SYLLABLE_PITCHES)
        gain = 32767 * _PEAK * (_SOFT + (1 - _SOFT) * swell)
        spoken.extend(round(gain * sample) for sample in samples)
    return spoken.tobytes()


def _pitch_period(first_hz: int, second_hz: int) -> list[float]:
    """One period of the voice, -1..1: harmonics as loud as the two formants let them through."""
    strengths = [_resonance(n * _PITCH_HZ, first_hz, second_hz) for n in range(1, _HARMONICS + 1)]
    step = 2 * math.pi / _PITCH_SAMPLES
    samples = [
        sum(strength * math.sin(step * n * at) for n, strength in enumerate(strengths, 1))
        for at in range(_PITCH_SAMPLES)
    ]
    peak = max(map(abs, samples))
    return [sample / peak for sample in samples]


def _resonance(hz: int, *formants_hz: int) -> float:
    return sum(1 / (1 + ((hz - formant) / _FORMANT_HZ) ** 2) for formant in formants_hz)
