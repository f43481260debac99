"""Looks at the configured servers at start: is the key taken, is each model there, for how long.

Asks ``GET models``, which costs nothing. A server without it (404) is no fault: few have it. What
is found are sentences for the log, ``--check`` and ``/readyz``; none holds a key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date

import httpx2
import orjson

from gateway.errors import ConfigurationError
from gateway.providers.models import Shutdown, sentence, shutdown_of
from gateway.providers.servers import ServerSpec, llm_servers, stt_servers, tts_servers
from gateway.settings import Settings

CHECK_TIMEOUT_S = 3.0
LIST_BYTES_MAX = 4 * 1024 * 1024
_STAGES = {"stt": "speech-to-text", "tts": "text-to-speech", "llm": "chat"}


@dataclass(slots=True)
class Findings:
    """What a look at the servers brought; ``faults`` are what cannot work."""

    configured: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def servers_in_use(settings: Settings, speech_url: str) -> list[ServerSpec]:
    """All servers that the settings name and somebody needs."""
    specs: list[ServerSpec] = []
    if settings.uses_providers:
        specs += [*stt_servers(settings, speech_url), *tts_servers(settings, speech_url)]
    if settings.uses_llm:
        specs += llm_servers(settings)
    return specs


async def look_at(specs: Iterable[ServerSpec], today: date) -> Findings:
    """Ask every server that is not our own, all at once."""
    findings = Findings()
    others: dict[str, list[ServerSpec]] = {}
    for spec in specs:
        findings.configured.append(_configured(spec))
        if not spec.is_local:
            others.setdefault(spec.base_url, []).append(spec)
    if not others:
        return findings
    # In a thread: it reads the certificates of this host, and calls may be up.
    async with await asyncio.to_thread(httpx2.AsyncClient, timeout=CHECK_TIMEOUT_S) as client:
        lists = await asyncio.gather(*(_models(client, of[0]) for of in others.values()))
    for of, (models, fault) in zip(others.values(), lists, strict=True):
        if fault:
            told = findings.faults if models is None else findings.warnings
            told.append(f"{of[0].base_url}: {fault}")
        for spec in of:
            findings.warnings += _warnings(spec, models or {}, today)
    return findings


def _configured(spec: ServerSpec) -> str:
    where = "our own speech server" if spec.is_local else spec.base_url
    voice = f", voice {spec.voice}" if spec.voice else ""
    return f"{_STAGES[spec.stage]}: {where}, model {spec.model}{voice}"


async def _models(
    client: httpx2.AsyncClient, spec: ServerSpec
) -> tuple[dict[str, str] | None, str]:
    """Name -> day of its shutdown or ""; and what is wrong. None: it does not let us in."""
    headers = {"Authorization": f"Bearer {spec.api_key}"} if spec.api_key else {}
    try:
        async with (
            asyncio.timeout(CHECK_TIMEOUT_S),
            client.stream("GET", f"{spec.base_url.rstrip('/')}/models", headers=headers) as answer,
        ):
            if answer.status_code in (401, 403):
                return None, f"refuses the key (status {answer.status_code})"
            return (await _read(answer) if answer.status_code == 200 else {}), ""
    except (TimeoutError, httpx2.HTTPError):
        return {}, "cannot be reached now"
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise ConfigurationError(f"{spec.base_url!r} is not a URL, or the key no key") from error


async def _read(answer: httpx2.Response) -> dict[str, str]:
    body = b""
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > LIST_BYTES_MAX:
            return {}
    try:
        listed = orjson.loads(body)["data"]
        return {str(one["id"]): str(one.get("shutdown_date") or "") for one in listed}
    except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
        return {}


def _warnings(spec: ServerSpec, models: dict[str, str], today: date) -> Iterable[str]:
    name = _STAGES[spec.stage]
    known = shutdown_of(spec.model) if spec.is_openai else None
    told = models.get(spec.model)
    if told is None and models:
        yield f"{name}: {spec.base_url} does not list the model {spec.model}"
    try:
        day = date.fromisoformat((told or "")[:10])
        known = Shutdown(day, known.successor if known else "")
    except ValueError:
        pass
    if known is not None:
        yield f"{name}: {sentence(spec.model, known, today)}"
