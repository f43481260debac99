"""A whole call with marked secrets, numbers and words: only the records keep any of them.

What the gateway prints, logs, shows over HTTP, leaves in its folder and in its processes' arguments
is searched for every mark, at default settings.
"""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import urllib.error
import urllib.request
import wave
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest

from loadtest import mulaw
from tests.gateway.providers.stand_in import StandIn, answer
from tests.integration.conftest import ROOT, Gateway
from tests.integration.test_bad_input import media, start_message
from tests.integration.test_echo import wait_until
from tests.integration.test_gate import announce, post, signed
from tests.integration.test_worker_duties import dial, frames_until

pytestmark = pytest.mark.timeout(120)

CLIP = ROOT / "tests" / "fixtures" / "clips" / "en" / "ast-check-number-dial-again.wav"
KEY = "sk-canary-key-0123456789"
OLD, TWILIO = "old-secret-0001", "new-secret-0002"
PLAIN, TELNYX = "canary-plain-token-1", "canary-telnyx-token-1"
CALLER, CALLED = "+15550177423", "+15550188534"
WORDS = "the canary sings about marmalade"
TYPED = "73918264"
MARKS = (KEY, OLD, TWILIO, PLAIN, TELNYX, CALLER[1:], CALLED[1:], "marmalade", TYPED)
ANSWERS_MAX = 500
TONE = answer(200, b"\x00\x10" * 2_400, "audio/pcm")
HEARD = answer(200, json.dumps({"text": WORDS, "language": "english"}).encode())
#: As a server may answer that repeats what it was given.
REFUSED = answer(401, json.dumps({"error": {"message": f"Incorrect key: {KEY}, {WORDS}"}}).encode())

#: The database, and what SQLite keeps beside it.
RECORDS = "records.db"

CONFIGURED = {
    "PUBLIC_URL": "https://gw.example",
    "TWILIO_AUTH_TOKEN": f"{OLD},{TWILIO}",
    "TELNYX_STREAM_TOKEN": TELNYX,
    "PLAIN_TOKEN": PLAIN,
    "OPENAI_API_KEY": KEY,
    "VAD": "level",
}


class Server(StandIn):
    """Speaks a tone; refuses the first utterance, hears the same words in all others."""

    refusals = 0

    async def by_path(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/audio/speech" in self.asked[-1][0]:
            await TONE(reader, writer)
        elif not self.refusals:
            self.refusals += 1
            await REFUSED(reader, writer)
        else:
            await HEARD(reader, writer)


def clip() -> bytes:
    with wave.open(str(CLIP)) as reader:
        samples = np.frombuffer(reader.readframes(reader.getnframes()), np.int16)
        return bytes(mulaw.encode(samples[:: reader.getframerate() // 8000]))


async def speak(gateway: Gateway, path: str) -> None:
    """A call that speaks until it was heard, types a number and hangs up."""
    url = f"ws://127.0.0.1:{gateway.port}{path}"
    async with await dial(url, additional_headers=signed(path)) as client:
        message = json.loads(start_message("MZcanary"))
        message["start"]["callSid"] = "CAcanary"
        message["start"]["customParameters"] = {"from": CALLER, "to": CALLED}
        await client.send(json.dumps(message))
        await frames_until(client, 1)
        speech = clip() + b"\xff" * 16_000
        for n in range(1_500):
            at = n * 160 % (len(speech) - 160)
            audio = base64.b64encode(speech[at : at + 160]).decode()
            await client.send(media("MZcanary", audio, n * 20))
            await asyncio.sleep(0.02)
            if n % 50 == 49 and WORDS in await asyncio.to_thread(recorded, gateway):
                break
        for digit in TYPED:
            body = {"event": "dtmf", "streamSid": "MZcanary", "dtmf": {"digit": digit}}
            await client.send(json.dumps(body))
        await client.send(media("MZcanary", CALLER))  # a bad message that holds a number
        await client.send(json.dumps({"event": "stop", "streamSid": "MZcanary"}))


def recorded(gateway: Gateway) -> str:
    """What the records tell of calls."""
    return json.dumps(gateway.get("/api/calls"))


def answers(gateway: Gateway) -> str:
    """Everything that is answered over HTTP but the records."""
    found = []
    for port, paths in {
        gateway.port: ["/healthz", "/readyz", "/nothing", "/twilio/voice", "/twilio/status"],
        gateway.console_port: ["/", "/healthz", "/readyz", "/metrics", "/api/workers"],
    }.items():
        for path in paths:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                    found.append(f"{answer.headers}{answer.read().decode()}")
            except urllib.error.HTTPError as error:
                found.append(f"{error.headers}{error.read().decode()}")
    found.append(post(gateway, "/twilio/voice", {"CallSid": "CA1", "From": CALLER}, "guess")[1])
    return "\n".join(found)


def arguments(gateway: Gateway) -> str:
    """The command lines of the whole tree, as anybody on the machine can read them."""
    supervisor = psutil.Process(gateway.process.pid)
    pids = [process.pid for process in (supervisor, *supervisor.children(recursive=True))]
    return "\n".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)


def leaks(gateway: Gateway, marks: list[str]) -> list[tuple[str, str]]:
    """Where which mark is found."""
    written = {"log": gateway.log(), "http": answers(gateway), "arguments": arguments(gateway)}
    for file in gateway.data_dir.rglob("*"):
        if file.is_file() and not file.name.startswith(RECORDS):
            written[str(file)] = file.read_text(errors="replace")
    return [(where, mark) for where, text in written.items() for mark in marks if mark in text]


def test_nothing_marked_is_written_outside_the_records(gateway: Callable[..., Gateway]) -> None:
    async def scene() -> None:
        providers = Server([])
        providers.answers = [providers.by_path] * ANSWERS_MAX
        server = await asyncio.start_server(providers.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        variables = CONFIGURED | {"STT_BASE_URL": url, "TTS_BASE_URL": url}
        running = await asyncio.to_thread(lambda: gateway("--workers", "1", **variables))
        path = await asyncio.to_thread(announce, running, "CAcanary")
        await speak(running, path)
        assert providers.refusals == 1
        ended = partial(wait_until, lambda: '"event":"call ended"' in running.log())
        await asyncio.to_thread(ended)
        assert WORDS in await asyncio.to_thread(recorded, running), "the records have it"
        token = path.rpartition("/")[2]
        assert await asyncio.to_thread(leaks, running, [*MARKS, token]) == []
        running.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(running.process.wait)
        server.close()

    asyncio.run(scene())
