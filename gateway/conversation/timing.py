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


def turn_times(
    since_ns: int,
    endpoint_ns: int,
    transcript_ns: int,
    first_words_ns: int,
    first_audio_ns: int,
    response_ns: int,
) -> TurnTimes:
    """The stages' delays since the caller fell silent; one before that did not happen."""

    def elapsed_ms(at_ns: int) -> int:
        return (at_ns - since_ns) // 1_000_000 if at_ns >= since_ns else -1

    return TurnTimes(
        endpoint_ms=elapsed_ms(endpoint_ns),
        transcript_ms=elapsed_ms(transcript_ns),
        first_words_ms=elapsed_ms(first_words_ns),
        first_audio_ms=elapsed_ms(first_audio_ns),
        response_ms=elapsed_ms(response_ns),
    )
