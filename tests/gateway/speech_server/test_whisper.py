"""Whisper: samples, features and decisions as pure functions; hearing as a whole."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import httpx2
import numpy as np
import pytest
import soxr  # has no py.typed
from hypothesis import given
from hypothesis import strategies as st

from audio import g711
from audio.format import Encoding
from audio.log_mel import HOP_SAMPLES
from gateway.errors import ConfigurationError
from gateway.speech_server import whisper
from gateway.speech_server.engines import AudioError
from gateway.speech_server.whisper import RATE, Samples
from tests.gateway.speech_server.toys import wav
from tests.wording import CLIPS, clips, word_errors, words


def tone(seconds: float, hz: float = 440, level: float = 0.5, rate: int = RATE) -> Samples:
    at = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hz * at)).astype(np.float32)


def pcm16(samples: Samples) -> bytes:
    return (samples * 32767).astype("<i2").tobytes()


# WAV


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("width", [1, 2])
def test_any_wav_becomes_the_same_tone(rate: int, channels: int, width: int) -> None:
    source = tone(0.5, rate=rate)
    pcm = np.frombuffer(pcm16(source), "<i2")
    raw = (pcm // 256 + 128).astype(np.uint8) if width == 1 else pcm
    data = wav(np.repeat(raw, channels).tobytes(), rate=rate, width=width, channels=channels)
    heard = whisper.read_wav(data)
    assert heard.dtype == np.float32
    assert abs(len(heard) - RATE // 2) <= 1
    inner = slice(RATE // 10, RATE * 4 // 10)
    np.testing.assert_allclose(heard[inner], tone(0.5)[inner], atol=0.02)


def test_stereo_is_the_mean_of_both() -> None:
    both = np.array([[1000, 3000], [-2000, -4000]], "<i2")
    heard = whisper.read_wav(wav(both.tobytes(), channels=2))
    assert heard.tolist() == pytest.approx([2000 / 32768, -3000 / 32768])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "ends too early"),
        (b"RIFF", "ends too early"),
        (b"OggS" + bytes(100), "not a WAV"),
        (b"ID3\x04" + bytes(100), "not a WAV"),
        (wav(bytes(6), width=3), "24-bit"),
        (wav(bytes(8), width=4), "32-bit"),
        (wav(bytes(12), channels=6), "6 channels"),
        (wav(bytes(2), rate=1), "1 samples per second"),
        (wav(bytes(2), rate=1_000_000), "1000000 samples per second"),
        (wav(b""), "no samples"),
        (wav(bytes(2 * 4_000 * 600 + 2), rate=4_000), "longer than 600 s"),
        (wav(bytes(2)).replace(b"\x01\x00\x01\x00", b"\x07\x00\x01\x00", 1), "unknown format: 7"),
    ],
)
def test_bad_wav_is_refused_with_the_reason(data: bytes, says: str) -> None:
    with pytest.raises(AudioError, match=re.escape(says)):
        whisper.read_wav(data)


def test_unknown_length_and_cut_off_ends_are_read() -> None:
    data = wav(pcm16(tone(1)))
    streamed = data[:4] + b"\xff" * 4 + data[8:40] + b"\xff" * 4 + data[44:]
    np.testing.assert_array_equal(whisper.read_wav(streamed), whisper.read_wav(data))
    assert len(whisper.read_wav(data[:-1001])) == RATE - 501


@given(st.binary(max_size=200))
def test_any_bytes_are_audio_or_an_audio_error(junk: bytes) -> None:
    data = wav(bytes(100))
    for candidate in (junk, data[:20] + junk, data[:44] + junk):
        with contextlib.suppress(AudioError):
            assert whisper.read_wav(candidate).ndim == 1


# Pieces and onset


@given(st.integers(1, 100 * RATE), st.integers(0, 2**32 - 1))
def test_pieces_are_short_and_make_the_whole(length: int, seed: int) -> None:
    samples = np.random.default_rng(seed).standard_normal(length, np.float32)
    found = whisper.pieces(samples)
    assert all(len(piece) <= whisper.PIECE_SAMPLES_MAX for piece in found)
    np.testing.assert_array_equal(np.concatenate(found), samples)


def test_long_audio_is_cut_where_it_is_quiet() -> None:
    speech = tone(45)
    quiet_at = 27 * RATE
    speech[quiet_at - 1600 : quiet_at + 1600] *= 0.01
    first, second = whisper.pieces(speech)
    assert abs(len(first) - quiet_at) <= 1600
    assert len(first) + len(second) == 45 * RATE


@pytest.mark.parametrize(
    ("seconds", "context_s"), [(0, 8), (1, 8), (6, 8), (6.5, 8.5), (20, 22), (28, 30), (30, 30)]
)
def test_context_is_two_seconds_more_than_speech(seconds: float, context_s: float) -> None:
    assert whisper.context_samples(round(seconds * RATE)) == round(context_s * RATE)


@given(st.integers(0, whisper.PIECE_SAMPLES_MAX))
def test_context_holds_the_speech_in_whole_encoder_steps(length: int) -> None:
    context = whisper.context_samples(length)
    assert max(length, 8 * RATE) <= context <= 30 * RATE
    assert context % (2 * HOP_SAMPLES) == 0


@pytest.mark.parametrize("silence_s", [0.3, 1, 5])
@pytest.mark.parametrize("noise", [0, 1e-4, 1e-2])
def test_silence_before_speech_is_cut(silence_s: float, noise: float) -> None:
    samples = np.concatenate([np.zeros(round(silence_s * RATE), np.float32), tone(1)])
    samples += noise * np.random.default_rng(1).standard_normal(len(samples), np.float32)
    begin = whisper.onset(samples) / RATE
    assert silence_s - 0.18 <= begin <= silence_s - 0.14


@pytest.mark.parametrize(
    "samples",
    [tone(2), np.zeros(RATE, np.float32), tone(0.005), np.zeros(0, np.float32)],
    ids=["speech from the start", "silence", "shorter than a block", "empty"],
)
def test_nothing_is_cut_without_a_clear_onset(samples: Samples) -> None:
    assert whisper.onset(samples) == 0


# Decisions


def test_language_is_one_of_ours_and_english_when_too_short() -> None:
    probabilities = {"de": 0.6, "ru": 0.3, "en": 0.05, "ar": 0.01}
    assert whisper.choose_language(probabilities, 2 * RATE) == "ru"
    assert whisper.choose_language(probabilities, RATE) == "en"
    assert whisper.choose_language({}, 2 * RATE) == "en"


@pytest.mark.parametrize(
    ("no_speech_prob", "logprob_mean", "invented"),
    [
        (0.02, -0.2, False),  # a sentence
        (0.90, -0.2, False),  # digits, spoken clearly
        (0.60, -1.0, False),  # one word
        (0.81, -2.3, True),  # noise
        (0.91, -0.6, True),  # silence
    ],
)
def test_unsure_text_without_speech_is_invented(
    no_speech_prob: float, logprob_mean: float, *, invented: bool
) -> None:
    assert whisper.is_invented(no_speech_prob, logprob_mean) is invented


def test_tokens_are_bounded_by_the_length_of_speech() -> None:
    assert whisper.tokens_max(0) >= 8
    assert whisper.tokens_max(30 * RATE) > 200, "Russian takes seven tokens a second"
    assert whisper.tokens_max(30 * RATE) <= 444, "the decoder's context is 448"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("call me back " * 20, "call me back"),
        ("so I " * 8 + "agree", "so I agree"),
        ("thank you. " * 50, "thank you."),
        ("no " * 40, "no"),
        ("x " + "o" * 50, "x"),
    ],
)
def test_loops_are_folded(text: str, kept: str) -> None:
    assert whisper.without_loops(text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "no no no, never never",
        "0 0 0 0 0 0 0 0",
        "1 2 1 2 1 2 1 2 1 2",
        "12, 12, 12, 12, 12",
        "five five five, zero one two three, five five five, zero one two three",
        "1, 5, 0, 0, 0, 8, 0.",
        "Привет, привет!",
        "00000000000000",
        "",
    ],
)
def test_what_people_say_twice_stays(text: str) -> None:
    assert whisper.without_loops(text) == text


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=60))
def test_folding_keeps_to_the_words_and_is_final(words: list[str]) -> None:
    once = whisper.without_loops(" ".join(words))
    assert len(once.split()) <= len(words)
    assert set(once.split()) <= set(words)


# Weights


def test_damaged_or_missing_weights_are_refused(tmp_path: Path) -> None:
    parts = [tmp_path / "one", tmp_path / "two"]
    parts[0].write_bytes(b"abc")
    parts[1].write_bytes(b"def")
    digest = "bef57ec7f53a6d40beb640a780a639c83bc29ac8a9816f1fc6c5c6dcd93c4721"
    assert whisper.joined_model(parts, digest) == b"abcdef"
    parts[1].write_bytes(b"deg")
    with pytest.raises(ConfigurationError, match="damaged"):
        whisper.joined_model(parts, digest)
    parts[1].unlink()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        whisper.joined_model(parts, digest)


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whisper, "MODEL_PARTS", (("nowhere", "model.bin.part1"),))
    with pytest.raises(ConfigurationError, match=r"\(no nowhere\): run `make setup`"):
        whisper.model_parts()


# Hearing


def by_phone(path: str) -> bytes:
    """A clip as a WAV of 8 kHz that went through mu-law."""
    samples = whisper.read_wav((CLIPS / path).read_bytes())
    narrow = soxr.resample(samples, RATE, 8_000, "HQ")
    linear = np.frombuffer(pcm16(np.clip(narrow, -1, 1)), np.int16)
    heard = g711.decode(Encoding.MULAW, g711.encode(Encoding.MULAW, linear))
    return wav(heard.tobytes(), rate=8_000)


def transcribe(url: str, data: bytes, language: str = "") -> dict[str, object]:
    with httpx2.Client(trust_env=False, timeout=30) as client:
        answer = client.post(
            f"{url}/audio/transcriptions",
            files={"file": ("utterance.wav", data)},
            data={"model": "whisper-base", "response_format": "verbose_json"}
            | ({"language": language} if language else {}),
        )
    assert answer.status_code == 200, answer.text
    found: dict[str, object] = answer.json()
    return found


@pytest.mark.speech
@pytest.mark.parametrize(("language", "rate_max"), [("en", 0.08), ("ru", 0.20)])
def test_people_on_the_phone_are_understood(
    speech_url: str, language: str, rate_max: float
) -> None:
    errors = total = 0
    for clip in clips(language):
        heard = transcribe(speech_url, by_phone(clip.path), language)
        said = words(clip.text)
        errors += word_errors(said, words(str(heard["text"])))
        total += len(said)
    assert total >= 50
    assert errors / total <= rate_max, f"{errors} of {total} words"


@pytest.mark.speech
@pytest.mark.parametrize("path", ["en/ast-invalid.wav", "ru/ast-priv-introsaved.wav"])
def test_language_is_found_out(speech_url: str, path: str) -> None:
    heard = transcribe(speech_url, by_phone(path))
    assert heard["language"] == {"en": "english", "ru": "russian"}[path[:2]]


@pytest.mark.speech
def test_silence_and_noise_say_nothing(speech_url: str) -> None:
    noise = 0.01 * np.random.default_rng(2).standard_normal(3 * RATE, np.float32)
    for samples in (np.zeros(RATE, np.float32), noise, tone(2, 50, 0.1)):
        assert transcribe(speech_url, wav(pcm16(samples)), "en")["text"] == ""


@pytest.mark.speech
def test_a_pre_roll_of_silence_loses_no_word(speech_url: str) -> None:
    clip = whisper.read_wav((CLIPS / "en/cards-001.wav").read_bytes())
    padded = np.concatenate([np.zeros(RATE, np.float32), clip])
    heard = transcribe(speech_url, wav(pcm16(padded)), "en")
    assert words(str(heard["text"])) == ["ten", "of", "clubs"]


@pytest.mark.speech
def test_more_than_thirty_seconds_are_heard_to_the_end(speech_url: str) -> None:
    spoken = [clip for clip in clips("en") if "cards" not in clip.path]
    audio = np.concatenate([whisper.read_wav((CLIPS / clip.path).read_bytes()) for clip in spoken])
    heard = transcribe(speech_url, wav(pcm16(audio)), "en")
    assert heard["duration"] == pytest.approx(len(audio) / RATE)
    assert len(list(heard["segments"])) == 2  # type: ignore[call-overload]
    said = words(" ".join(clip.text for clip in spoken))
    assert word_errors(said, words(str(heard["text"]))) / len(said) <= 0.15
