"""Text to speech over real HTTP: the stream, its deadlines, its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ProviderError
from gateway.providers.base import TextToSpeech
from gateway.providers.openai_tts import (
    INPUT_CHARS_MAX,
    OpenAITextToSpeech,
    may_be_pcm,
    parts,
    whole_samples,
)
from gateway.server_settings import OPENAI
from tests.fakes.openai_http import KEY as FAKE_KEY
from tests.fakes.openai_http import FakeOpenAI, Script
from tests.gateway.providers.rig import with_fake
from tests.gateway.providers.stand_in import (
    CHUNKED,
    CHUNKS_END,
    Answer,
    StandIn,
    answer,
    chunk,
    raw,
    silence,
    standing_in,
)

KEY = "sk-very-secret-0123456789"


def speak(
    check: Callable[[TextToSpeech, StandIn], Coroutine[None, None, None]],
    *answers: Answer,
    voice: str = "",
) -> None:
    async def go() -> None:
        async with standing_in(*answers) as server:
            provider = OpenAITextToSpeech(
                base_url=server.url,
                api_key=KEY,
                model="local",
                voice=voice,
            )
            try:
                await check(provider, server)
            finally:
                await provider.aclose()

    asyncio.run(go())


async def collected(stream: AsyncIterator[bytes]) -> list[bytes]:
    return [piece async for piece in stream]


@given(st.lists(st.binary(max_size=9), max_size=12))
def test_samples_stay_whole_however_the_bytes_are_cut(pieces: list[bytes]) -> None:
    async def source() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    made = asyncio.run(collected(whole_samples(source())))
    sent = b"".join(pieces)
    assert b"".join(made) == sent[: len(sent) // 2 * 2]
    assert all(piece and len(piece) % 2 == 0 for piece in made)


@given(st.text(alphabet="ab \n", max_size=60), st.integers(1, 300))
def test_a_long_text_is_cut_into_parts_that_are_taken(text: str, times: int) -> None:
    cut = list(parts(text * times))
    assert all(part.strip() and len(part) <= INPUT_CHARS_MAX for part in cut)
    assert "".join("".join(cut).split()) == "".join((text * times).split())


@pytest.mark.parametrize("text", ["", " \n"])
def test_nothing_to_say_asks_nobody(text: str) -> None:
    async def check(provider: TextToSpeech, server: StandIn) -> None:
        assert await collected(provider.speak(text, "en")) == []
        assert server.asked == []

    speak(check)


@pytest.mark.parametrize(("voice", "sent"), [("", "ru"), ("alloy", "alloy")])
def test_what_is_asked(voice: str, sent: str) -> None:
    async def check(provider: TextToSpeech, server: StandIn) -> None:
        assert b"".join(await collected(provider.speak("Привет.", "ru"))) == b"\x01\x02"
        head, body = server.asked[0]
        assert head.startswith(b"POST /v1/audio/speech HTTP/1.1\r\n")
        assert orjson.loads(body) == {
            "model": "local",
            "voice": sent,
            "input": "Привет.",
            "response_format": "pcm",
        }

    speak(check, answer(200, b"\x01\x02", "audio/pcm"), voice=voice)


def test_audio_arrives_as_it_is_made_in_whole_samples() -> None:
    async def in_odd_pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        writer.write(CHUNKED + chunk(b"abc"))
        await writer.drain()
        await asyncio.wait_for(first_heard.wait(), 20)
        writer.write(chunk(b"d") + chunk(b"efghi") + CHUNKS_END)

    async def check(provider: TextToSpeech, _: StandIn) -> None:
        stream = provider.speak("Hello.", "en")
        assert await anext(stream) == b"ab"
        first_heard.set()
        assert b"".join(await collected(stream)) == b"cdefgh"

    first_heard = asyncio.Event()
    speak(check, in_odd_pieces)


def test_nothing_to_say_is_an_empty_stream() -> None:
    async def check(provider: TextToSpeech, _: StandIn) -> None:
        assert await collected(provider.speak("...", "en")) == []

    speak(check, answer(200, b"", "audio/pcm"))


def test_who_stops_listening_closes_the_request() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del reader
        writer.write(CHUNKED)
        while not writer.is_closing():
            writer.write(chunk(bytes(4096)))
            await writer.drain()
            await asyncio.sleep(0)

    async def check(provider: TextToSpeech, server: StandIn) -> None:
        async with aclosing(provider.speak("Hello.", "en")) as stream:
            assert await anext(stream)
        await asyncio.wait_for(server.left.wait(), 20)

    speak(check, endless)


@pytest.mark.parametrize(
    ("reply", "says", "retryable"),
    [
        (answer(400, b'{"error": {"message": "unknown voice"}}'), "refused with status 400", False),
        (answer(401, b'{"error": {"message": "key %s"}}' % KEY.encode()), "status 401", False),
        (answer(503, b"{}"), "status 503", True),
        (answer(200, b"{}", "application/json"), "application/json is not PCM", False),
        (answer(200, b"ID3", "audio/mpeg"), "audio/mpeg is not PCM", False),
        (raw(b"", close=True), "connection failed", True),
        (raw(CHUNKED + chunk(b"ab"), close=True), "connection failed", True),
        (raw(CHUNKED + b"zz\r\n", close=True), "connection failed", True),
    ],
)
def test_what_goes_wrong_is_a_provider_error(reply: Answer, says: str, *, retryable: bool) -> None:
    async def check(provider: TextToSpeech, _: StandIn) -> None:
        with pytest.raises(ProviderError, match=says) as raised:
            await collected(provider.speak("Hello.", "en"))
        assert raised.value.retryable is retryable
        assert KEY not in str(raised.value)

    speak(check, reply)


@pytest.mark.parametrize(
    ("content_type", "playable"),
    [
        ("audio/pcm", True),
        ("application/octet-stream", True),
        ("audio/L16; rate=24000", True),
        ("audio/wav", True),
        ("", True),
        ("text/html", False),
        ("Application/JSON", False),
        ("audio/mpeg", False),
        ("audio/ogg; codecs=opus", False),
    ],
)
def test_only_what_may_be_pcm_is_played(content_type: str, *, playable: bool) -> None:
    assert may_be_pcm(content_type) is playable


def test_provider_errors_of_a_cancelled_call_do_not_hide_the_cancelling() -> None:
    async def check(provider: TextToSpeech, server: StandIn) -> None:
        listening = asyncio.create_task(collected(provider.speak("Hello.", "en")))
        await asyncio.wait_for(server.arrived.wait(), 20)
        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
        await asyncio.wait_for(server.left.wait(), 20)

    speak(check, silence)


def test_a_speed_is_told_only_when_it_is_not_the_usual_one() -> None:
    async def check(fake: FakeOpenAI) -> None:
        for speed in (1.0, 1.25):
            provider = OpenAITextToSpeech(
                base_url=fake.url, api_key=FAKE_KEY, model="m", voice="alloy", speed=speed
            )
            await collected(provider.speak("Hello.", "en"))
            await provider.aclose()
        assert [fields.get("speed") for _, fields in fake.asked] == [None, 1.25]

    with_fake(check)


def test_ten_kilobytes_are_spoken_in_parts_and_an_unknown_language_is_an_error() -> None:
    async def check(fake: FakeOpenAI) -> None:
        provider = OpenAITextToSpeech(base_url=fake.url, api_key=FAKE_KEY, model="m", voice="")
        spoken = b"".join(await collected(provider.speak("word " * 2_000, "en")))
        assert len(spoken) == 3 * 480
        assert all(len(fields["input"]) <= INPUT_CHARS_MAX for _, fields in fake.asked)
        with pytest.raises(ProviderError, match="status 400"):
            await collected(provider.speak("Bonjour.", "fr"))
        await provider.aclose()

    with_fake(check, Script(speech_ms=10))


@pytest.mark.live
def test_the_real_service_speaks(openai_key: str) -> None:
    async def check() -> None:
        provider = OpenAITextToSpeech(
            base_url=OPENAI, api_key=openai_key, model="gpt-4o-mini-tts", voice="alloy"
        )
        assert len(b"".join(await collected(provider.speak("Hello there.", "en")))) > 24_000
        await provider.aclose()

    asyncio.run(check())
