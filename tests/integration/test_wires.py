"""Every wire through a whole gateway: Telnyx unordered and lossy, plain with its mistakes."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedOK

from tests.integration.conftest import Gateway
from tests.integration.test_bad_input import metric
from tests.integration.test_echo import wait_until

pytestmark = pytest.mark.timeout(120)

FRAMES = 40


async def message(client: ClientConnection, *kinds: str) -> dict[str, Any]:
    """The next message of these kinds, which `event` or `type` names."""
    while True:
        found: dict[str, Any] = json.loads(await asyncio.wait_for(client.recv(), 20))
        if found.get("event", found.get("type")) in kinds:
            return found


async def audio_of(client: ClientConnection, size: int) -> int:
    """Wait until that many bytes of audio came."""
    received = 0
    while received < size:
        found = await message(client, "media", "audio_out")
        received += len(base64.b64decode(found.get("media", found)["payload"]))
    return received


def telnyx_media(chunk: int) -> str:
    body = {"track": "inbound", "chunk": str(chunk), "timestamp": str(20 * chunk)}
    body["payload"] = base64.b64encode(bytes([chunk]) * 160).decode()
    return json.dumps({"event": "media", "stream_id": "7B3E-AB", "media": body})


async def telnyx_call(url: str) -> int:
    """Chunks in pairs the wrong way round, one in twenty missing; how many bytes came back."""
    async with connect(url) as client:
        await client.send('{"event":"connected","version":"1.0.0"}')
        form = {"encoding": "PCMA", "sample_rate": 8000, "channels": 1}
        start = {"call_control_id": "v3:a", "media_format": form}
        await client.send(json.dumps({"event": "start", "stream_id": "7b3e-ab", "start": start}))
        for chunk in range(1, FRAMES, 2):
            for each in (chunk + 1, chunk):
                if each % 20:
                    await client.send(telnyx_media(each))
            await asyncio.sleep(0.04)
        size = (FRAMES - FRAMES // 20 - 1) * 320  # the last lost one still has its window open
        received = await audio_of(client, size)
        await client.send(json.dumps({"event": "error", "error": {"code": "100005"}}))
        await client.send(json.dumps({"event": "stop", "stop": {"call_control_id": "v3:a"}}))
        return received


def test_a_telnyx_call_unordered_and_lossy(gateway: Callable[..., Gateway]) -> None:
    running = gateway("--workers", "1", "--responder", "echo", TELNYX_CODEC="L16/8000")
    assert asyncio.run(telnyx_call(running.url)) % 320 == 0, "16 bits a sample, whole frames"
    wait_until(lambda: metric(running, "voice_gateway_media_gaps_total") >= 1)
    wait_until(lambda: metric(running, "voice_gateway_carrier_errors_total") == 1)
    assert metric(running, "voice_gateway_messages_invalid_total") == 0
    assert "error from the carrier" in running.log()


def plain(kind: str, call: str, **body: object) -> str:
    return json.dumps({"type": kind, "callId": call, **body})


def plain_audio(call: str, size: int = 640) -> str:
    return plain("audio", call, payload=base64.b64encode(bytes(size)).decode())


async def plain_calls(url: str) -> None:
    async with connect(url) as client, connect(url) as other:
        await other.send(plain("init", "c"))
        assert (await message(other, "ready"))["callId"] == "c"
        for call in ("a", "b"):
            await client.send(plain("init", call, languageHint="en"))
            assert (await message(client, "ready"))["callId"] == call
        for mistake, call in (
            (plain_audio("nobody"), "nobody"),
            (plain("init", "a"), "a"),
            (plain_audio("b", size=641), "b"),
            (plain("shout", "a"), ""),
            (plain("init", "c"), "c"),  # live on another socket
        ):
            await client.send(mistake)
            found = await message(client, "error")
            assert (found.get("callId", ""), bool(found["message"])) == (call, True)
        assert (await message(client, "stop"))["callId"] == "c", "which did not begin"
        for n in range(FRAMES):
            await client.send(plain_audio("ab"[n % 2]))
            await asyncio.sleep(0.01)
        await audio_of(client, (FRAMES - 10) * 640)
        await client.send(plain("stop", "a"))
        await client.send(plain_audio("b"))
        await audio_of(client, 640)
        await client.send(plain("stop", "b"))
        with pytest.raises(ConnectionClosedOK):
            await message(client, "nothing but the end")


def test_plain_calls_share_a_socket_and_mistakes_end_none(gateway: Callable[..., Gateway]) -> None:
    running = gateway("--workers", "2", "--responder", "echo")
    asyncio.run(plain_calls(running.url))
    wait_until(lambda: metric(running, "voice_gateway_calls_active") == 0)
    assert metric(running, "voice_gateway_messages_invalid_total") == 4
