"""What an answer of the gateway means, and what to do about it. Pure.

Somebody else may have answered: a proxy, a tunnel's warning page, another program on the port. So
nothing here trusts what an answer holds, and each sentence names the likeliest cause.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from xml.etree import ElementTree

import orjson

from gateway.doctor.finding import Finding, fail, ok, skip

SERVER = "voice-gateway"
#: A certificate that ends sooner was not renewed when it should have been.
DAYS_LEFT_MIN = 7
_REDIRECTS = range(300, 400)

#: By OpenSSL's number of a verification error (openssl-verification-options(1)).
_CERTIFICATE_FAULTS: Mapping[int, str] = {
    9: "is not good yet: set this machine's clock",
    10: "has expired: renew it",
    18: "signed itself: Twilio takes those of a public authority only (31910), such as "
    "Let's Encrypt",
    19: "is of an authority that nobody knows: Twilio takes public ones only (31910)",
    20: "comes without the ones between: TLS_CERT must be the whole chain (fullchain.pem)",
    21: "comes without the ones between: TLS_CERT must be the whole chain (fullchain.pem)",
    62: "is of another host: get one for the host in PUBLIC_URL",
    64: "is of another host: it names none by its address",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer over HTTP, or why there was none; names of headers in lower case."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a caller got: a status instead of a stream, how it was closed, when it heard what."""

    status: int = 101
    fault: str = ""
    closed: str = ""
    audio_ms: int | None = None
    sound_ms: int | None = None


def judge_public_url(url: str) -> Finding:
    """Whether carriers can be told where we are."""
    if not url:
        return fail(
            "PUBLIC_URL", "is not set: set it to the https address by which Twilio reaches us"
        )
    if urlsplit(url).scheme != "https":
        return fail("PUBLIC_URL", f"{url} makes ws:// streams, Twilio wants wss: use https (31922)")
    return ok("PUBLIC_URL", f"{url}, streams to wss://{urlsplit(url).netloc}")


def judge_certificate(host: str, code: int, message: str, days_left: int) -> Finding:
    """A certificate by OpenSSL's verdict (0 is good) and the days until it ends."""
    if code:
        why = _CERTIFICATE_FAULTS.get(code, f"is not accepted: {message}")
        return fail("certificate", f"that of {host} {why}")
    if days_left < DAYS_LEFT_MIN:
        return fail("certificate", f"that of {host} ends in {days_left} days: renew it")
    return ok("certificate", f"of {host}, good for {days_left} days")


def judge_health(address: str, answer: Answer) -> Finding:
    """Whether it is the gateway that answers."""
    if answer.fault:
        return fail("reachable", f"nobody answers at {address} ({answer.fault}): is it running?")
    if answer.status in _REDIRECTS:
        return fail("reachable", f"{address} redirects; Twilio follows none to a stream: turn off")
    server = answer.headers.get("server", "")
    # nginx puts its own name into that header, and passes the body on.
    if answer.status == 200 and (server == SERVER or answer.body == b"ok\n"):
        by = "" if server == SERVER else f" by way of {server or 'a proxy'}"
        return ok("reachable", f"the gateway answers at {address}{by}")
    return fail(
        "reachable",
        f"{address} is answered by {server or 'somebody else'}, status {answer.status}: "
        "send all of that address to GATEWAY_PORT",
    )


def judge_ready(answer: Answer) -> Finding:
    """Whether a call can be taken now."""
    told = _object(answer.body)
    if answer.status == 200 and told.get("ready") is True:
        return ok("ready", "a call can be taken now")
    reasons = told.get("reasons")
    why = "; ".join(map(str, reasons)) if isinstance(reasons, list) else f"status {answer.status}"
    return fail("ready", f"no call can be taken now: {why}")


def judge_voices(answer: Answer, language: str) -> list[Finding]:
    """Which languages have no voice, as the gateway tells; ``language`` is that of all calls."""
    warnings = _object(answer.body).get("warnings")
    told = [str(one) for one in warnings] if isinstance(warnings, list) else []
    missing = [one for one in told if one.startswith("no voice for ")]
    if not missing:
        return [ok("voices", "none is missing")]
    needed = f"no voice for {language},"
    return [(fail if one.startswith(needed) else skip)("voices", one) for one in missing]


def judge_webhook(answer: Answer) -> Finding:
    """What a webhook with a right signature was answered."""
    refused = (
        "a right signature was refused: the running gateway has another TWILIO_AUTH_TOKEN or "
        "PUBLIC_URL (restart it), or a proxy changes the path"
    )
    sentences = {
        403: refused,
        404: "not found: send /twilio/... of that address to GATEWAY_PORT",
        405: "the POST became something else: a proxy redirects it",
        429: "too many requests from this address: wait a few seconds",
        503: "the running gateway has no PUBLIC_URL: restart it with these settings",
    }
    if answer.fault:
        return fail("webhook", f"no answer ({answer.fault})")
    if answer.status == 200:
        return ok("webhook", "a right signature is answered")
    return fail("webhook", sentences.get(answer.status, f"answered with status {answer.status}"))


def judge_forgery(answer: Answer) -> Finding:
    """What a webhook with a wrong signature was answered."""
    if answer.status == 403:
        return ok("forgery", "a wrong signature is refused")
    return fail(
        "forgery",
        f"a wrong signature got {answer.fault or f'status {answer.status}'} and not 403: does the "
        "running gateway have TWILIO_AUTH_TOKEN?",
    )


def judge_twiml(body: bytes, public_url: str) -> tuple[Finding, str]:
    """What Twilio is told to do, and the address of the stream ("" when there is none)."""
    try:
        stream = ElementTree.fromstring(body).find("Connect/Stream")
    except ElementTree.ParseError:
        return fail("TwiML", "the webhook's answer is no XML: a proxy answers instead"), ""
    if stream is None:
        return fail("TwiML", "no stream in it, it is for callers nobody can take: see `ready`"), ""
    url = stream.get("url", "")
    told, ours = urlsplit(url), urlsplit(public_url)
    if told.netloc != ours.netloc:
        why = f"the stream goes to {told.netloc}, PUBLIC_URL is {ours.netloc}: restart the gateway"
        return fail("TwiML", why), ""
    if told.scheme != "wss":
        return fail("TwiML", f"the stream is {told.scheme}://, Twilio takes wss:// only"), url
    return ok("TwiML", f"a stream to wss://{told.netloc}"), url


def judge_stream(heard: Heard, *, speaks: bool) -> Finding:
    """What a caller heard; ``speaks`` when it should have been something."""
    if fault := _no_stream(heard):
        return fail("stream", fault)
    if heard.closed:
        return fail("stream", f"closed with {heard.closed} before anything was heard: see the log")
    if heard.sound_ms is not None:
        return ok("stream", f"open, and the assistant is heard after {heard.sound_ms} ms")
    if not speaks:
        return ok("stream", "open; this responder says nothing of itself")
    what = "silence only" if heard.audio_ms is not None else "no audio"
    return fail(
        "stream", f"open, but {what}: see the log for `provider` (is text-to-speech answering?)"
    )


def judge_second_use(heard: Heard) -> Finding:
    """What a second caller at the address of the first got."""
    if heard.closed or heard.status == 403:
        return ok("token", "the stream's address is good once")
    if heard.fault or heard.status != 101:
        return fail("token", f"not known: {_no_stream(heard)}")
    return fail("token", "the stream's address let a second caller in: report this, please")


def judge_token(wire: str, shown: int, bare: int) -> Finding:
    """Status of an upgrade with a wire's token, and of one without."""
    if (shown, bare) == (101, 403):
        return ok(wire, "its token lets in, and nothing else does")
    if shown != 101:
        return fail(wire, f"its token got status {shown}: restart the gateway with these settings")
    return fail(wire, f"without its token the status was {bare}, not 403: restart the gateway")


def judge_memory(total: int, needed: int) -> Finding:
    """Whether /dev/shm holds the arenas, in bytes."""
    sizes = f"{total / 2**20:.0f} MiB, {needed / 2**20:.0f} are needed"
    if total >= needed:
        return ok("/dev/shm", sizes)
    return fail("/dev/shm", f"{sizes}: docker run --shm-size, or fewer CALLS_PER_WORKER")


def judge_descriptors(limit: float, needed: int) -> Finding:
    """Whether as many files may be open as all calls need."""
    if limit >= needed:
        return ok("open files", f"{limit:.0f} allowed here, {needed} are needed")
    return fail(
        "open files",
        f"{limit:.0f} allowed here, {needed} are needed: ulimit -n, LimitNOFILE=, --ulimit nofile",
    )


def _no_stream(heard: Heard) -> str:
    """Why there was no stream, with Twilio's number of it; "" when there was one."""
    if heard.fault:
        return f"the handshake failed ({heard.fault}): let the proxy pass WebSockets on (31920)"
    if heard.status == 403:
        return "the signature was refused: a proxy must leave the path as it is (31920)"
    if heard.status == 503:
        return "the gateway is full (31920)"
    if heard.status != 101:
        return f"answered with status {heard.status}, not 101: let the proxy pass WebSockets on"
    return ""


def _object(body: bytes) -> dict[str, object]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}
