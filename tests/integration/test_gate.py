"""Who gets in, over real sockets and four workers: credentials, webhooks, single-use addresses."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit
from xml.etree import ElementTree

import pytest
from twilio.request_validator import RequestValidator
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from tests.integration.conftest import Gateway
from tests.integration.test_bad_input import echoed, media, metric, start_message
from tests.integration.test_worker_duties import PATIENCE_S, closed_with, dial, frames_until

pytestmark = pytest.mark.timeout(120)

URL = "https://gw.example"
OLD, SECRET, PLAIN, TELNYX = (
    "old-secret-0001",
    "new-secret-0002",
    "plain-token-0003",
    "telnyx-token-004",
)
CREDENTIALS = {
    "PUBLIC_URL": URL,
    "TWILIO_AUTH_TOKEN": f"{OLD},{SECRET}",
    "PLAIN_TOKEN": PLAIN,
    "TELNYX_STREAM_TOKEN": TELNYX,
}


def signed(path: str, secret: str = SECRET) -> dict[str, str]:
    """The headers of Twilio's upgrade."""
    url = f"wss://gw.example{path}"
    return {"X-Twilio-Signature": RequestValidator(secret).compute_signature(url, {})}


def post(
    gateway: Gateway, path: str, form: dict[str, str], secret: str = SECRET
) -> tuple[int, str]:
    """A webhook of Twilio's."""
    signature = RequestValidator(secret).compute_signature(f"{URL}{path}", form)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=20)
    headers = {
        "X-Twilio-Signature": signature,
        "Content-Type": "application/x-www-form-urlencoded",
    }
    connection.request("POST", path, urlencode(form), headers)
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def announce(gateway: Gateway, call: str) -> str:
    """The path of the stream that a call is to be connected to."""
    status, twiml = post(gateway, "/twilio/voice", {"CallSid": call, "From": "+15550100"})
    assert status == 200
    stream = ElementTree.fromstring(twiml).find("Connect/Stream")
    assert stream is not None, twiml
    address = urlsplit(stream.attrib["url"])
    assert (address.scheme, address.netloc) == ("wss", "gw.example")
    return address.path


async def ring(gateway: Gateway, path: str) -> ClientConnection:
    url = f"ws://127.0.0.1:{gateway.port}{path}"
    return await dial(url, additional_headers=signed(path), open_timeout=PATIENCE_S)


async def outcome(client: ClientConnection, stream: str, call: str) -> str:
    message = json.loads(start_message(stream))
    message["start"]["callSid"] = call
    await client.send(json.dumps(message))
    await client.send(media(stream))
    try:
        return "lives" if await frames_until(client, 1) else "silent"
    except ConnectionClosed as closed:
        return f"{closed.rcvd.code} {closed.rcvd.reason}" if closed.rcvd else "cut"


async def status_of(gateway: Gateway, path: str, **options: object) -> int:
    try:
        client = await dial(f"ws://127.0.0.1:{gateway.port}{path}", **options)
    except InvalidStatus as refused:
        return refused.response.status_code
    await client.close()
    return 101


async def credentials(running: Gateway) -> None:
    """Before the handshake, and after it for a wire that the path does not name."""
    bearer = {"Authorization": f"Bearer {PLAIN}"}
    telnyx = {"X-Telnyx-Streaming-Auth-Token": TELNYX}
    spoofed = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "gw.example"}
    table = [
        ("/", {}, 403),
        ("/", spoofed, 403),
        ("/twilio", {}, 403),
        ("/twilio", signed("/other"), 403),
        ("/twilio", signed("/twilio", "another-secret"), 403),
        ("/twilio", signed("/twilio"), 101),
        ("/twilio", signed("/twilio", OLD), 101),
        ("/telnyx", bearer, 403),
        ("/telnyx", telnyx, 101),
        ("/plain", {}, 403),
        (f"/plain?token={PLAIN}", {}, 403),
        ("/plain", bearer, 101),
        ("/plain", bearer | {"Origin": "https://evil.example"}, 403),
    ]
    for path, headers, status in table:
        found = await status_of(running, path, additional_headers=headers)
        assert found == status, (path, list(headers))
    offered = [Subprotocol("plain"), Subprotocol(f"bearer.{PLAIN}")]
    async with connect(f"ws://127.0.0.1:{running.port}/plain", subprotocols=offered) as client:
        assert client.subprotocol == "plain"
        await client.send('{"type":"init","callId":"c1"}')
        assert json.loads(await client.recv())["type"] == "ready"
    async with await dial(running.url, additional_headers=bearer) as client:
        await client.send(start_message("MZ-no-signature"))
        assert await closed_with(client) == 1008


async def addresses(running: Gateway) -> None:
    """Each is good for its call, and once, whoever minted it and whoever is asked."""
    paths = [await asyncio.to_thread(announce, running, f"CA{n}") for n in range(8)]
    assert len(set(paths)) == 8
    assert all(re.fullmatch(r"/twilio/[\w-]{32,}", path) for path in paths)
    clients = [await ring(running, path) for path in paths for _ in range(4)]
    names = [(f"MZ{n}-{k}", f"CA{n}") for n in range(8) for k in range(4)]
    tries = zip(clients, names, strict=True)
    found = await asyncio.gather(*(outcome(client, *ids) for client, ids in tries))
    for n in range(8):
        assert sorted(found[4 * n : 4 * n + 4]) == ["1008 call identity"] * 3 + ["lives"]
    for client in clients:
        await client.close()
    again = await ring(running, paths[0])
    assert await outcome(again, "MZagain", "CA0") == "1008 call identity"
    other = await ring(running, await asyncio.to_thread(announce, running, "CAx"))
    assert await outcome(other, "MZother", "CAy") == "1008 call identity", "another call's"
    nobodys = await ring(running, "/twilio/" + "A" * 48)
    assert await outcome(nobodys, "MZnobody", "CAz") == "1008 call identity"


async def pipelined(running: Gateway) -> None:
    """Requests that come together are answered in their order."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    form = urlencode({"CallSid": "CA1"}).encode()
    url = f"{URL}/twilio/voice"
    signature = RequestValidator(SECRET).compute_signature(url, {"CallSid": "CA1"})
    webhook = (
        b"POST /twilio/voice HTTP/1.1\r\nHost: x\r\nX-Twilio-Signature: %b\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (signature.encode(), len(form), form)
    )
    health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    writer.write(webhook + health + webhook.replace(signature.encode(), b"=") + webhook)
    seen = b""
    while seen.count(b"</Response>") < 2:
        data = await asyncio.wait_for(reader.read(65536), 20)
        assert data
        seen += data
    writer.close()
    assert re.findall(rb"HTTP/1\.1 (\d+)", seen) == [b"200", b"200", b"403", b"200"]


def test_who_gets_in(gateway: Callable[..., Gateway]) -> None:
    running = gateway("--workers", "4", "--responder", "echo", **CREDENTIALS)
    asyncio.run(credentials(running))
    asyncio.run(addresses(running))
    asyncio.run(pipelined(running))
    error = {"StreamEvent": "stream-error", "StreamError": "31921", "CallSid": "CA1"}
    assert post(running, "/twilio/status", error)[0] == 200
    assert post(running, "/twilio/status", error, "another-secret")[0] == 403
    assert post(running, "/twilio/voice", {"CallSid": "CA1"}, OLD)[0] == 200
    assert metric(running, "voice_gateway_stream_errors_total") == 1
    assert metric(running, "voice_gateway_peers_refused_total") >= 10
    assert any('"code":"31921"' in line for line in running.lines)


def test_a_full_gateway_tells_twilio_what_to_do_instead(gateway: Callable[..., Gateway]) -> None:
    running = gateway(
        *("--workers", "1", "--responder", "echo", "--calls-per-worker", "1"),
        **CREDENTIALS,
        OVERFLOW_NUMBER="+4930123456",
    )

    async def scene() -> str:
        async with await ring(running, await asyncio.to_thread(announce, running, "CA1")) as first:
            await first.send(start_message("MZ1").replace("CA-MZ1", "CA1"))
            assert await echoed(first, "MZ1", 5) == 5
            return (await asyncio.to_thread(post, running, "/twilio/voice", {"CallSid": "CA2"}))[1]

    assert "<Dial>+4930123456</Dial>" in asyncio.run(scene())
    assert metric(running, "voice_gateway_calls_overflowed_total") == 1
