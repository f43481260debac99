"""What workers do together: one door, one life of an id, a full house, goodbye, being orphaned."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.gateway.conftest import certificate  # noqa: F401 - a fixture
from tests.gateway.providers.stand_in import answer, standing_in
from tests.integration.conftest import Gateway, start
from tests.integration.test_bad_input import media, start_message, supervisor
from tests.integration.test_echo import wait_until
from tests.ports import free_port

pytestmark = pytest.mark.timeout(120)

PATIENCE_S = 20
#: One second of 24 kHz PCM16 that is not silence.
TONE = b"\x00\x10" * 24_000
TONE_FRAMES = 50
#: Fewer than a DSP process that is late would drop for their age.
EARLY_FRAMES = 12


async def dial(url: str, **options: Any) -> ClientConnection:
    """Connect; once more when a busy machine takes no call for the moment."""
    while True:
        try:
            return await connect(url, **options)
        except InvalidStatus as refused:
            if refused.response.status_code != 503:
                raise
            await asyncio.sleep(0.5)


async def frames_until(client: ClientConnection, count: int) -> int:
    """Frames that come, up to a count."""
    frames = 0
    async with asyncio.timeout(PATIENCE_S):
        while frames < count:
            message = json.loads(await client.recv())
            if message["event"] == "media":
                frames += len(message["media"]["payload"]) * 3 // 4 // 160
    return frames


async def closed_with(client: ClientConnection) -> int:
    """The code a connection is closed with; what comes before is not looked at."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                await client.recv()
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 0


def test_of_many_that_bring_one_id_at_once_one_call_lives(gateway: Callable[..., Gateway]) -> None:
    running = gateway("--workers", "2", "--responder", "echo")

    async def outcome(client: ClientConnection, stream: str, call: str) -> str:
        message = json.loads(start_message(stream))
        message["start"]["callSid"] = call
        await client.send(json.dumps(message))
        await client.send(media(stream))
        try:
            return "lives" if await frames_until(client, 1) else "silent"
        except ConnectionClosed as closed:
            return str(closed.rcvd.code if closed.rcvd else 0)

    async def scene() -> None:
        for names in ([("MZ1", f"CA{n}") for n in range(8)], [(f"MZ{n}", "CA1") for n in range(8)]):
            clients = [await dial(running.url) for _ in names]
            tries = zip(clients, names, strict=True)
            found = await asyncio.gather(*(outcome(client, *ids) for client, ids in tries))
            assert sorted(found) == ["1008"] * 7 + ["lives"]
            again = await dial(running.url)
            assert await outcome(again, *names[0]) == "1008" or names[0] != names[1]
            for client in [*clients, again]:
                await client.close()
        wait_until(lambda: sum(c["calls"] for c in running.children("worker")) == 0)
        async with await dial(running.url) as free:
            assert await outcome(free, "MZ1", "CA1") == "lives"
        await asyncio.gather(*(audio_that_comes_with_the_start(running.url, n) for n in range(4)))

    asyncio.run(scene())


async def audio_that_comes_with_the_start(url: str, n: int) -> None:
    """None of it is lost, although the ids are only being claimed."""
    async with await dial(url) as client:
        early = [media(f"MZearly{n}", timestamp=at * 20) for at in range(EARLY_FRAMES)]
        for message in [start_message(f"MZearly{n}"), *early]:
            await client.send(message)
        assert await frames_until(client, EARLY_FRAMES) == EARLY_FRAMES


def test_only_a_full_gateway_refuses_and_says_so(gateway: Callable[..., Gateway]) -> None:
    running = gateway("--workers", "2", "--responder", "echo", "--calls-per-worker", "1")

    async def scene() -> None:
        calls = [await dial(running.url) for _ in range(2)]
        with pytest.raises(InvalidStatus) as refused:
            await connect(running.url)
        assert refused.value.response.status_code == 503
        assert int(refused.value.response.headers["Retry-After"]) > 0
        with pytest.raises(urllib.error.HTTPError) as full:
            await asyncio.to_thread(running.get, "/readyz")
        body = json.loads(full.value.read())
        full.value.close()
        assert body["reasons"][0] == "the gateway is full"
        assert not body["degraded"]
        metrics = await asyncio.to_thread(running.text, "/metrics")
        assert re.search(r'refusals_total\{.*reason="full"\} [1-9]', metrics)
        for call in calls:
            await call.close()

    asyncio.run(scene())


def test_a_drain_ends_with_spoken_words_that_are_heard(gateway: Callable[..., Gateway]) -> None:
    async def scene() -> None:
        tone = answer(200, TONE, "audio/pcm")
        async with standing_in(*[tone] * 600) as speech:
            address = {"STT_BASE_URL": speech.url, "TTS_BASE_URL": speech.url}
            flags = ("--workers", "2", "--responder", "message_taker")
            running = await asyncio.to_thread(gateway, *flags, DRAIN_TIMEOUT_MS="500", **address)
            clients = [await dial(running.url) for _ in range(3)]
            for n, client in enumerate(clients):
                await client.send(start_message(f"MZ{n}"))
                await frames_until(client, 1)
            running.process.send_signal(signal.SIGTERM)
            ends = await asyncio.gather(*(heard_to_the_end(client) for client in clients))
            assert [code for code, _ in ends] == [1001] * 3, running.log()
            assert all(frames >= TONE_FRAMES for _, frames in ends), running.log()
            # Once a worker: what every call says is kept.
            assert any(b"call again" in body for _, body in speech.asked)

    asyncio.run(scene())


async def heard_to_the_end(client: ClientConnection) -> tuple[int, int]:
    """Play and acknowledge what comes; the code of the end, frames after the last clear."""
    frames = code = 0
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                message = json.loads(await client.recv())
                if message["event"] == "media":
                    frames += len(message["media"]["payload"]) * 3 // 4 // 160
                elif message["event"] == "clear":
                    frames = 0
                elif message["event"] == "mark":
                    await client.send(json.dumps(message))
    except ConnectionClosed as closed:
        code = closed.rcvd.code if closed.rcvd else 0
    return code, frames


def test_calls_that_end_in_time_are_not_cut(gateway: Callable[..., Gateway]) -> None:
    running = gateway("--workers", "2", "--responder", "echo", DRAIN_TIMEOUT_MS="15000")

    async def scene() -> None:
        clients = [await dial(running.url) for _ in range(4)]
        for n, client in enumerate(clients):
            await client.send(start_message(f"MZ{n}"))
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: sum('"event":"draining"' in line for line in running.lines) == 2)
        for n, client in enumerate(clients):
            await client.send(media(f"MZ{n}"))
            assert await frames_until(client, 1) == 1, "the call goes on"
            await client.send(json.dumps({"event": "stop", "streamSid": f"MZ{n}"}))
            assert await closed_with(client) == 1000

    asyncio.run(scene())
    assert running.process.wait(PATIENCE_S) == 0
    assert sum('"calls_cut":0' in line for line in running.lines) == 2


def test_calls_outlast_a_rolling_restart_and_not_a_stop(gateway: Callable[..., Gateway]) -> None:
    running = gateway("--workers", "1", "--responder", "echo", DRAIN_TIMEOUT_MS="200")

    async def scene() -> None:
        client = await dial(running.url)
        await client.send(start_message("MZ0"))
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: any('"event":"draining"' in line for line in running.lines))
        for _ in range(5):  # longer than a drain
            await asyncio.sleep(0.1)
            await client.send(media("MZ0"))
            assert await frames_until(client, 1) == 1, "the call goes on"
        running.process.send_signal(signal.SIGTERM)
        assert await closed_with(client) == 1001

    asyncio.run(scene())
    assert running.process.wait(PATIENCE_S) == 0
    cut = [line for line in running.lines if '"event":"drained"' in line]
    assert ['"calls_cut":1' in line for line in cut].count(True) == 1


def test_calls_over_tls(
    gateway: Callable[..., Gateway],
    certificate: tuple[Path, Path],  # noqa: F811 - the fixture
) -> None:
    cert, key = map(str, certificate)
    running = gateway("--workers", "2", "--responder", "echo", TLS_CERT=cert, TLS_KEY=key)
    trust = ssl.create_default_context(cafile=cert)
    url = f"wss://localhost:{running.port}/"

    async def scene() -> None:
        clients = [await dial(url, ssl=trust) for _ in range(6)]
        workers = running.children("worker")
        assert all(worker["state"] == "ready" for worker in workers[:2])
        for n, client in enumerate(clients):
            await client.send(start_message(f"MZ{n}"))
            await client.send(media(f"MZ{n}"))
            assert await frames_until(client, 1) == 1
        assert sorted(w["calls"] for w in running.children("worker"))[-2:] == [3, 3]
        for client in clients:
            await client.close()

    asyncio.run(scene())
    health = f"https://localhost:{running.port}/healthz"
    with urllib.request.urlopen(health, timeout=PATIENCE_S, context=trust) as response:
        assert response.headers["Server"] == "voice-gateway"


def test_a_certificate_that_cannot_work_is_one_sentence(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("no certificate")
    ports = ("--port", str(free_port()), "--console-port", str(free_port()))
    flags = ("--host", "127.0.0.1", "--workers", "1", "--responder", "echo", *ports)
    data = str(tmp_path)
    status, stderr = supervisor(*flags, TLS_CERT=str(junk), TLS_KEY=str(junk), DATA_DIR=data)
    assert status == 2, stderr
    assert "Traceback" not in stderr
    assert f"TLS_CERT={junk}" in stderr


@pytest.fixture
def doomed(tmp_path: Path) -> Iterator[Gateway]:
    """A gateway whose supervisor is going to be killed; none of its processes may remain."""
    running = start(tmp_path, "--workers", "2", "--responder", "echo", ORPHAN_ACCEPT_MS="3000")
    tree = psutil.Process(running.process.pid).children(recursive=True)
    yield running
    running.process.kill()
    running.process.wait()
    _, alive = psutil.wait_procs(tree, timeout=30)
    assert alive == [], running.log()
    running.reader.join()
    assert running.process.stdout is not None
    running.process.stdout.close()


def test_orphans_take_calls_for_a_while_and_finish_them(doomed: Gateway) -> None:
    async def scene() -> None:
        before = await dial(doomed.url)
        await before.send(start_message("MZbefore"))
        os.kill(doomed.process.pid, signal.SIGKILL)
        doomed.process.wait()
        after = await dial(doomed.url)
        await after.send(start_message("MZafter"))
        for client, stream in ((before, "MZbefore"), (after, "MZafter")):
            await client.send(media(stream))
            assert await frames_until(client, 1) == 1
        wait_until(lambda: sum('"event":"draining"' in line for line in doomed.lines) == 2)
        for client, stream in ((before, "MZbefore"), (after, "MZafter")):
            await client.send(media(stream))
            assert await frames_until(client, 1) == 1, "the call goes on"
            await client.close()

    asyncio.run(scene())
