"""How long one answer took, stage by stage: what a pipeline measures and an observer is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnTimes:
    """Milliseconds since the caller's last voiced frame; -1 where a stage did not happen."""

    endpoint_ms: int  # the turn was found to be over
    transcript_ms: int  # its text was there
    first_words_ms: int  # the responder gave its first words
    first_audio_ms: int  # text-to-speech gave its first audio
    response_ms: int  # the first frame of the answer went to the carrier
