"""Voices: text and audio as pure functions, the engines that are installed for real."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import wave
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from audio.format import TTS_RATE
from gateway.speech_server import voices
from gateway.speech_server.engines import SynthesisError
from tests.gateway.speech_server.toys import wav

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

ROOT = Path(__file__).parent.parent.parent.parent


# Text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello. How are you?", ["Hello.", "How are you?"]),
        ("Mr. Smith saw Dr. Jones.", ["Mr. Smith saw Dr. Jones."]),
        ("J. K. Rowling wrote it. Yes.", ["J. K. Rowling wrote it.", "Yes."]),
        ("It costs 3.50 dollars. Fine.", ["It costs 3.50 dollars.", "Fine."]),
        ("Room No. 5 is free. No. I mean yes.", ["Room No. 5 is free.", "No.", "I mean yes."]),
        ("We open at 9 a.m. and close at 5 p.m. every day.", None),
        ('"Really?!" she said. "Yes..." I said.', ['"Really?!" she said.', '"Yes..."', "I said."]),
        ("Приходите на ул. Ленина, д. 5. Ждём!", ["Приходите на ул. Ленина, д. 5.", "Ждём!"]),
        ("В 2024 г. было так. Да.", ["В 2024 г. было так.", "Да."]),
        ("مرحبا. كيف حالك؟ أنا بخير.", ["مرحبا.", "كيف حالك؟", "أنا بخير."]),
        ("One\ntwo\r\n\r\nthree", ["One", "two", "three"]),
        ("Hi!!! ... -- Bye.", ["Hi!!!", "-- Bye."]),
        ("co\u00adop\u200b er\u0007ate \ud800", ["coop er ate"]),
        (" \t\n... ?! 🙂", []),
    ],
)
def test_text_is_cut_into_sentences(text: str, expected: list[str] | None) -> None:
    assert voices.sentences(text) == (expected or ([] if expected == [] else [text]))


@given(st.text(max_size=600))
def test_sentences_keep_every_letter_and_are_short(text: str) -> None:
    found = voices.sentences(text)

    def spoken(text: str) -> str:
        return "".join(filter(str.isalnum, text))

    assert spoken("".join(found)) == spoken(voices.sanitised(text))
    for sentence in found:
        assert spoken(sentence)
        assert len(sentence) <= voices.SENTENCE_CHARS_MAX
        assert sentence == sentence.strip()
        assert sentence.isprintable()


def test_long_sentences_are_cut_at_clauses_or_words() -> None:
    clauses = voices.sentences("a clause of some length, " * 30)
    assert all(clause.endswith("length,") for clause in clauses)
    assert len(clauses) == 4
    assert all(c.endswith("word") for c in voices.sentences("word " * 200))
    assert [len(c) for c in voices.sentences("x" * 500)] == [240, 240, 20]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("В 10:30, тел. 8-800.", "В 10 30, тел. 8-800."),
        ("«Да», — сказал ёж!", "Да   сказал ёж!"),
        ("3.14 %", "3 14"),
        ("...", ""),
        (") (print 1", "print 1"),
    ],
)
def test_festival_gets_what_it_knows(text: str, kept: str) -> None:
    assert re.sub(" +", " ", voices.for_festival(text)) == re.sub(" +", " ", kept)


# Audio


@given(npst.arrays(np.float32, 50, elements=st.floats(-4, 4, width=32)))
def test_soft_limit_keeps_sign_and_order_and_never_clips(samples: Samples) -> None:
    limited = voices.soft_limited(samples)
    assert limited.dtype == np.float32
    assert np.all(np.abs(limited) <= 1)
    assert np.all(np.sign(limited) == np.sign(samples))
    assert np.all(np.diff(limited[np.argsort(samples)]) >= 0)
    small = np.abs(samples) <= voices.LIMIT_KNEE
    np.testing.assert_array_equal(limited[small], samples[small])


def a_word(lead_ms: int, speech_ms: int, tail_ms: int, level: float = 0.25) -> Samples:
    parts = [
        np.zeros(TTS_RATE * lead_ms // 1000, np.float32),
        np.full(TTS_RATE * speech_ms // 1000, level, np.float32),
        np.zeros(TTS_RATE * tail_ms // 1000, np.float32),
    ]
    return np.concatenate(parts)


@pytest.mark.parametrize(("lead_ms", "kept_ms"), [(300, 40), (40, 40), (20, 20), (0, 0)])
@pytest.mark.parametrize("tail_ms", [0, 60, 500])
def test_edges_become_alike(lead_ms: int, kept_ms: int, tail_ms: int) -> None:
    made = voices.trimmed(a_word(lead_ms, 500, tail_ms))
    heard = np.flatnonzero(made) * 1000 // TTS_RATE
    assert heard[0] == kept_ms
    assert heard[-1] == kept_ms + 499
    pause_ms = len(made) * 1000 // TTS_RATE - kept_ms - 500
    assert pause_ms == 140 + min(tail_ms, 60)


@pytest.mark.parametrize(
    "samples", [a_word(500, 0, 0), a_word(100, 100, 100, 1e-4), a_word(0, 5, 0)]
)
def test_what_nobody_can_hear_is_nothing(samples: Samples) -> None:
    assert voices.finished(samples, TTS_RATE, 1.0) == b""


@pytest.mark.parametrize("rate", [16_000, 22_050, 24_000])
def test_any_rate_becomes_24_khz_at_the_gain(rate: int) -> None:
    at = np.arange(rate) / rate
    source = (0.2 * np.sin(2 * np.pi * 440 * at)).astype(np.float32)
    made = voices.from_pcm16(voices.finished(source, rate, 2.0))
    assert abs(len(made) - TTS_RATE * 1.14) <= 2 * voices.EDGE_BLOCK_SAMPLES
    assert np.abs(made).max() == pytest.approx(0.4, abs=0.01)
    spectrum = np.abs(np.fft.rfft(made[:TTS_RATE]))
    assert spectrum.argmax() == 440


# Engines


def say(url: str, voice: str, text: str) -> bytes:
    with httpx2.Client(trust_env=False, timeout=30) as client:
        answer = client.post(
            f"{url}/audio/speech",
            json={"model": "local", "voice": voice, "input": text, "response_format": "pcm"},
        )
    assert answer.status_code == 200, answer.text
    return answer.content


def hear(url: str, pcm: bytes, language: str) -> str:
    with httpx2.Client(trust_env=False, timeout=30) as client:
        answer = client.post(
            f"{url}/audio/transcriptions",
            files={"file": ("spoken.wav", wav(pcm, rate=TTS_RATE))},
            data={"model": "whisper-base", "language": language},
        )
    return str(answer.json()["text"])


@pytest.mark.speech
def test_english_is_understood_when_heard_again(speech_url: str) -> None:
    text = "Thank you for calling. Mr. Smith will be here on Monday morning."
    pcm = say(speech_url, "en", text)
    assert say(speech_url, "heart", text) == pcm, "the same text, the same bytes"
    heard = re.findall(r"\w+", hear(speech_url, pcm, "en").lower())
    assert heard == re.findall(r"\w+", text.lower())


@pytest.mark.speech
def test_an_answer_begins_at_once_and_is_loud_enough(speech_url: str) -> None:
    samples = voices.from_pcm16(say(speech_url, "en", "Good morning."))
    loud = np.flatnonzero(np.abs(samples) > 0.05)
    assert loud[0] < TTS_RATE * 150 // 1000
    assert 0.3 < np.abs(samples).max() < 1


def installed(url: str) -> set[str]:
    answer = httpx2.get(f"{url}/voices", trust_env=False).json()
    return {v["name"] for language in answer.values() for v in language.get("voices", [])}


@pytest.mark.speech
@pytest.mark.parametrize(
    ("voice", "text"),
    [
        ("espeak-ru", "Здравствуйте, чем я могу помочь?"),
        ("espeak-ar", "مرحبا، كيف حالك؟"),
        ("espeak-en", "How can I help you?"),
        ("festival-ru", "Здравствуйте, чем я могу помочь?"),
    ],
)
def test_other_voices_speak(speech_url: str, voice: str, text: str) -> None:
    if voice not in installed(speech_url):
        pytest.skip(f"{voice} is not installed")
    pcm = say(speech_url, voice, text)
    samples = voices.from_pcm16(pcm)
    assert 1 < len(samples) / TTS_RATE < 6
    assert 0.2 < np.abs(samples).max() <= 1
    assert say(speech_url, voice, "... 🙂") == b""


@pytest.mark.speech
def test_missing_voices_are_named_with_their_cure(speech_url: str) -> None:
    for language in ("en", "ru", "ar"):
        found = httpx2.get(f"{speech_url}/voices", trust_env=False).json()[language]
        assert "voices" in found or "`" in found["install"]


def test_espeak_with_a_path_it_cannot_hold_is_refused() -> None:
    with pytest.raises(SynthesisError, match="too long"):
        voices.EspeakLibrary("libespeak-ng.so", "/" + "x" * 200)


def test_espeak_without_its_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SynthesisError):
        voices.EspeakLibrary(str(tmp_path / "none.so"), str(tmp_path))


@pytest.mark.speech
@pytest.mark.skipif(find_spec("espeakng_loader") is None, reason="espeak-ng is not installed")
def test_espeak_with_data_it_refuses_does_not_end_the_process(tmp_path: Path) -> None:
    script = (
        "import espeakng_loader\n"
        "from gateway.speech_server import voices\n"
        "try:\n"
        f"    voices.EspeakLibrary(espeakng_loader.get_library_path(), {str(tmp_path)!r})\n"
        "except voices.SynthesisError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "refuses its data" in done.stdout


# festival is a program: a stand-in with its command line shows what is done with any outcome.


def stand_in(tmp_path: Path, body: str) -> voices.FestivalVoice:
    program = tmp_path / "text2wave"
    program.write_text(f"#!{sys.executable}\n{body}\n")
    program.chmod(0o755)
    return voices.FestivalVoice(str(program))


def test_festival_reads_stdin_and_writes_a_wav(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes(b"\x00\x20" * 16_000)
    (tmp_path / "said.wav").write_bytes(buffer.getvalue())
    voice = stand_in(
        tmp_path,
        f"import sys, pathlib; folder = pathlib.Path({str(tmp_path)!r})\n"
        "(folder / 'heard').write_bytes(sys.stdin.buffer.read())\n"
        "(folder / 'arguments').write_text(' '.join(sys.argv[1:]))\n"
        "sys.stdout.buffer.write((folder / 'said.wav').read_bytes())",
    )
    made = voices.from_pcm16(voice.speak("Привет; 10:30"))
    assert (tmp_path / "heard").read_text() == "Привет; 10 30"
    assert (tmp_path / "arguments").read_text() == "-eval (voice_msu_ru_nsh_clunits) -o -"
    assert len(made) == pytest.approx(TTS_RATE * 1.14, abs=TTS_RATE // 50)
    assert made.max() == pytest.approx(0.25 * voices.FESTIVAL_GAIN, abs=0.05)


@pytest.mark.parametrize(
    ("body", "says"),
    [("", "no audio"), ("raise SystemExit(1)", "festival failed"), ("print('RIFF')", "no audio")],
)
def test_festival_that_fails_is_an_error_of_ours(tmp_path: Path, body: str, says: str) -> None:
    with pytest.raises(SynthesisError, match=says):
        stand_in(tmp_path, body).speak("да")


def test_festival_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voices, "FESTIVAL_TIMEOUT_S", 0.5)
    body = (
        f"import os, pathlib, time; pathlib.Path({str(tmp_path / 'pid')!r})"
        ".write_text(str(os.getpid())); time.sleep(600)"
    )
    with pytest.raises(SynthesisError, match="TimeoutExpired"):
        stand_in(tmp_path, body).speak("да")
    if (tmp_path / "pid").exists():  # it may have been killed before it wrote
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)


def test_festival_is_only_offered_when_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert voices.load_festival() == []
    stand_in(tmp_path, "raise SystemExit(1)")
    assert voices.load_festival() == []
