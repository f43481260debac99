"""Speech to text over real HTTP: what is asked, what is understood, what goes wrong."""

from __future__ import annotations

import asyncio
import gc
import socket
import wave
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigurationError, ProviderError
from gateway.providers import openai_client, openai_stt
from gateway.providers.base import Transcript
from gateway.providers.openai_stt import OpenAISpeechToText
from gateway.server_settings import OPENAI
from tests.fakes.openai_http import KEY as FAKE_KEY
from tests.fakes.openai_http import FakeOpenAI, Fault, Script
from tests.gateway.providers.rig import go_forward, with_fake
from tests.gateway.providers.stand_in import (
    Answer,
    StandIn,
    answer,
    raw,
    silence,
    standing_in,
)

KEY = "sk-very-secret-0123456789"
PCM = b"\x01\x00\x02\x00" * 800
HEARD = b'{"text": " Hello. ", "language": "English", "duration": 1.0}'


async def text_of(provider: OpenAISpeechToText, pcm: bytes, language: str) -> Transcript:
    found = [transcript async for transcript in provider.transcribe(pcm, language)]
    assert len(found) == 1
    return found[0]


def ask(
    check: Callable[[OpenAISpeechToText, StandIn], Coroutine[None, None, None]],
    *answers: Answer,
) -> None:
    async def go() -> None:
        async with standing_in(*answers) as server:
            provider = OpenAISpeechToText(base_url=server.url, api_key=KEY, model="whisper-base")
            try:
                await check(provider, server)
            finally:
                await provider.aclose()

    asyncio.run(go())


def test_without_a_language_the_server_is_asked_for_it() -> None:
    async def check(provider: OpenAISpeechToText, server: StandIn) -> None:
        assert await text_of(provider, PCM, "") == Transcript("Hello.", "en")
        head, body = server.asked[0]
        assert head.startswith(b"POST /v1/audio/transcriptions HTTP/1.1\r\n")
        assert f"authorization: bearer {KEY}".encode() in head.lower()
        assert b'name="language"' not in body
        assert b"verbose_json" in body
        assert b"whisper-base" in body
        begin = body.index(b"RIFF")
        with wave.open(BytesIO(body[begin:])) as sent:
            assert (sent.getnchannels(), sent.getsampwidth(), sent.getframerate()) == (1, 2, 16_000)
            assert sent.readframes(10_000) == PCM

    ask(check, answer(200, HEARD))


def test_a_known_language_is_told_and_kept() -> None:
    async def check(provider: OpenAISpeechToText, server: StandIn) -> None:
        assert await text_of(provider, PCM, "ru") == Transcript("Hello.", "ru")
        body = server.asked[0][1]
        assert b'name="language"\r\n\r\nru\r\n' in body
        assert b"verbose_json" not in body

    ask(check, answer(200, HEARD))


REFUSED_FORMAT = (
    b'{"error": {"message": "response_format \'verbose_json\' is not compatible",'
    b' "type": "invalid_request_error", "param": "response_format", "code": null}}'
)


def test_a_server_without_the_long_format_is_asked_for_it_once() -> None:
    async def check(provider: OpenAISpeechToText, server: StandIn) -> None:
        for _ in range(2):
            assert await text_of(provider, PCM, "") == Transcript("Hi", "")
        long = [b"verbose_json" in body for _, body in server.asked]
        assert long == [True, False, False]

    ok = answer(200, b'{"text": "Hi"}')
    ask(check, answer(400, REFUSED_FORMAT), ok, ok)


def test_another_refusal_is_no_reason_to_ask_again() -> None:
    async def check(provider: OpenAISpeechToText, server: StandIn) -> None:
        with pytest.raises(ProviderError, match="status 400"):
            await text_of(provider, PCM, "")
        assert len(server.asked) == 1

    ask(check, answer(400, b'{"error": {"message": "bad audio", "param": "file"}}'))


@pytest.mark.parametrize(
    ("body", "language", "expected"),
    [
        (b'{"text": "Hi"}', "", Transcript("Hi", "")),
        (b'{"text": ""}', "", Transcript("", "")),
        (b'{"text": "Hi", "language": "russian"}', "", Transcript("Hi", "ru")),
        (b'{"text": "Hi", "language": "AR"}', "", Transcript("Hi", "ar")),
        (b'{"text": "Hi", "language": "german"}', "", Transcript("Hi", "")),
        (b'{"text": "Hi", "language": null}', "", Transcript("Hi", "")),
        (b'{"text": "Hi", "language": ["en"]}', "", Transcript("Hi", "")),
        (b'{"text": "Hi", "language": "english"}', "ru", Transcript("Hi", "ru")),
        (b'{"text": "Hi", "segments": 5, "more": {}}', "en", Transcript("Hi", "en")),
    ],
)
def test_answers_are_read_tolerantly(body: bytes, language: str, expected: Transcript) -> None:
    assert openai_stt.parse(body, language) == expected


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"text": null}', b'"Hi"'])
def test_an_answer_without_a_text_is_an_error(body: bytes) -> None:
    with pytest.raises(ProviderError, match="speech-to-text"):
        openai_stt.parse(body, "")


@given(st.binary(max_size=50))
def test_any_bytes_are_a_transcript_or_a_provider_error(body: bytes) -> None:
    try:
        transcript = openai_stt.parse(body, "")
    except ProviderError:
        return
    assert transcript.language in {"", "en", "ru", "ar"}


@pytest.mark.parametrize(
    ("reply", "says", "retryable"),
    [
        (answer(400, b"{}"), "refused with status 400", False),
        (answer(401, b'{"error": {"message": "bad key %s"}}' % KEY.encode()), "status 401", False),
        (answer(404, b"", "text/plain"), "status 404", False),
        (answer(413, b"<html>", "text/html"), "status 413", False),
        (answer(429, b"{}"), "status 429", True),
        (answer(500, b"not json"), "status 500", True),
        (answer(503, b"{}"), "status 503", True),
        (raw(b"HTTP/1.1 307 X\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n"), "status 307", False),
        (answer(200, b"<html>", "text/html"), "not JSON", False),
        (answer(200, b"[]"), "no text", False),
        (raw(b"", close=True), "connection failed", True),
        (raw(b"SSH-2.0-x\r\n", close=True), "connection failed", True),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", close=True), "failed", True),
    ],
)
def test_what_goes_wrong_is_a_provider_error(reply: Answer, says: str, *, retryable: bool) -> None:
    async def check(provider: OpenAISpeechToText, _: StandIn) -> None:
        with pytest.raises(ProviderError, match=says) as raised:
            await text_of(provider, PCM, "en")
        assert raised.value.retryable is retryable
        assert KEY not in str(raised.value)

    ask(check, reply)


def test_a_server_that_is_not_there_is_an_error_at_once() -> None:
    async def check() -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
            provider = OpenAISpeechToText(base_url=url, api_key="", model="m")
            with pytest.raises(ProviderError, match="connection failed") as raised:
                await text_of(provider, PCM, "en")
            assert raised.value.retryable
            await provider.aclose()

    asyncio.run(check())


def test_a_cancelled_request_is_closed() -> None:
    async def check(provider: OpenAISpeechToText, server: StandIn) -> None:
        asking = asyncio.create_task(text_of(provider, PCM, "en"))
        await asyncio.wait_for(server.arrived.wait(), 20)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(server.left.wait(), 20)

    ask(check, silence)


def test_one_connection_serves_many_requests_and_is_closed_with_the_provider() -> None:
    async def check(provider: OpenAISpeechToText, server: StandIn) -> None:
        for _ in range(3):
            await text_of(provider, PCM, "en")
        assert server.connections == 1
        assert not server.left.is_set()
        await provider.aclose()
        await asyncio.wait_for(server.left.wait(), 20)
        gc.collect()  # a transport left open would warn, and warnings are errors

    ask(check, *[answer(200, HEARD)] * 3)


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("http://127.0.0.1:80/v1", True),
        ("http://127.8.8.8/v1", True),
        ("http://[::1]:80/v1", True),
        ("http://localhost:80/v1", True),
        ("https://api.openai.com/v1", False),
        ("http://10.0.0.1/v1", False),
        ("http://localhost.example.org/v1", False),
    ],
)
def test_loopback_is_recognised(url: str, *, loopback: bool) -> None:
    assert openai_client.is_loopback(url) is loopback


def test_a_proxy_of_the_environment_is_not_for_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")

    async def check(provider: OpenAISpeechToText, _: StandIn) -> None:
        assert (await text_of(provider, PCM, "en")).text == "Hello."

    ask(check, answer(200, HEARD))


@pytest.mark.parametrize(
    ("url", "key", "says"),
    [
        ("http://[::1/v1", "", "is not a URL"),
        ("http://127.0.0.1:port/v1", "", "is not a URL"),
        ("http://127.0.0.1/v1", "ключ", "characters that no key has"),
        ("http://127.0.0.1/v1", "sk-1\r\nX: y", "characters that no key has"),
    ],
)
def test_settings_that_cannot_work_are_refused_early(url: str, key: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as raised:
        OpenAISpeechToText(base_url=url, api_key=key, model="m")
    assert not key or key not in str(raised.value)


async def one(provider: OpenAISpeechToText, language: str, *keywords: str) -> Transcript:
    async with aclosing(provider.transcribe(PCM, language, keywords)) as stream:
        found = await anext(stream)
    await provider.aclose()
    return found


@pytest.mark.parametrize(
    ("model", "language", "hints"),
    [
        (
            "gpt-transcribe",
            "",
            {"stream": "true", "languages": ["en", "ru", "ar"], "keywords": ["Ann", "Riverside"]},
        ),
        (
            "gpt-transcribe",
            "ru",
            {"stream": "true", "language": "ru", "keywords": ["Ann", "Riverside"]},
        ),
        ("gpt-4o-transcribe", "", {"stream": "true", "prompt": "Ann, Riverside"}),
        ("whisper-1", "en", {"language": "en", "prompt": "Ann, Riverside"}),
    ],
)
def test_each_model_is_given_the_hints_it_takes(
    model: str, language: str, hints: dict[str, object]
) -> None:
    async def check(fake: FakeOpenAI) -> None:
        provider = OpenAISpeechToText(base_url=fake.url, api_key=FAKE_KEY, model=model)
        heard = await one(provider, language, "Ann", "Riverside")
        assert heard == Transcript("Good day.", language or "en")
        fields = fake.asked[0][1]
        named = {"stream", "language", "languages", "keywords", "prompt"}
        assert {name: fields[name] for name in fields.keys() & named} == hints
        assert fields["seconds"] == len(PCM) / 32_000

    with_fake(check, Script(transcript="Good day."))


def test_a_stream_without_a_text_is_an_error_and_an_empty_text_is_none() -> None:
    async def check(fake: FakeOpenAI) -> None:
        def provider() -> OpenAISpeechToText:
            return OpenAISpeechToText(base_url=fake.url, api_key=FAKE_KEY, model="gpt-transcribe")

        assert await one(provider(), "") == Transcript("", "")
        fake.script.transcript = "Good day."
        fake.script.faults = [Fault("stt", kind="error")]
        with pytest.raises(ProviderError, match="broke off"):
            await one(provider(), "")

    with_fake(check, Script(transcript="", language=""))


@pytest.mark.parametrize("seconds", [60, 600])
def test_a_long_utterance_is_sent_whole(seconds: int) -> None:
    async def check(fake: FakeOpenAI) -> None:
        provider = OpenAISpeechToText(base_url=fake.url, api_key=FAKE_KEY, model="whisper-1")
        async with aclosing(provider.transcribe(bytes(32_000 * seconds), "en")) as stream:
            assert (await anext(stream)).text
        await provider.aclose()
        assert fake.asked[0][1]["seconds"] == seconds

    with_fake(check)


def test_the_connection_is_kept_for_the_next_utterance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        openai_stt, "FINISH_MS_MAX", 20_000
    )  # a busy machine is no closed connection

    async def check(fake: FakeOpenAI) -> None:
        stt = OpenAISpeechToText(base_url=fake.url, api_key=FAKE_KEY, model="gpt-transcribe")
        for _ in range(3):
            assert (await text_of(stt, PCM, "en")).text == fake.script.transcript
        await stt.aclose()
        assert len(fake.peers) == 1

    with_fake(check)


@pytest.mark.live
def test_the_real_service_transcribes(openai_key: str) -> None:
    async def check() -> None:
        provider = OpenAISpeechToText(base_url=OPENAI, api_key=openai_key, model="gpt-transcribe")
        stream = provider.transcribe(go_forward(), "")
        assert "forward" in (await anext(stream)).text.lower()
        await provider.aclose()

    asyncio.run(check())
