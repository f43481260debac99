"""The API over real HTTP: shapes, errors, limits, abandoned requests; and the process around it."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import httpx2
import numpy as np
import openai
import pytest
from typing_extensions import override

from gateway.speech_server import app as server_app
from gateway.speech_server.engines import Engines, VoiceInfo
from tests.gateway.speech_server.toys import (
    PATIENCE_S,
    ToyRecognizer,
    ToyVoice,
    serving,
    toy_engines,
    until,
    wav,
)

ROOT = Path(__file__).parent.parent.parent.parent
SECOND = wav(np.full(16_000, 500, "<i2").tobytes())
SPEECH = "/v1/audio/speech"
TRANSCRIPTIONS = "/v1/audio/transcriptions"


def with_toys(
    check: Callable[[httpx2.AsyncClient], Coroutine[None, None, None]],
    engines: Engines | None = None,
) -> None:
    async def go() -> None:
        async with serving(engines or toy_engines(ToyRecognizer(), ToyVoice())) as client:
            await check(client)

    asyncio.run(go())


async def transcribe(
    client: httpx2.AsyncClient, data: bytes = SECOND, **fields: str
) -> httpx2.Response:
    return await client.post(
        TRANSCRIPTIONS,
        files={"file": ("a.wav", data)},
        data={"model": "whisper-base"} | fields,
    )


def speech(text: str = "Hello.", **fields: object) -> dict[str, object]:
    return {"model": "local", "voice": "toy", "input": text, "response_format": "pcm"} | fields


async def check_refused(
    answer: httpx2.Response, status: int, says: str, param: str | None = None
) -> None:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert re.search(says, error["message"])
    assert error["type"] == ("server_error" if status >= 500 else "invalid_request_error")
    assert error["param"] == param


# Shapes


def test_the_official_client_is_understood() -> None:
    async def check(client: httpx2.AsyncClient) -> None:
        url = client.base_url.join("/v1")
        library = openai.AsyncOpenAI(base_url=url, api_key="none", http_client=client)
        short = await library.audio.transcriptions.create(file=("a.wav", SECOND), model="whisper-1")
        assert short.text == "16000 samples"
        long = await library.audio.transcriptions.create(
            file=("a.wav", SECOND), model="whisper-1", response_format="verbose_json", language="ar"
        )
        assert (long.text, long.language, long.duration) == ("16000 samples", "arabic", 1.0)
        assert long.segments is not None
        assert long.segments[0].no_speech_prob == 0.25
        spoken = await library.audio.speech.create(
            model="tts-1", voice="toy", input="Hello. World.", response_format="pcm"
        )
        assert spoken.content == b"\x01\x02" * len("Hello.World.")
        models = [model.id async for model in library.models.list()]
        assert models == ["whisper-base", "local"]

    with_toys(check)


def test_what_is_counted() -> None:
    async def check(client: httpx2.AsyncClient) -> None:
        assert (await transcribe(client)).status_code == 200
        assert (await client.post(SPEECH, json=speech())).status_code == 200
        assert (await client.get("/nowhere/17")).status_code == 404
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain")
        for line in (
            f'speech_server_requests_total{{path="{TRANSCRIPTIONS}",status="200"}} 1.0',
            'speech_server_requests_total{path="other",status="404"} 1.0',
            "speech_server_transcription_seconds_count 1.0",
            'speech_server_sentence_seconds_count{voice="toy"} 1.0',
            'speech_server_engine_requests{engine="toy-ear"} 0.0',
        ):
            assert line in answer.text

    with_toys(check)


def test_formats_of_a_transcription() -> None:
    async def check(client: httpx2.AsyncClient) -> None:
        plain = await transcribe(client, response_format="text")
        assert plain.text == "16000 samples\n"
        assert plain.headers["content-type"].startswith("text/plain")
        short = await transcribe(client)
        assert short.json() == {"text": "16000 samples"}
        nothing = await transcribe(client, wav(bytes(200)), response_format="verbose_json")
        assert (nothing.json()["text"], nothing.json()["language"]) == ("", "")

    with_toys(check)


def test_speech_as_a_wav_of_unknown_length() -> None:
    async def check(client: httpx2.AsyncClient) -> None:
        answer = await client.post(SPEECH, json=speech(response_format="wav"))
        assert answer.headers["content-type"] == "audio/wav"
        pcm = b"\x01\x02" * len("Hello.")
        reference = bytearray(wav(pcm, rate=24_000))
        reference[4:8] = reference[40:44] = b"\xff" * 4
        assert answer.content == bytes(reference)
        assert (await client.post(SPEECH, json=speech("...!"))).content == b""

    with_toys(check)


def test_sentences_are_sent_as_they_are_made() -> None:
    voice = ToyVoice()

    async def check(client: httpx2.AsyncClient) -> None:
        voice.open.set()
        async with client.stream("POST", SPEECH, json=speech("One. Two.")) as answer:
            received = answer.aiter_raw()
            assert await anext(received) == b"\x01\x02" * 4
            assert [chunk async for chunk in received] == [b"\x01\x02" * 4]
        assert voice.spoken == ["One.", "Two."]

    with_toys(check, toy_engines(ToyRecognizer(), voice))


def test_first_sentence_arrives_while_the_second_is_still_made() -> None:
    class SlowSecond(ToyVoice):
        @override
        def speak(self, sentence: str) -> bytes:
            if sentence == "Two.":
                assert self.open.wait(PATIENCE_S)
            return b"\x01\x02" * len(sentence)

    voice = SlowSecond()
    voice.open.clear()

    async def check(client: httpx2.AsyncClient) -> None:
        async with client.stream("POST", SPEECH, json=speech("First. Two.")) as answer:
            received = answer.aiter_raw()
            assert await anext(received) == b"\x01\x02" * 6
            voice.open.set()
            assert await anext(received) == b"\x01\x02" * 4

    with_toys(check, toy_engines(ToyRecognizer(), voice))


def test_it_tells_what_it_has() -> None:
    async def check(client: httpx2.AsyncClient) -> None:
        assert (await client.get("/healthz")).json() == {"status": "ok"}
        voices = (await client.get("/v1/voices")).json()
        toy = {"name": "toy", "language": "en", "engine": "toy", "quality": "none"}
        assert voices["en"] == {"voices": [toy]}
        assert "festival" in voices["ru"]["install"]
        assert "espeak" in voices["ar"]["install"]

    with_toys(check)


# Refusals


FILE = {"file": ("a.wav", SECOND)}
MODEL = {"model": "whisper-base"}


@pytest.mark.parametrize(
    ("files", "data", "says", "param"),
    [
        (FILE, {}, "model", "model"),
        ({"file": ("a.wav", b"junk")}, MODEL, "not a WAV file", "file"),
        ({"file": ("a.wav", wav(bytes(12), channels=6))}, MODEL, "6 channels", "file"),
        ({"file": (None, b"no file")}, MODEL, "a WAV file is required", "file"),
        ({"other": ("a.wav", SECOND)}, MODEL, "a WAV file is required", "file"),
        (FILE, MODEL | {"language": "de"}, "language: one of en, ru, ar", "language"),
        (FILE, MODEL | {"response_format": "srt"}, "one of json", "response_format"),
        ({}, MODEL, "not multipart", None),
        (FILE, {str(n): "x" for n in range(20)}, "Too many fields", None),
        (FILE | {"two": ("b.wav", b"")}, MODEL, "Too many files", None),
        (FILE, {"model": "x" * 70_000}, "exceeded maximum size", None),
    ],
)
def test_bad_transcription_requests(
    files: dict[str, tuple[str | None, bytes]], data: dict[str, str], says: str, param: str | None
) -> None:
    async def check(client: httpx2.AsyncClient) -> None:
        answer = await client.post(TRANSCRIPTIONS, files=files, data=data)
        await check_refused(answer, 400, says, param)

    with_toys(check)


@pytest.mark.parametrize(
    ("body", "says", "param"),
    [
        (b"", "not JSON", None),
        (b'{"model": "\xff"}', "not JSON", None),
        (b"[]", "not a JSON object", None),
        (speech(model=None), "model", "model"),
        (speech(voice=""), "voice", "voice"),
        (speech(voice={"id": "voice_1"}), "voice", "voice"),
        (speech(voice="alloy"), "unknown voice 'alloy'; there are: en, toy", "voice"),
        (speech(voice="ru"), "no voice for 'ru' is installed: `apt install", "voice"),
        (speech(""), "input: a text that is not empty", "input"),
        (speech(" \n"), "input: a text that is not empty", "input"),
        (speech("x" * 4097), "input: 4097 characters; at most 4096", "input"),
        (speech(response_format="mp3"), "response_format: one of wav, pcm", "response_format"),
    ],
)
def test_bad_speech_requests(body: bytes | dict[str, object], says: str, param: str | None) -> None:
    async def check(client: httpx2.AsyncClient) -> None:
        if isinstance(body, bytes):
            answer = await client.post(SPEECH, content=body)
        else:
            answer = await client.post(SPEECH, json=body)
        await check_refused(answer, 400, says, param)

    with_toys(check)


def test_other_mistakes_have_the_same_shape() -> None:
    async def check(client: httpx2.AsyncClient) -> None:
        await check_refused(await client.get("/v1/nothing"), 404, "Not Found")
        await check_refused(await client.get(SPEECH), 405, "Method Not Allowed")
        failed = await client.post(SPEECH, json=speech("fail"))
        await check_refused(failed, 500, "the toy failed")
        headers = {"content-type": "multipart/form-data; boundary=x"}
        torn = await client.post(TRANSCRIPTIONS, content=b"--y\r\n", headers=headers)
        await check_refused(torn, 400, "form cannot be read")

    with_toys(check)


@pytest.mark.parametrize("path", [TRANSCRIPTIONS, SPEECH])
def test_too_large_a_body_is_refused_and_the_client_sees_it(path: str) -> None:
    async def check(client: httpx2.AsyncClient) -> None:
        large = bytes(2 * server_app.AUDIO_BYTES_MAX)
        if path == TRANSCRIPTIONS:
            answer = await transcribe(client, large)
        else:
            answer = await client.post(path, content=large)
        await check_refused(answer, 413, "larger than")

    with_toys(check)


def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_app, "BODY_TIMEOUT_MS", 50)

    async def check(client: httpx2.AsyncClient) -> None:
        url = client.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        head = f"POST {SPEECH} HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
        writer.write(head.encode() + b'{"model')
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
        writer.close()

    with_toys(check)


# Load


def test_a_full_queue_refuses_at_once_and_says_when_to_come_again() -> None:
    ear, voice = ToyRecognizer(), ToyVoice()
    ear.open.clear()
    voice.open.clear()

    async def check(client: httpx2.AsyncClient) -> None:
        async def speak() -> httpx2.Response:
            return await client.post(SPEECH, json=speech())

        for ask, engine in ((partial(transcribe, client), ear), (speak, voice)):
            first = asyncio.create_task(ask())
            await until(engine.begun)
            others = [asyncio.create_task(ask()) for _ in range(4)]
            done, waiting = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
            while len(done) < 2:
                more, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                done |= more
            for refused in done:
                answer = refused.result()
                await check_refused(answer, 503, "engine has 3 requests to do; try again")
                assert answer.headers["retry-after"] == "1"
            engine.open.set()
            served = await asyncio.gather(first, *waiting)
            assert [answer.status_code for answer in served] == [200, 200, 200]

    with_toys(check, toy_engines(ear, voice, waiting_max=2))


async def until_places(engines: Engines, taken: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while engines.thread._places != taken:  # noqa: ASYNC110 - it is not ours to signal
            await asyncio.sleep(0.01)


def test_abandoned_requests_are_not_begun_and_leave_their_place() -> None:
    ear = ToyRecognizer()
    ear.open.clear()

    async def check(client: httpx2.AsyncClient) -> None:
        first = asyncio.create_task(transcribe(client))
        await until(ear.begun)
        abandoned = asyncio.create_task(transcribe(client, language="ar"))
        await until_places(engines, 2)
        abandoned.cancel()
        await asyncio.gather(abandoned, return_exceptions=True)
        await until_places(engines, 1)
        ear.open.set()
        assert (await first).status_code == 200
        assert (await transcribe(client, language="en")).status_code == 200
        assert ear.asked == ["", "en"]

    engines = toy_engines(ear, ToyVoice())
    with_toys(check, engines)


def test_a_listener_who_leaves_is_not_spoken_to() -> None:
    async def check(client: httpx2.AsyncClient) -> None:
        text = "Sentence. " * 400
        async with client.stream("POST", SPEECH, json=speech(text)) as answer:
            await anext(answer.aiter_raw())
        other = await client.post(SPEECH, json=speech("Next."))
        assert other.status_code == 200

    class Loud(ToyVoice):
        @override
        def speak(self, sentence: str) -> bytes:
            super().speak(sentence)
            return bytes(480_000)

    voice = Loud()
    with_toys(check, toy_engines(ToyRecognizer(), voice))
    assert voice.spoken[-1] == "Next."
    assert len(voice.spoken) < 400


def test_a_failure_half_way_cuts_the_stream() -> None:
    async def check(client: httpx2.AsyncClient) -> None:
        with pytest.raises(httpx2.RemoteProtocolError):
            await client.post(SPEECH, json=speech("Good. Then fail. Never."))
        assert (await client.get("/healthz")).status_code == 200

    with_toys(check)


def test_other_voices_work_while_one_is_busy() -> None:
    slow = ToyVoice()
    slow.open.clear()
    fast = ToyVoice(VoiceInfo("fast", "ru", "toy", "none"))

    async def check(client: httpx2.AsyncClient) -> None:
        waiting = asyncio.create_task(client.post(SPEECH, json=speech()))
        await until(slow.begun)
        assert (await client.post(SPEECH, json=speech(voice="ru"))).status_code == 200
        slow.open.set()
        assert (await waiting).status_code == 200

    with_toys(check, toy_engines(ToyRecognizer(), slow, fast))


# The process


def test_importing_the_main_starts_no_thread_and_no_engine() -> None:
    script = (
        "import os, sys; import gateway.speech_server.app\n"
        "print(len(os.listdir('/proc/self/task')))\n"
        "heavy = {'numpy', 'soxr', 'onnxruntime', 'ctranslate2', 'hibari', 'tokenizers'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["1", "[]"]


@contextmanager
def driven() -> Iterator[tuple[IO[str], IO[str], str]]:
    """The main in a forked child: commands, what happens, URL."""
    command = [sys.executable, "-W", "error", "-m", "tests.gateway.speech_server.driver"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            yield process.stdin, process.stdout, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def command(commands: IO[str], line: str) -> None:
    commands.write(line + "\n")
    commands.flush()


@pytest.mark.speech
def test_main_serves_ignores_ctrl_c_and_ends_on_sigterm(local_extra: None) -> None:
    with driven() as (commands, happened, url):
        assert happened.readline() == "beats\n"
        assert happened.readline() == "ready\n"
        command(commands, "int")
        assert happened.readline() == "did int\n"
        assert httpx2.get(f"{url}/healthz", trust_env=False).json() == {"status": "ok"}
        command(commands, "term")
        assert happened.read().split("\n")[:2] == ["did term", "exited 0"]
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))


@pytest.mark.speech
@pytest.mark.parametrize("way", ["term", "alive"])
def test_main_can_be_told_to_stop_while_it_loads(local_extra: None, way: str) -> None:
    with driven() as (commands, happened, _):
        assert happened.readline() == "beats\n"
        command(commands, way)
        assert happened.read().split("\n")[:2] == [f"did {way}", "exited 0"]


BROKEN = """
import sys
from gateway.speech_server.__main__ import main
{sabotage}
sys.exit(main(["--port", "0"]))
"""


@pytest.mark.speech
@pytest.mark.parametrize(
    ("sabotage", "says"),
    [
        ("sys.modules['ctranslate2'] = None", "not installed (no ctranslate2): run `make setup`"),
        (
            "import gateway.speech_server.whisper as w; w.MODEL_SHA256 = 64 * '0'",
            "Whisper weights are damaged (their sha256 is wrong)",
        ),
        (
            "import gateway.speech_server.voices as v; v.HIBARI_SHA256 = 64 * '0'",
            "voice of hibari-tts is damaged (its sha256 is wrong)",
        ),
    ],
)
def test_what_cannot_work_is_one_sentence_and_status_2(
    local_extra: None, sabotage: str, says: str
) -> None:
    script = BROKEN.format(sabotage=sabotage)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert says in done.stderr
