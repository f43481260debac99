"""Text to speech: hibari for English, festival for Russian, espeak-ng for whatever is left.

A text is cut into sentences here, and each is spoken for itself: the first one can be sent while
the second is made. What an engine returns is then made alike, whatever engine it was: 24 kHz, one
loudness, little silence before (it would be heard as a slow answer: hibari leaves 300 ms) and the
same short pause behind.

* **hibari-tts** (Apache-2.0, in the extra ``local``) speaks English at 200 times real time. Only
  the voice "heart" is in the package; naming another would download it, so none is named.
* **festival** with ``festvox-ru`` (Debian) speaks intelligible Russian. It is a program: one
  process a sentence, text on stdin, audio on stdout, killed when it takes too long.
* **espeak-ng** (GPL-3, hence optional) speaks Russian, Arabic and English like a robot. Written
  Arabic lacks most vowels and espeak-ng guesses none: call its Arabic experimental. The library
  is one global state with a callback; only its own thread may call it.

Everything down to the engines is pure.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import shutil
import subprocess
import tempfile
import unicodedata
import wave
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import soxr  # has no py.typed

from audio.format import TTS_RATE
from gateway.errors import ConfigurationError
from gateway.ops.log import get_logger
from gateway.speech_server.engines import SynthesisError, Voice, VoiceInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

SENTENCE_CHARS_MAX = 240
SENTENCE_SECONDS_MAX = 60

EDGE_BLOCK_SAMPLES = TTS_RATE // 100
EDGE_LEVEL = 10 ** (-50 / 20)
LEAD_SAMPLES = TTS_RATE * 40 // 1000
TAIL_SAMPLES = TTS_RATE * 60 // 1000
PAUSE_SAMPLES = TTS_RATE * 200 // 1000
LIMIT_KNEE = 0.7

HIBARI_GAIN = 2.0
HIBARI_SHA256 = "5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8"

FESTIVAL_VOICE = "voice_msu_ru_nsh_clunits"
FESTIVAL_GAIN = 0.8
FESTIVAL_TIMEOUT_S = 10

# Constants of espeak-ng's speak_lib.h.
ESPEAK_OUTPUT_SYNCHRONOUS = 2
ESPEAK_DO_NOT_EXIT = 0x8000
ESPEAK_CHARS_UTF8 = 1
ESPEAK_POSITION_CHARACTER = 1
#: The library copies its data path into a buffer of 160 bytes.
ESPEAK_PATH_BYTES_MAX = 130

log = get_logger(__name__)

# --------------------------------------------------------------------------- text

#: A full stop behind these ends no sentence (when something other than a small letter follows).
ABBREVIATIONS = frozenset(
    re.findall(
        r"\w+",
        """
        mr mrs ms dr prof st jr sr vs etc inc ltd corp dept est ext tel ave blvd rd apt approx
        jan feb apr aug sept oct nov dec
        ул пр пер наб пл стр корп кв обл гор им тел доб руб коп др проф акад
        """,
    )
)
#: A full stop behind these ends no sentence when a number follows.
ABBREVIATIONS_OF_NUMBERS = frozenset({"no", "nos", "p", "pp", "fig", "ch", "д", "п", "№"})

_END = re.compile(r"(?<![.!?…؟۔])[.!?…؟۔]++[\"'»”’)\]]*+(?=\s)")
_WORD_BEFORE = re.compile(r"[^\W_]+\Z")
_CLAUSE_END = re.compile(r"[,;:،؛—–](?=\s)")
_SPACE = re.compile(r"[^\S\n]+")


def sanitised(text: str) -> str:
    """Text without control and format characters; runs of spaces are one space.

    Line breaks stay, each of them ends a sentence.
    """
    kept = map(_visible, text.replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n"))
    return _SPACE.sub(" ", "".join(kept)).strip()


def _visible(char: str) -> str:
    category = unicodedata.category(char)
    if category == "Cf":  # soft hyphens, joiners, marks of direction: they stand inside words
        return ""
    return " " if category[0] == "C" and char != "\n" else char


def sentences(text: str) -> list[str]:
    """Cut a text into sentences of at most ``SENTENCE_CHARS_MAX`` characters; pure.

    Each holds a letter or a digit, and no letter or digit of the text is lost.
    """
    found: list[str] = []
    for line in sanitised(text).split("\n"):
        for sentence in _cut_at_ends(line):
            found += _bounded(sentence)
    return [sentence for sentence in found if any(map(str.isalnum, sentence))]


def _cut_at_ends(line: str) -> Iterator[str]:
    begin = 0
    for end in _END.finditer(line):
        if _ends_sentence(line, end):
            yield line[begin : end.end()].strip()
            begin = end.end()
    yield line[begin:].strip()


def _ends_sentence(line: str, end: re.Match[str]) -> bool:
    following = line[end.end() :].lstrip()[:1]
    if following.islower():
        return False
    if end.group() != ".":
        return True
    before = _WORD_BEFORE.search(line, 0, end.start())
    word = before.group().casefold() if before else ""
    if word in ABBREVIATIONS_OF_NUMBERS and following.isdigit():
        return False
    is_initial = len(word) == 1 and not word.isdigit()
    return not (is_initial or word in ABBREVIATIONS)


def _bounded(sentence: str) -> Iterator[str]:
    while len(sentence) > SENTENCE_CHARS_MAX:
        at = _last_pause(sentence[: SENTENCE_CHARS_MAX + 1])
        yield sentence[:at].rstrip()
        sentence = sentence[at:].lstrip()
    if sentence:
        yield sentence


def _last_pause(text: str) -> int:
    clause_ends = [m.end() for m in _CLAUSE_END.finditer(text) if m.end() > len(text) // 2]
    if clause_ends:
        return clause_ends[-1]
    space = text.rfind(" ", 1)
    return space if space > 0 else SENTENCE_CHARS_MAX


# --------------------------------------------------------------------------- audio


def finished(samples: Samples, rate: int, gain: float) -> bytes:
    """What an engine made (float32 mono, -1..1, any rate) as 24 kHz 16-bit LE PCM, ready to send.

    Empty when there is nothing to be heard in it.
    """
    if rate != TTS_RATE and samples.size:
        samples = soxr.resample(samples, rate, TTS_RATE, "HQ")
    loud = soft_limited(samples * np.float32(gain))
    return (trimmed(loud) * 32767).round().astype("<i2").tobytes()


def soft_limited(samples: Samples) -> Samples:
    """Bend peaks above the knee (0.7) smoothly, so that nothing reaches 1; the rest unchanged."""
    room = 1 - LIMIT_KNEE
    excess = np.maximum(np.abs(samples) - LIMIT_KNEE, 0)
    bent = np.sign(samples) * (LIMIT_KNEE + room * np.tanh(excess / room))
    limited: Samples = np.where(excess > 0, bent, samples).astype(np.float32)
    return limited


def trimmed(samples: Samples) -> Samples:
    """24 kHz speech with at most 40 ms of silence before it and a pause of 200 ms behind it."""
    blocks = len(samples) // EDGE_BLOCK_SAMPLES
    if not blocks:
        return samples[:0]
    power = np.square(samples[: blocks * EDGE_BLOCK_SAMPLES]).reshape(blocks, -1).mean(axis=1)
    heard = np.flatnonzero(power > EDGE_LEVEL**2)
    if not heard.size:
        return samples[:0]
    begin = max(0, int(heard[0]) * EDGE_BLOCK_SAMPLES - LEAD_SAMPLES)
    end = (int(heard[-1]) + 1) * EDGE_BLOCK_SAMPLES + TAIL_SAMPLES
    pause = np.zeros(PAUSE_SAMPLES - TAIL_SAMPLES, samples.dtype)
    return np.concatenate([samples[begin:end], pause])


def from_pcm16(pcm: bytes) -> Samples:
    """16-bit LE mono PCM -> float32 in [-1, 1)."""
    samples: Samples = np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)
    return samples


# --------------------------------------------------------------------------- hibari


class HibariVoice:
    """hibari-tts with its bundled voice "heart": American English."""

    info = VoiceInfo("heart", "en", "hibari", "natural")

    def __init__(self) -> None:
        import hibari

        path = Path(hibari.__file__).parent / "assets" / "hibari.onnx"
        if hashlib.sha256(path.read_bytes()).hexdigest() != HIBARI_SHA256:
            raise ConfigurationError(
                "the voice of hibari-tts is damaged (its sha256 is wrong); run `make setup` again"
            )
        self._engine = hibari.Hibari(voice="heart", threads=1)
        assert hibari.SAMPLE_RATE == TTS_RATE

    def speak(self, sentence: str) -> bytes:
        """See ``Voice.speak``; the same sentence always gives the same bytes."""
        samples: Samples = self._engine(sentence, seed=0)
        return finished(samples, TTS_RATE, HIBARI_GAIN)


def load_hibari() -> Sequence[Voice]:
    """The English voice, warm; none when hibari-tts is not installed."""
    if find_spec("hibari") is None:
        return []
    voice = HibariVoice()
    voice.speak("Ready when you are.")  # the grapheme-to-phoneme tables are loaded by first use
    return [voice]


# --------------------------------------------------------------------------- festival

_NOT_FOR_FESTIVAL = re.compile(
    r"""
    [^0-9A-Za-zА-Яа-яЁё.,!?;:\ -]  # a character its rules do not know
    | (?<!\w)[.,!?;:]              # punctuation that ends no word,
    | [.,!?;:](?=\S)               # or that stands within one
    """,
    re.VERBOSE,
)


def for_festival(text: str) -> str:
    """The text without what festival's Russian rules do not know.

    One such character (the colon of 10:30 is one) and it says nothing at all, with exit status 0.
    """
    return _NOT_FOR_FESTIVAL.sub(" ", text).strip()


class FestivalVoice:
    """festival with Moscow State University's Russian voice; one process a sentence."""

    info = VoiceInfo("festival-ru", "ru", "festival", "intelligible")

    def __init__(self, program: str) -> None:
        self._program = program

    def speak(self, sentence: str) -> bytes:
        """See ``Voice.speak``."""
        text = for_festival(sentence)
        if not any(map(str.isalnum, text)):
            return b""
        with tempfile.TemporaryFile() as wav:  # text2wave seeks in its output: no pipe
            self._run(text, wav.fileno())
            wav.seek(0)
            try:
                with wave.open(wav, "rb") as reader:
                    pcm, rate = reader.readframes(reader.getnframes()), reader.getframerate()
            except (wave.Error, EOFError) as error:
                raise SynthesisError("festival made no audio of this text") from error
        return finished(from_pcm16(pcm), rate, FESTIVAL_GAIN)

    def _run(self, text: str, output_fd: int) -> None:
        try:
            subprocess.run(
                [self._program, "-eval", f"({FESTIVAL_VOICE})", "-o", "-"],
                input=text.encode(),
                stdout=output_fd,
                stderr=subprocess.DEVNULL,
                timeout=FESTIVAL_TIMEOUT_S,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise SynthesisError(f"festival failed: {type(error).__name__}") from error


def load_festival() -> Sequence[Voice]:
    """The Russian voice when Debian's ``festival`` and ``festvox-ru`` are installed and work."""
    program = shutil.which("text2wave")
    if program is None:
        return []
    voice = FestivalVoice(program)
    try:
        return [voice] if voice.speak("да") else []
    except SynthesisError as error:
        log.warning("festival is not used", reason=str(error))
        return []


# --------------------------------------------------------------------------- espeak-ng

_EspeakCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class EspeakLibrary:
    """libespeak-ng: one for the process, one thread."""

    def __init__(self, library: str, data: str) -> None:
        """``SynthesisError`` when the library does not load or refuses its data."""
        if len(data.encode()) > ESPEAK_PATH_BYTES_MAX:
            raise SynthesisError("the path of espeak-ng's data is too long for it")
        try:
            self._espeak = ctypes.CDLL(library)
        except OSError as error:
            raise SynthesisError(str(error)) from error
        self.rate: int = self._espeak.espeak_Initialize(
            ESPEAK_OUTPUT_SYNCHRONOUS, 0, data.encode(), ESPEAK_DO_NOT_EXIT
        )
        if self.rate <= 0:
            raise SynthesisError("espeak-ng refuses its data")
        self._pcm = bytearray()
        self._callback = _EspeakCallback(self._take)  # kept: the library only holds its address
        self._espeak.espeak_SetSynthCallback(self._callback)

    def _take(self, samples: int | None, count: int, _: int | None) -> int:
        """Called by the library for each buffer of samples; not 0 stops it."""
        if samples is not None and count > 0:
            self._pcm += ctypes.string_at(samples, 2 * count)
        return int(len(self._pcm) > 2 * self.rate * SENTENCE_SECONDS_MAX)

    def speak(self, sentence: str, voice: str) -> bytes:
        """16-bit native PCM at ``rate``. Raises ``SynthesisError``."""
        text = sentence.encode()
        self._pcm.clear()
        if self._espeak.espeak_SetVoiceByName(voice.encode()):
            raise SynthesisError(f"espeak-ng has no voice {voice!r}")
        failed = self._espeak.espeak_Synth(
            text,
            ctypes.c_size_t(len(text) + 1),
            0,
            ESPEAK_POSITION_CHARACTER,
            0,
            ESPEAK_CHARS_UTF8,
            None,
            None,
        )
        if failed:
            raise SynthesisError("espeak-ng failed")
        return bytes(self._pcm)


class EspeakVoice:
    """One language of espeak-ng."""

    def __init__(self, library: EspeakLibrary, language: str, quality: str) -> None:
        self.info = VoiceInfo(f"espeak-{language}", language, "espeak-ng", quality)
        self._library = library

    def speak(self, sentence: str) -> bytes:
        """See ``Voice.speak``."""
        pcm = self._library.speak(sentence, self.info.language)
        return finished(from_pcm16(pcm), self._library.rate, 1.0)


def load_espeak() -> Sequence[Voice]:
    """Robot voices for Russian, Arabic and English; none when espeak-ng is not installed."""
    if find_spec("espeakng_loader") is None:
        return []
    loader = import_module("espeakng_loader")
    try:
        library = EspeakLibrary(loader.get_library_path(), loader.get_data_path())
    except (SynthesisError, RuntimeError) as error:
        log.warning("espeak-ng is not used", reason=str(error))
        return []
    return [
        EspeakVoice(library, "ru", "robotic"),
        EspeakVoice(library, "ar", "experimental: robotic, short vowels missing"),
        EspeakVoice(library, "en", "robotic"),
    ]


#: Engine -> what loads its voices, in its thread; the best voice of a language comes first.
LOADERS: Mapping[str, Callable[[], Sequence[Voice]]] = {
    "hibari": load_hibari,
    "festival": load_festival,
    "espeak": load_espeak,
}
