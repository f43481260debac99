"""All checks in their order: this machine, the address, then a call as Twilio makes it.

A check that cannot be made, since one before it failed, says so: nobody reads a missing line.
"""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

from audio.layout import Layout
from gateway.credentials import TELNYX_HEADER, Rules
from gateway.doctor import judgements as judge
from gateway.doctor import twilio
from gateway.doctor.finding import Finding, fail, ok, skip
from gateway.errors import ConfigurationError
from gateway.gate import rules_of
from gateway.providers.check import look_at, servers_in_use
from gateway.settings import Settings
from gateway.webhook import VOICE
from gateway.wire.signature import SIGNATURE_HEADER, sign
from supervisor.composition import descriptors_needed

#: A greeting that took longer would be a caller who hung up.
PATIENCE_MS = 8_000
SECOND_PATIENCE_MS = 2_000
#: Responders that say nothing before the caller has.
QUIET = frozenset({"echo", "transcriber"})


@dataclass(frozen=True, slots=True)
class Visit:
    """A running gateway: where it is asked, with which TLS, and what it should know."""

    base: str
    context: ssl.SSLContext
    settings: Settings
    rules: Rules

    @property
    def stream_base(self) -> str:
        """The address as a WebSocket's."""
        return self.base.replace("http", "ws", 1)

    def signed(self, url: str, form: dict[str, str] | None = None) -> dict[str, str]:
        """The headers by which Twilio shows that a request is its own."""
        if not self.rules.twilio_secrets:
            return {}
        fields = tuple((form or {}).items())
        return {SIGNATURE_HEADER: sign(self.rules.twilio_secrets[0], url, fields)}


def examine(settings: Settings, url: str = "") -> Iterator[Finding]:
    """Everything, as it is found; ``url`` is asked instead of PUBLIC_URL."""
    yield from _machine(settings)
    yield from _models(settings)
    base = (url or settings.public_url or _local(settings)).rstrip("/")
    if url and not settings.public_url:
        yield skip("PUBLIC_URL", "is not set, so only this address is tested")
    else:
        yield judge.judge_public_url(settings.public_url)
    certificate = _certificate(base)
    yield certificate
    context = twilio.client_context(verified=certificate.mark != "FAIL")
    yield from _visit(Visit(base, context, settings, rules_of(settings)))


def _machine(settings: Settings) -> Iterator[Finding]:
    shm = os.statvfs("/dev/shm")
    needed = settings.places * Layout(settings.calls_per_worker).nbytes
    yield judge.judge_memory(shm.f_frsize * shm.f_blocks, needed)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = float("inf") if hard == resource.RLIM_INFINITY else hard
    yield judge.judge_descriptors(limit, descriptors_needed(settings))


def _models(settings: Settings) -> Iterator[Finding]:
    try:
        specs = servers_in_use(settings, "")
        found = asyncio.run(look_at(specs, datetime.now(UTC).date()))
    except ConfigurationError as error:
        yield fail("models", str(error))
        return
    yield from (ok("models", sentence) for sentence in found.configured)
    yield from (fail("models", sentence) for sentence in found.faults + found.warnings)


def _local(settings: Settings) -> str:
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://localhost:{settings.gateway_port}"


def _certificate(base: str) -> Finding:
    parts = urlsplit(base)
    host = parts.hostname or ""
    if parts.scheme != "https":
        return skip("certificate", f"{base} is not https")
    try:
        verdict = twilio.certificate_of(host, parts.port or 443)
    except OSError as error:
        return fail("certificate", f"no TLS with {host} ({error}): is the port open to everybody?")
    return judge.judge_certificate(host, *verdict)


def _visit(visit: Visit) -> Iterator[Finding]:
    health = judge.judge_health(visit.base, twilio.ask(f"{visit.base}/healthz", visit.context))
    yield health
    if health.mark == "FAIL":
        yield skip("webhook, stream", "the gateway cannot be reached")
        return
    ready = twilio.ask(f"{visit.base}/readyz", visit.context)
    yield judge.judge_ready(ready)
    if visit.settings.needs_speech_server:
        yield from judge.judge_voices(ready, visit.settings.language)
    yield from _call(visit)
    yield from _wires(visit)


def _call(visit: Visit) -> Iterator[Finding]:
    """A call from the webhook to the first word."""
    call_id = f"CA{secrets.token_hex(16)}"
    if not visit.settings.public_url:
        yield skip("webhook", "needs PUBLIC_URL; the stream is opened without a token")
        yield from _stream(visit, f"{visit.stream_base}/twilio", call_id)
        return
    if not visit.rules.twilio_secrets:
        yield fail("TWILIO_AUTH_TOKEN", "is not set: Twilio's webhooks are refused as anybody's")
    form = {"CallSid": call_id, "From": "+15550100", "To": "+15550199"}
    answer = _post(visit, form, visit.signed(visit.rules.public_url + VOICE, form))
    webhook = judge.judge_webhook(answer)
    yield webhook
    yield _forgery(visit, form)
    if webhook.mark == "FAIL":
        yield skip("TwiML, stream", "the webhook gave none")
        return
    twiml, url = judge.judge_twiml(answer.body, visit.rules.public_url)
    yield twiml
    if url:
        yield from _stream(visit, url, call_id)


def _forgery(visit: Visit, form: dict[str, str]) -> Finding:
    if not visit.rules.twilio_secrets:
        return skip("forgery", "without TWILIO_AUTH_TOKEN there are no signatures")
    forged = sign(secrets.token_hex(16), visit.rules.public_url + VOICE, tuple(form.items()))
    return judge.judge_forgery(_post(visit, form, {SIGNATURE_HEADER: forged}))


def _post(visit: Visit, form: dict[str, str], headers: dict[str, str]) -> judge.Answer:
    return twilio.ask(visit.base + VOICE, visit.context, form, headers)


def _stream(visit: Visit, url: str, call_id: str) -> Iterator[Finding]:
    """A caller at a stream's address, and another one there after it."""
    # Signed is the address that Twilio was given; dialled may be another, with --url.
    public = visit.rules.stream_url
    dialled = visit.stream_base + url.removeprefix(public) if public else url
    headers = visit.signed(url)
    speaks = visit.settings.responder_names[0] not in QUIET
    patience_ms = PATIENCE_MS if speaks else SECOND_PATIENCE_MS
    heard = twilio.call(dialled, headers, visit.context, call_id, patience_ms)
    yield judge.judge_stream(heard, speaks=speaks)
    if not public:
        return
    if heard.status != 101 or heard.fault or heard.closed:
        yield skip("token", "there was no first stream")
        return
    second = twilio.call(dialled, headers, visit.context, call_id, SECOND_PATIENCE_MS)
    yield judge.judge_second_use(second)


def _wires(visit: Visit) -> Iterator[Finding]:
    """Telnyx and plain clients: does their token let them in, and nothing else."""
    shown = {
        "telnyx": {TELNYX_HEADER: visit.rules.telnyx_token},
        "plain": {"Authorization": f"Bearer {visit.rules.plain_token}"},
    }
    for wire, headers in shown.items():
        if wire in visit.settings.bare_wires:
            yield _bare(visit, wire)
            continue
        url = f"{visit.stream_base}/{wire}"
        given = twilio.status_of(url, headers, visit.context)
        yield judge.judge_token(wire, given, twilio.status_of(url, {}, visit.context))


def _bare(visit: Visit, wire: str) -> Finding:
    name = "TELNYX_STREAM_TOKEN" if wire == "telnyx" else "PLAIN_TOKEN"
    if visit.settings.insecure_open:
        return fail(wire, f"anybody may call: set {name}, or take INSECURE_OPEN away")
    return skip(wire, f"{name} is not set, so only this machine may call")
