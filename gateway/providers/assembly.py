"""Puts the providers of a worker together as the settings say; imports the vendors' libraries.

Called after the fork and before the worker is ready: the libraries take 0.4 s to load.
"""

from __future__ import annotations

from gateway.providers.base import SpeechToText, TurnModel
from gateway.providers.openai_chat import OpenAIChat
from gateway.providers.openai_live_stt import LiveSpeechToText
from gateway.providers.openai_stt import OpenAISpeechToText
from gateway.providers.openai_tts import OpenAITextToSpeech
from gateway.providers.realtime_socket import Endpoint
from gateway.providers.routed import RoutedChat, RoutedSpeechToText, RoutedTextToSpeech
from gateway.providers.servers import llm_servers, stt_servers, tts_servers
from gateway.providers.tts_cache import CachedTextToSpeech
from gateway.settings import Settings
from supervisor.scoreboard import Row


def open_speech_to_text(settings: Settings, speech_url: str, row: Row) -> SpeechToText:
    """Speech-to-text, live or of utterances. Raises ``ConfigurationError``."""
    servers = [
        OpenAISpeechToText(base_url=spec.base_url, api_key=spec.api_key, model=spec.model)
        for spec in stt_servers(settings, speech_url)
    ]
    routed = RoutedSpeechToText(servers, row)
    if settings.stt_mode != "live":
        return routed
    key = settings.openai_api_key.get_secret_value()
    endpoint = Endpoint.of(settings.stt_live_base_url, key)
    return LiveSpeechToText(endpoint, settings.stt_live_model, routed)


def open_text_to_speech(settings: Settings, speech_url: str, row: Row) -> CachedTextToSpeech:
    """Text-to-speech. Raises ``ConfigurationError``."""
    servers = [
        OpenAITextToSpeech(
            base_url=spec.base_url,
            api_key=spec.api_key,
            model=spec.model,
            voice=spec.voice,
            speed=settings.tts_speed,
        )
        for spec in tts_servers(settings, speech_url)
    ]
    return CachedTextToSpeech(RoutedTextToSpeech(servers, row), row)


def open_turn_model(settings: Settings) -> TurnModel | None:
    """The turn model, if one is set. Raises ``ConfigurationError``."""
    if settings.turn_model is None:
        return None
    from gateway.providers.turn_model import SmartTurn  # onnxruntime: most do without

    return SmartTurn.load(settings.turn_model)


def open_chat(settings: Settings, row: Row) -> RoutedChat:
    """Chat. Raises ``ConfigurationError``."""
    servers = [
        OpenAIChat(
            base_url=spec.base_url,
            api_key=spec.api_key,
            model=spec.model,
            is_openai=spec.is_openai,
        )
        for spec in llm_servers(settings)
    ]
    return RoutedChat(servers, row)
