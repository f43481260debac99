"""Which servers the settings name for each stage: addresses, models and voices, in order.

A list of models or voices goes with the list of addresses by place. What is not given depends on
whose server it is: OpenAI's own gets the names that outlive this winter (``models.toml``), our
own and others what every compatible server takes or ignores.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.server_settings import LOCAL, in_order, is_openai
from gateway.settings import Settings

#: What OpenAI's own servers are asked for when nothing is set.
OPENAI_DEFAULTS = {"stt": "gpt-transcribe", "tts": "gpt-4o-mini-tts", "llm": "gpt-6-luna"}
OPENAI_VOICE = "alloy"  # every text-to-speech model of theirs has it
#: What others are asked for; LLM_MODEL must be given, the settings see to that.
OTHER_DEFAULTS = {"stt": "whisper-base", "tts": "local", "llm": ""}


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One server of one stage. Our own speech server is never given a key."""

    stage: str
    base_url: str
    model: str
    api_key: str = field(repr=False)
    voice: str = ""
    is_local: bool = False

    @property
    def is_openai(self) -> bool:
        """Whether it is OpenAI's own."""
        return is_openai(self.base_url)


def stt_servers(settings: Settings, speech_url: str) -> list[ServerSpec]:
    """Who transcribes; ``speech_url`` is where our own speech server is."""
    return _servers("stt", settings, (settings.stt_base_url, settings.stt_model), speech_url)


def tts_servers(settings: Settings, speech_url: str) -> list[ServerSpec]:
    """Who speaks. Our own server is the last that is asked wherever it runs, listed or not."""
    specs = _servers("tts", settings, (settings.tts_base_url, settings.tts_model), speech_url)
    if settings.needs_speech_server and not any(spec.is_local for spec in specs):
        specs.append(
            ServerSpec("tts", speech_url, OTHER_DEFAULTS["tts"], api_key="", is_local=True)
        )
    return specs


def llm_servers(settings: Settings) -> list[ServerSpec]:
    """Who converses."""
    return _servers("llm", settings, (settings.llm_base_url, settings.llm_model), "")


def _servers(
    stage: str, settings: Settings, lists: tuple[str, str], speech_url: str
) -> list[ServerSpec]:
    urls, models = (in_order(text) for text in lists)
    voices = in_order(settings.tts_voice) if stage == "tts" else ()
    specs = []
    for at, url in enumerate(urls):
        openai, local = is_openai(url), url == LOCAL
        defaults = OPENAI_DEFAULTS if openai else OTHER_DEFAULTS
        voice = OPENAI_VOICE if openai and stage == "tts" else ""
        specs.append(
            ServerSpec(
                stage=stage,
                base_url=speech_url if local else url,
                model="".join(models[at : at + 1]) or defaults[stage],
                api_key="" if local else settings.openai_api_key.get_secret_value(),
                voice="".join(voices[at : at + 1]) or voice,
                is_local=local,
            )
        )
    return specs
