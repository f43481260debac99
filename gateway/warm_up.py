"""What a worker does right after it is ready, beside its calls: get to know its providers.

It learns which languages our own speech server can speak (callers of another hear English), asks
the other servers whether they know our key and our models, and has the sentences that every call
begins with spoken once, so that nobody waits for a greeting. None of it can fail a call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from gateway import clock
from gateway.conversation.profile import Profile
from gateway.conversation.repertoire import repertoire
from gateway.errors import ProviderError
from gateway.limits import PREPARED_CLAUSES_MAX
from gateway.ops import log as logs
from gateway.providers.base import TextToSpeech
from gateway.reception import Reception
from gateway.server_settings import LOCAL, in_order
from gateway.settings import Settings

VOICES_TIMEOUT_MS = 60_000
PREPARE_AGAIN_MS = 5_000
PREPARE_ATTEMPTS_MAX = 6

log = logs.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What there is to get to know; ``warnings`` is what /readyz shows."""

    settings: Settings
    speech_url: str
    profiles: Iterable[Profile]
    reception: Reception
    tts: TextToSpeech
    warnings: list[str]

    async def run(self) -> None:
        """All of it; the worker cancels what is not done when it ends."""
        works = (self._get_to_know(), self._speak())
        for error in await asyncio.gather(*works, return_exceptions=True):
            if isinstance(error, Exception):  # a bug of ours: calls do without
                log.error("warm-up failed", exc_info=error)

    async def _get_to_know(self) -> None:
        from gateway.providers.check import look_at, servers_in_use

        today = datetime.now(UTC).date()
        findings = await look_at(servers_in_use(self.settings, self.speech_url), today)
        for sentence in findings.configured:
            log.info("provider", configured=sentence)
        for sentence in findings.faults:
            log.error("provider", fault=sentence)
        for sentence in findings.warnings:
            log.warning("provider", warning=sentence)
        self.warnings.extend(findings.faults + findings.warnings)

    async def _speak(self) -> None:
        if not self.settings.ai_conversation_enabled:
            return  # it only listens
        if in_order(self.settings.tts_base_url)[0] == LOCAL:
            await self._learn_voices()
        await self._prepare()

    async def _learn_voices(self) -> None:
        """Callers of a language without a voice will hear English."""
        from gateway.providers.local_voices import spoken_languages

        try:
            listed = await spoken_languages(self.speech_url, VOICES_TIMEOUT_MS)
        except ProviderError:
            log.exception("voices unknown")
            return
        self.reception.spoken = frozenset(name for name, install in listed.items() if not install)
        for name, install in listed.items():
            if install:
                self.warnings.append(f"no voice for {name}, callers hear English: {install}")
                log.warning("no voice", language=name, install=install)

    async def _prepare(self) -> None:
        """Have the repertoire ready; a server that does not answer yet is asked again later."""
        from gateway.providers.tts_cache import CachedTextToSpeech

        if not isinstance(self.tts, CachedTextToSpeech):
            return
        clauses = repertoire(self.profiles, self.reception.spoken)[:PREPARED_CLAUSES_MAX]
        for _ in range(PREPARE_ATTEMPTS_MAX):
            ready = await self.tts.prepare(clauses)
            log.info("sentences prepared", ready=ready, of=len(clauses))
            if ready == len(clauses):
                return
            await clock.sleep_ms(PREPARE_AGAIN_MS)
