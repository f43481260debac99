"""Which language a call is held in: a hint when there is one, else what the caller speaks. Pure.

A hint (from the carrier's parameters or the settings) is an order and never changes. Without one
the first utterance decides, as soon as the detector had enough speech to be trusted (shorter ones
must agree twice), and a caller who goes on in another language is followed after two utterances:
one borrowed word or one wrong detection must not switch the receptionist's voice.
"""

from __future__ import annotations

from collections.abc import Collection

LANGUAGES = ("en", "ar", "ru")
FALLBACK = "en"

#: Speech shorter than this is detected too badly to decide alone.
TRUSTED_SPEECH_MS = 1_200
_VOTES_NEEDED = 2

_ALIASES = {
    "english": "en",
    "eng": "en",
    "arabic": "ar",
    "ara": "ar",
    "russian": "ru",
    "rus": "ru",
}


def normalise(hint: str) -> str:
    """``en``, ``ar``, ``ru``, or "" for ``auto``, nothing and languages that we do not speak."""
    code = hint.strip().casefold().replace("_", "-").partition("-")[0]
    code = _ALIASES.get(code, code)
    return code if code in LANGUAGES else ""


class ReplyLanguage:
    """One call's language: fixed by a hint, or following the caller."""

    __slots__ = ("_candidate", "_decided", "_fixed", "_spoken", "_votes", "current")

    def __init__(
        self, hint: str, default: str = FALLBACK, spoken: Collection[str] = LANGUAGES
    ) -> None:
        hinted = normalise(hint)
        self.current = hinted or normalise(default) or FALLBACK
        self._fixed = bool(hinted)
        self._decided = self._fixed
        self._candidate = ""
        self._votes = 0
        self._spoken = spoken

    @property
    def reply(self) -> str:
        """The language to speak: the current one if there is a voice for it, else English."""
        return self.current if self.current in self._spoken else FALLBACK

    @property
    def transcription_hint(self) -> str:
        """What to tell speech-to-text: the fixed language, or "" = detect it."""
        return self.current if self._fixed else ""

    def heard(self, detected: str, speech_ms: int) -> str:
        """Count an utterance's detected language; returns the language to reply in."""
        language = normalise(detected)
        if self._fixed or not language:
            return self.current
        if self._decided and language == self.current:
            self._votes = 0
            return self.current
        self._votes = self._votes + 1 if language == self._candidate else 1
        self._candidate = language
        trusted = not self._decided and speech_ms >= TRUSTED_SPEECH_MS
        if trusted or self._votes >= _VOTES_NEEDED:
            self.current, self._decided, self._votes = language, True, 0
        return self.current
