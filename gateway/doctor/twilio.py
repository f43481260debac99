"""Does what Twilio does, one thing after the other: asks, dials, speaks silence and listens.

A stream is read and written by one event loop, never by two threads: Python 3.11 lets them into
OpenSSL at the same time, and one request in a hundred was lost in the client (measured).
"""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2
import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from audio.format import FRAME_MS
from gateway import clock
from gateway.doctor.judgements import Answer, Heard

TIMEOUT_S = 10.0
BODY_BYTES_MAX = 64 * 1024
USER_AGENT = "Twilio.TmeWs/1.0"
SECONDS_PER_DAY = 86_400

_NS_PER_S = 1_000_000_000
#: Mu-law without its sign, inverted, grows with the level: this is -38 dBFS, and no noise.
_SOUND = 0x20
#: What matters reaches us as an exception; an operator is to read findings only.
_SILENT = logging.getLogger(__name__)
_SILENT.addHandler(logging.NullHandler())
_FRAME = base64.b64encode(b"\xff" * (8 * FRAME_MS)).decode()


def certificate_of(host: str, port: int) -> tuple[int, str, int]:
    """OpenSSL's verdict of a host's certificate: code, words, and the days it is good for yet.

    ``OSError`` when nobody speaks TLS there.
    """
    context = ssl.create_default_context()
    try:
        with (
            socket.create_connection((host, port), TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            ends = (secured.getpeercert() or {}).get("notAfter", "")
    except ssl.SSLCertVerificationError as error:
        return error.verify_code, error.verify_message, 0
    left_s = ssl.cert_time_to_seconds(str(ends)) - clock.wall_ms() / 1000
    return 0, "", int(left_s // SECONDS_PER_DAY)


def client_context(*, verified: bool) -> ssl.SSLContext:
    """For https and wss; unverified once the certificate was told of, to see what else is wrong."""
    context = ssl.create_default_context()
    if not verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def ask(
    url: str,
    context: ssl.SSLContext,
    form: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """A GET, or a POST of a form; redirects are not followed, and no proxy is used."""
    method = "GET" if form is None else "POST"
    try:
        with (
            httpx2.Client(verify=context, timeout=TIMEOUT_S, trust_env=False) as client,
            client.stream(method, url, data=form, headers=headers) as answer,
        ):
            body = b""
            for piece in answer.iter_bytes():
                body += piece
                if len(body) > BODY_BYTES_MAX:
                    break
            return Answer(answer.status_code, dict(answer.headers), body)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return Answer(fault=str(error) or type(error).__name__)


def status_of(url: str, headers: Mapping[str, str], context: ssl.SSLContext) -> int:
    """The status that an upgrade is answered with; 0 when it is not answered."""

    async def dial() -> int:
        async with _dial(url, headers, context):
            return 101

    try:
        return asyncio.run(dial())
    except InvalidStatus as refused:
        return refused.response.status_code
    except (OSError, ValueError, WebSocketException):
        return 0


def call(
    url: str, headers: Mapping[str, str], context: ssl.SSLContext, call_id: str, patience_ms: int
) -> Heard:
    """Open a stream as a call's, say nothing, and listen until something is heard."""

    async def dial() -> Heard:
        async with _dial(url, headers, context) as stream:
            return await _listen(stream, call_id, patience_ms)

    try:
        return asyncio.run(dial())
    except InvalidStatus as refused:
        return Heard(status=refused.response.status_code)
    except ConnectionClosed as closed:
        told = closed.rcvd
        return Heard(closed=f"{told.code} {told.reason}".strip() if told else "no close frame")
    except (OSError, ValueError, WebSocketException) as error:
        return Heard(fault=str(error) or type(error).__name__)


def _dial(url: str, headers: Mapping[str, str], context: ssl.SSLContext) -> connect:
    parts = urlsplit(url)
    secured = parts.scheme == "wss"
    peer = (parts.hostname or "", parts.port or (443 if secured else 80))
    plain = socket.create_connection(peer, TIMEOUT_S)
    return connect(
        url,
        # With a socket of ours no redirect is followed (ValueError): Twilio follows none either,
        # and a token is meant for one host.
        sock=plain,
        ssl=context if secured else None,
        additional_headers=headers,
        user_agent_header=USER_AGENT,
        compression=None,
        proxy=None,
        open_timeout=TIMEOUT_S,
        close_timeout=1,
        max_size=BODY_BYTES_MAX,
        logger=_SILENT,
    )


async def _listen(stream: ClientConnection, call_id: str, patience_ms: int) -> Heard:
    stream_id = call_id.replace("CA", "MZ", 1)
    began_ns = clock.now_ns()
    await _send(stream, {"event": "connected", "protocol": "Call", "version": "1.0.0"})
    await _send(stream, _start(stream_id, call_id))
    audio_ms: int | None = None
    for frame in range(patience_ms // FRAME_MS):
        await _send(stream, _media(stream_id, frame))
        due_ns = began_ns + (frame + 1) * FRAME_MS * clock.NS_PER_MS
        while (payload := await _payload(stream, due_ns)) is not None:
            heard_ms = (clock.now_ns() - began_ns) // clock.NS_PER_MS
            audio_ms = heard_ms if audio_ms is None else audio_ms
            if any(~byte & 0x7F >= _SOUND for byte in payload):
                await _send(stream, {"event": "stop", "streamSid": stream_id, "stop": {}})
                return Heard(audio_ms=audio_ms, sound_ms=heard_ms)
    await _send(stream, {"event": "stop", "streamSid": stream_id, "stop": {}})
    return Heard(audio_ms=audio_ms)


async def _payload(stream: ClientConnection, until_ns: int) -> bytes | None:
    """The next audio, or None when none came in time."""
    while (left_ns := until_ns - clock.now_ns()) > 0:
        try:
            async with asyncio.timeout(left_ns / _NS_PER_S):
                message = orjson.loads(await stream.recv())
            if message.get("event") == "media":
                return base64.b64decode(message["media"]["payload"])
        except TimeoutError:
            return None
        except (ValueError, LookupError, AttributeError, TypeError):
            continue  # it is somebody else who answers; the verdict is that nothing was heard
    return None


async def _send(stream: ClientConnection, message: Mapping[str, Any]) -> None:
    await stream.send(orjson.dumps(message).decode())


def _start(stream_id: str, call_id: str) -> dict[str, Any]:
    return {
        "event": "start",
        "sequenceNumber": "1",
        "streamSid": stream_id,
        "start": {
            "accountSid": "AC" + "0" * 32,
            "callSid": call_id,
            "streamSid": stream_id,
            "tracks": ["inbound"],
            "customParameters": {},
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        },
    }


def _media(stream_id: str, frame: int) -> dict[str, Any]:
    return {
        "event": "media",
        "sequenceNumber": str(frame + 2),
        "streamSid": stream_id,
        "media": {
            "track": "inbound",
            "chunk": str(frame + 1),
            "timestamp": str(frame * FRAME_MS),
            "payload": _FRAME,
        },
    }
