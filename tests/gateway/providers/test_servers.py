"""Lists of servers: models and voices by place, defaults by whose server it is."""

from __future__ import annotations

import pytest

from gateway.errors import ConfigurationError
from gateway.providers.servers import llm_servers, stt_servers, tts_servers
from gateway.server_settings import OPENAI
from gateway.settings import load_settings

HERE = "http://127.0.0.1:7/v1"
KEY = "sk-0123456789abcdef"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "STT_MODEL", "TTS_MODEL", "TTS_VOICE", "LLM_MODEL"):
        monkeypatch.delenv(name, raising=False)


def test_nothing_set_is_our_own_server_without_a_key() -> None:
    settings = load_settings(None, openai_api_key=KEY)
    (stt,), (tts,) = stt_servers(settings, HERE), tts_servers(settings, HERE)
    assert (stt.base_url, stt.model, stt.api_key) == (HERE, "whisper-base", "")
    assert (tts.base_url, tts.model, tts.voice, tts.api_key) == (HERE, "local", "", "")


def test_openai_with_our_own_behind_it() -> None:
    settings = load_settings(
        None,
        openai_api_key=KEY,
        stt_base_url=f"{OPENAI}, local",
        tts_base_url=f"{OPENAI},local",
        tts_voice="marin",
    )
    stt, tts = stt_servers(settings, HERE), tts_servers(settings, HERE)
    assert [(s.base_url, s.model) for s in stt] == [
        (OPENAI, "gpt-transcribe"),
        (HERE, "whisper-base"),
    ]
    assert [(s.model, s.voice) for s in tts] == [("gpt-4o-mini-tts", "marin"), ("local", "")]
    assert [s.api_key for s in tts] == [KEY, ""]
    assert settings.needs_speech_server


def test_our_own_server_speaks_last_wherever_it_runs() -> None:
    settings = load_settings(None, openai_api_key=KEY, tts_base_url=OPENAI)
    listed, own = tts_servers(settings, HERE)
    assert (listed.voice, listed.is_local) == ("alloy", False)
    assert (own.base_url, own.voice, own.api_key, own.is_local) == (HERE, "", "", True)
    settings = load_settings(None, openai_api_key=KEY, tts_base_url=OPENAI, stt_base_url=OPENAI)
    assert [spec.is_local for spec in tts_servers(settings, HERE)] == [False], "it does not run"


def test_models_go_by_place_and_an_empty_one_is_the_default() -> None:
    settings = load_settings(
        None,
        responder="llm",
        openai_api_key=KEY,
        llm_base_url=f"http://a.example/v1,{OPENAI}",
        llm_model="llama",
    )
    assert [s.model for s in llm_servers(settings)] == ["llama", "gpt-6-luna"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"stt_base_url": OPENAI}, "OPENAI_API_KEY is missing"),
        ({"responder": "llm"}, "OPENAI_API_KEY is missing"),
        ({"responder": "llm", "llm_base_url": HERE}, f"LLM_MODEL is missing for the server {HERE}"),
        ({"llm_base_url": "local"}, "LLM_BASE_URL='local': must begin with http"),
        ({"tts_base_url": "local,ftp://x"}, "must be `local` or begin with http"),
        ({"tts_base_url": "local,"}, "must be `local` or begin with http"),
        ({"tts_speed": 9}, "TTS_SPEED=9: "),
        ({"max_tokens_per_call": -1}, "MAX_TOKENS_PER_CALL=-1: "),
    ],
)
def test_what_cannot_work_is_one_sentence(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as refused:
        load_settings(None, **values)
    assert "\n" not in str(refused.value)


def test_what_nobody_uses_needs_no_key() -> None:
    assert load_settings(None, responder="echo", stt_base_url=OPENAI).stt_base_url == OPENAI
