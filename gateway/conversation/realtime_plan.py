"""How a Realtime session is set up for one call: its configuration and its instructions. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from audio.format import PCM_BYTES_PER_SAMPLE, TTS_RATE, WIRE_RATE, Encoding
from gateway.conversation.call_tools import tools
from gateway.conversation.profile import Profile
from gateway.providers.realtime_events import JsonObject

#: About 100 s of speech: longer than any answer on the telephone, shorter than what we hold.
OUTPUT_TOKENS_MAX = 2_048
#: Writes down what the caller says; the model itself hears it.
TRANSCRIBER = "gpt-transcribe"
#: What a carrier's encoding is called at OpenAI; the rest travels as linear PCM.
PASSED_THROUGH: Mapping[Encoding, str] = {
    Encoding.MULAW: "audio/pcmu",
    Encoding.ALAW: "audio/pcma",
}
#: Errors that only say that we were late; nothing is wrong with the session.
HARMLESS = frozenset(
    {
        "response_cancel_not_active",
        "conversation_already_has_active_response",
        "input_audio_buffer_commit_empty",
        "invalid_truncation",
    }
)
GO_ON = "The line was interrupted for a moment. Apologise in a word and go on where you stopped."
PART = "The call must end now. Say so in one short sentence, and ask the caller to call again."
GOODBYE = "Say goodbye in one short sentence."
_LANGUAGE_NAMES = {"en": "English", "ar": "Arabic", "ru": "Russian"}
_MS_PER_SECOND = 1_000


class TurnDetection(StrEnum):
    """Who decides when the caller's turn is over, and when they interrupt."""

    SERVER = "server"  # OpenAI's voice activity detection
    SEMANTIC = "semantic"  # a model of OpenAI's that also understands whether a sentence is over
    OURS = "ours"  # our detector and endpointing


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One call's session."""

    voice: str
    encoding: Encoding
    turn_detection: TurnDetection
    instructions: str
    greeting: str
    language: str  # "" = whatever the caller speaks
    transfer_targets: Mapping[str, str]

    @property
    def passes_through(self) -> bool:
        """Whether audio goes straight through, as the carrier encodes it."""
        return self.encoding in PASSED_THROUGH

    @property
    def bytes_per_ms(self) -> int:
        """Bytes of one millisecond of the assistant's audio."""
        rate_bytes = WIRE_RATE if self.passes_through else TTS_RATE * PCM_BYTES_PER_SAMPLE
        return rate_bytes // _MS_PER_SECOND

    def session(self) -> JsonObject:
        """The session in the API's words."""
        audio_format: JsonObject = {"type": "audio/pcm", "rate": TTS_RATE}
        if self.passes_through:
            audio_format = {"type": PASSED_THROUGH[self.encoding]}
        transcription: JsonObject = {"model": TRANSCRIBER}
        if self.language:
            transcription["language"] = self.language
        return {
            "type": "realtime",
            "output_modalities": ["audio"],
            "instructions": self.instructions,
            "max_output_tokens": OUTPUT_TOKENS_MAX,
            "tools": tools(self.transfer_targets),
            "tool_choice": "auto",
            "audio": {
                "input": {
                    "format": audio_format,
                    "transcription": transcription,
                    "turn_detection": _detection(self.turn_detection),
                },
                "output": {"format": audio_format, "voice": self.voice},
            },
        }


#: While the last words are heard nothing takes the turn any more.
DEAF: JsonObject = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}


def _detection(chosen: TurnDetection) -> JsonObject | None:
    if chosen is TurnDetection.OURS:
        return None
    kind = "server_vad" if chosen is TurnDetection.SERVER else "semantic_vad"
    return {"type": kind, "create_response": True, "interrupt_response": True}


def instructions(profile: Profile, language: str, *, fixed: bool) -> str:
    """What the model is told of its task, from the profile."""
    speak = _LANGUAGE_NAMES.get(language, "English")
    parts = [
        f"You are the telephone receptionist of {profile.business(language)}.",
        "This is a telephone call: answer in one or two short sentences, never in lists.",
        f"Speak {speak}." if fixed else f"Begin in {speak}; follow the caller's language.",
        "Say only what you know from here. Offer to take a message for everything else: the "
        "caller's name, number and reason, read back, then take_message.",
        "When the caller is done, say goodbye and use hang_up.",
        profile.instructions,
    ]
    if profile.facts:
        parts.append("Facts:\n" + "\n".join(f"- {fact}" for fact in profile.facts))
    if profile.opening_hours:
        hours = (f"- {day}: {when}" for day, when in profile.opening_hours.items())
        parts.append("Opening hours:\n" + "\n".join(hours))
    return "\n\n".join(part for part in parts if part)


def greeting(profile: Profile, language: str) -> str:
    """What the model is told to begin the call with."""
    business = profile.business(language)
    if language in profile.greeting:
        text = profile.greeting[language].format(business=business)
        consent = profile.consent.get(language, "").format(business=business)
        return f"Greet the caller with exactly these words: {text} {consent}".strip()
    return f"Greet the caller for {business} and ask how you can help. One sentence."
