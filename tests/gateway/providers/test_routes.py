"""A request's way through servers that fail: real client, real sockets, a fake that misbehaves."""

from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing

import pytest

from gateway import clock
from gateway.errors import ProviderError
from gateway.providers.breaker import FAILURES_MAX
from gateway.providers.openai_stt import OpenAISpeechToText
from gateway.providers.openai_tts import OpenAITextToSpeech
from gateway.providers.routed import RoutedSpeechToText, RoutedTextToSpeech
from supervisor.scoreboard import Row
from tests.fakes.openai_http import KEY, FakeOpenAI, Fault, Script, serving
from tests.gateway.providers.rig import HASTE, collected, counted, make_row, with_fake

PCM = bytes(3_200)


def listener(row: Row, *urls: str, key: str = KEY) -> RoutedSpeechToText:
    servers = [
        OpenAISpeechToText(base_url=url, api_key=key, model="gpt-transcribe") for url in urls
    ]
    return RoutedSpeechToText(servers, row, HASTE)


def speaker(row: Row, *urls: str) -> RoutedTextToSpeech:
    servers = [OpenAITextToSpeech(base_url=url, api_key=KEY, model="tts", voice="") for url in urls]
    return RoutedTextToSpeech(servers, row, HASTE)


@pytest.mark.parametrize(
    ("faults", "requests", "counters"),
    [
        ([Fault("stt", status=500, times=1)], 2, {"provider_server_errors": 1}),
        ([Fault("stt", kind="reset", times=1)], 2, {"provider_connections_failed": 1}),
        ([Fault("stt", kind="error", times=1)], 2, {"provider_server_errors": 1}),
        (
            [Fault("stt", status=429, retry_after="0.2", times=1)],
            2,
            {"provider_rate_limits": 1},
        ),
    ],
)
def test_what_passes_is_tried_once_more(
    faults: list[Fault], requests: int, counters: dict[str, int]
) -> None:
    async def check(fake: FakeOpenAI) -> None:
        row = make_row()
        stt = listener(row, fake.url)
        assert (await stt.transcribe(PCM, "")).text == "What are your opening hours?"
        await stt.aclose()
        assert counted(row) == {"stt_requests": requests, "provider_retries": 1} | counters

    with_fake(check, Script(faults=faults))


@pytest.mark.parametrize(
    ("fault", "says", "counter"),
    [
        (Fault("stt", status=401), "status 401", "provider_keys_refused"),
        (Fault("stt", status=404), "status 404", "provider_requests_refused"),
        (Fault("stt", status=429), "status 429", "provider_rate_limits"),
        (Fault("stt", status=429, retry_after="20"), "status 429", "provider_rate_limits"),
        (Fault("stt", kind="stall"), "no answer in time", "provider_timeouts"),
        (Fault("stt", kind="stall", after_bytes=40), "no answer in time", "provider_timeouts"),
        (Fault("stt", kind="garbage"), "JSONDecodeError", "provider_garbage"),
        (Fault("stt", kind="oversized"), "far too long", "provider_garbage"),
    ],
)
def test_what_does_not_pass_is_an_error_or_somebody_elses(
    fault: Fault, says: str, counter: str
) -> None:
    async def check(fake: FakeOpenAI) -> None:
        row = make_row()
        stt = listener(row, fake.url)
        with pytest.raises(ProviderError, match=says) as raised:
            await stt.transcribe(PCM, "en")
        assert KEY not in str(raised.value)
        assert counted(row) == {"stt_requests": 1, counter: 1}
        await stt.aclose()
        async with serving(Script(transcript="from the other")) as other:
            stt = listener(row, fake.url, other.url)
            assert (await stt.transcribe(PCM, "en")).text == "from the other"
            assert row.counter("provider_fallbacks") == 1
            await stt.aclose()

    with_fake(check, Script(faults=[fault]))


@pytest.mark.parametrize("url", ["http://no-such-host.invalid/v1", "http://127.0.0.1:9/v1"])
def test_a_host_that_is_not_there_is_followed_by_the_next(url: str) -> None:
    async def check(fake: FakeOpenAI) -> None:
        row = make_row()
        stt = listener(row, url, fake.url)
        assert (await stt.transcribe(PCM, "en")).text
        assert row.counter("provider_connections_failed") >= 1
        await stt.aclose()

    with_fake(check)


def test_a_server_that_fails_often_is_not_asked_until_it_may_be_well_again() -> None:
    async def check(fake: FakeOpenAI) -> None:
        row = make_row()
        stt = listener(row, fake.url)
        for _ in range(FAILURES_MAX + 3):
            with pytest.raises(ProviderError):
                await stt.transcribe(PCM, "en")
        assert len(fake.asked) == FAILURES_MAX
        assert counted(row)["provider_not_asked"] == 3
        assert counted(row)["provider_breakers_open"] == 1
        fake.script.faults = []
        breaker = stt._routes.servers[0].breaker
        breaker._probe_at_ns = clock.now_ns()  # its time is over
        assert (await stt.transcribe(PCM, "en")).text
        assert "provider_breakers_open" not in counted(row)
        assert counted(row)["provider_breakers_opened"] == 1
        await stt.aclose()

    with_fake(check, Script(faults=[Fault("stt", status=429)]))


def test_a_storm_of_failures_is_not_doubled_by_retries() -> None:
    async def check(fake: FakeOpenAI) -> None:
        row = make_row()
        stt = listener(row, fake.url)
        stt._routes.servers[0].breaker._failures_max = 1_000
        for _ in range(20):
            with pytest.raises(ProviderError):
                await stt.transcribe(PCM, "en")
        assert len(fake.asked) / 20 <= 1.3
        await stt.aclose()

    with_fake(check, Script(faults=[Fault("stt", status=500)]))


def test_a_stream_that_stalls_ends_with_an_error_and_keeps_what_came() -> None:
    async def check(fake: FakeOpenAI) -> None:
        row = make_row()
        tts = speaker(row, fake.url)
        heard: list[bytes] = []

        async def listen() -> None:
            async for piece in tts.speak("Hello.", "en"):
                heard.append(piece)  # noqa: PERF401 - what came before the error is kept

        with pytest.raises(ProviderError, match="no answer in time"):
            await listen()
        assert len(b"".join(heard)) == 20_000
        await tts.aclose()

    with_fake(check, Script(faults=[Fault("tts", kind="stall", after_bytes=20_001)]))


def test_a_slow_listener_does_not_run_into_the_deadline() -> None:
    async def check(fake: FakeOpenAI) -> None:
        tts = speaker(make_row(), fake.url)
        async with aclosing(tts.speak("Hello.", "en")) as stream:
            assert await anext(stream)
            await asyncio.sleep(0.5)
            assert await anext(stream)
        await tts.aclose()

    with_fake(check, Script(speech_ms=20_000))


def test_a_voice_by_name_is_the_first_servers() -> None:
    async def check(fake: FakeOpenAI) -> None:
        async with serving() as other:
            tts = speaker(make_row(), fake.url, other.url)
            assert await collected(tts.speak("Hello.", "en", "marin"))
            assert (fake.asked[0][1]["voice"], other.asked[0][1]["voice"]) == ("marin", "en")
            await tts.aclose()

    with_fake(check, Script(faults=[Fault("tts", status=500)]))


def test_more_requests_than_may_wait_at_once_take_turns() -> None:
    async def check(fake: FakeOpenAI) -> None:
        row = make_row()
        stt = listener(row, fake.url)
        server = stt._routes.servers[0]
        while server.waiting._value > 1:
            await server.waiting.acquire()
        await asyncio.gather(*(stt.transcribe(PCM, "en") for _ in range(3)))
        assert row.counter("provider_waits") == 2
        await stt.aclose()

    with_fake(check, Script(stt_ms=20))


def test_a_connection_attempt_that_nobody_answers_is_given_up_in_time() -> None:
    """A listener whose queue is full answers no SYN: an unroutable address without a route."""

    async def check(fake: FakeOpenAI) -> None:
        with socket.socket() as full, socket.socket() as filler:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            filler.connect(full.getsockname())
            url = f"http://127.0.0.1:{full.getsockname()[1]}/v1"
            row = make_row()
            stt = listener(row, url, fake.url)
            assert (await stt.transcribe(PCM, "en")).text
            assert counted(row)["provider_timeouts"] == 1
            await stt.aclose()

    with_fake(check)
