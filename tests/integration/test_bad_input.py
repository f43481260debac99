"""Peers' mistakes are counted and hurt nobody else; operators' mistakes are one sentence."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.fakes.onnx_model import mean_model
from tests.integration.conftest import ROOT, Gateway, gateways
from tests.integration.test_echo import wait_until
from tests.ports import free_port

pytestmark = pytest.mark.timeout(120)

SILENCE = base64.b64encode(b"\xff" * 160).decode()


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One gateway for those who hurt nobody else."""
    with gateways(tmp_path_factory.mktemp("echo")) as launch:
        yield launch("--workers", "1", "--responder", "echo")


def start_message(stream: str) -> str:
    call = f"CA-{stream}"
    body = {"streamSid": stream, "callSid": call, "mediaFormat": {"encoding": "audio/x-mulaw"}}
    return json.dumps({"event": "start", "streamSid": stream, "start": body})


def media(stream: str, payload: str = SILENCE, timestamp: int = 0) -> str:
    body = {"track": "inbound", "timestamp": str(timestamp), "payload": payload}
    return json.dumps({"event": "media", "streamSid": stream, "media": body})


MISTAKES: list[str | bytes] = [
    "not json",
    "[]",
    "{}",
    '{"event": 7}',
    "\u0000",
    b"\x00\x01\x02",
    media("MZ-before"),
    media("MZ1", "!!!!"),
    media("MZ1", "AAAA====AAAA"),
    '{"event":"media","streamSid":"MZ1","media":{}}',
    '{"event":"dtmf","streamSid":"MZ1","dtmf":{"digit":"x"}}',
]


def metric(gateway: Gateway, name: str) -> float:
    url = f"http://127.0.0.1:{gateway.console_port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as response:
        lines = response.read().decode().splitlines()
    found = [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name + "{")]
    assert found, f"there is no metric {name}"
    return sum(found)


async def echoed(socket_: ClientConnection, stream: str, frames: int) -> int:
    """Send frames at their pace; how many came back."""
    received = 0

    async def send() -> None:
        for n in range(frames):
            await socket_.send(media(stream, timestamp=n * 20))
            await asyncio.sleep(0.02)

    sender = asyncio.create_task(send())
    while received < frames:
        message = json.loads(await asyncio.wait_for(socket_.recv(), 20))
        if message["event"] == "media":
            received += len(base64.b64decode(message["media"]["payload"])) // 160
    await sender
    return received


async def make_every_mistake(url: str) -> None:
    async with connect(url) as bad, connect(url) as good:
        await good.send(start_message("MZgood"))
        call = asyncio.create_task(echoed(good, "MZgood", 50))
        for mistake in MISTAKES[:7]:
            await bad.send(mistake)
        await bad.send(start_message("MZ1"))
        for mistake in MISTAKES:
            await bad.send(mistake)
        await bad.send('{"event":"surprise","streamSid":"MZ1"}')
        assert await echoed(bad, "MZ1", 10) == 10, "the call itself goes on"
        assert await call == 50, "and so does every other"


def test_mistakes_are_counted_and_every_call_goes_on(echo: Gateway) -> None:
    invalid, unknown = (f"voice_gateway_messages_{kind}_total" for kind in ("invalid", "unknown"))
    before = {name: metric(echo, name) for name in (invalid, unknown)}
    asyncio.run(make_every_mistake(echo.url))
    wait_until(lambda: metric(echo, invalid) - before[invalid] >= 18 - 1)
    wait_until(lambda: metric(echo, unknown) - before[unknown] >= 1)
    wait_until(lambda: metric(echo, "voice_gateway_calls_active") == 0)
    warnings = [line for line in echo.lines if "bad message" in line]
    assert 0 < len(warnings) <= 10, "logged, but not one line a mistake"


def test_a_socket_cut_without_stop_leaves_nothing(echo: Gateway) -> None:
    before = metric(echo, "voice_gateway_calls_total")

    async def cut() -> None:
        for n in range(30):
            client = await connect(echo.url)
            await client.send(start_message(f"MZ{n}"))
            await client.send(media(f"MZ{n}"))
            client.transport.abort()

    asyncio.run(cut())
    wait_until(lambda: metric(echo, "voice_gateway_calls_total") == before + 30)
    wait_until(lambda: metric(echo, "voice_gateway_calls_active") == 0)


def test_too_many_mistakes_and_a_missing_start_close_only_that_peer(echo: Gateway) -> None:
    async def closed_with(client: ClientConnection, messages: list[str]) -> int:
        try:
            for message in messages:
                await client.send(message)
            await asyncio.wait_for(client.recv(), 10)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 0
        return -1

    async def insist() -> tuple[int, int]:
        async with connect(echo.url) as bad, connect(echo.url) as silent:
            return await closed_with(bad, ["nonsense"] * 60), await closed_with(silent, [])

    assert asyncio.run(insist()) == (1007, 1008)


def test_a_foreign_page_and_a_full_gateway_are_refused_before_the_handshake(
    gateway: Callable[..., Gateway],
) -> None:
    running = gateway("--workers", "1", "--responder", "echo", "--calls-per-worker", "1")

    async def knock() -> list[int]:
        statuses = []
        with pytest.raises(InvalidStatus) as foreign:
            await connect(running.url, origin="https://evil.example")  # type: ignore[arg-type]
        statuses.append(foreign.value.response.status_code)
        async with connect(running.url) as first:
            await first.send(start_message("MZ1"))
            await first.send(media("MZ1"))
            await asyncio.wait_for(first.recv(), 5)
            with pytest.raises(InvalidStatus) as full:
                await connect(running.url)
            statuses.append(full.value.response.status_code)
        return statuses

    assert asyncio.run(knock()) == [403, 503]


def supervisor(*flags: str, cwd: Path = ROOT, **environment: str) -> Any:
    run = subprocess.run(
        [sys.executable, "-m", "supervisor", *flags],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return run.returncode, run.stderr


def test_operators_mistakes_are_one_sentence_and_status_2(tmp_path: Path) -> None:
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "default.toml").write_text("busines_name = 'x'\n")
    ports = ["--port", str(free_port()), "--console-port", str(free_port()), "--host", "127.0.0.1"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        cases = [
            supervisor("--workers", "0"),
            supervisor("--check", VAD="loud"),
            supervisor("--check", STT_BASE_URL="ftp://x"),
            supervisor("--env-file", str(tmp_path / "missing.env")),
            supervisor(*ports[2:], "--port", str(taken.getsockname()[1])),
            supervisor(*ports, PROFILE_DIR=str(tmp_path / "profiles")),
        ]
    for status, stderr in cases:
        assert status == 2, stderr
        assert "Traceback" not in stderr
        assert 0 < len([line for line in stderr.splitlines() if " INFO " not in line]) <= 3, stderr


def test_a_turn_model_of_another_kind_ends_the_start(tmp_path: Path) -> None:
    """Only a worker can look into it: the supervisor loads no libraries."""
    model = tmp_path / "turn.onnx"
    model.write_bytes(mean_model(("N", 80, 3000)))
    ports = ["--port", str(free_port()), "--console-port", str(free_port()), "--host", "127.0.0.1"]
    status, stderr = supervisor(*ports, TURN_MODEL=str(model))
    assert status == 2
    assert f"TURN_MODEL={model}: no Smart Turn v3 model: its input has the shape" in stderr
    assert "Traceback" not in stderr
