"""Sentences that many calls share are synthesised once; what broke is never kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ProviderError
from gateway.providers.tts_cache import PIECE_BYTES, CachedTextToSpeech
from tests.gateway.providers.rig import collected, counted, make_row


class Voice:
    """Says each letter as 100 bytes of it, one a step; "!" fails, "?" waits to be let go on."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended = 0
        self.go_on = asyncio.Event()

    async def speak(self, text: str, language: str, voice: str = "") -> AsyncGenerator[bytes, None]:
        self.begun.append(text)
        try:
            for letter in text:
                await asyncio.sleep(0)
                if letter == "!":
                    raise ProviderError("it broke")
                if letter == "?":
                    await self.go_on.wait()
                yield letter.encode() * 100
        finally:
            self.ended += 1

    async def aclose(self) -> None:
        pass


def run(check: Callable[[CachedTextToSpeech, Voice], Awaitable[None]], bytes_max: int) -> None:
    async def go() -> None:
        voice = Voice()
        cache = CachedTextToSpeech(voice, make_row(), bytes_max)
        await asyncio.wait_for(check(cache, voice), 20)
        await cache.aclose()
        assert cache._underway == {}

    asyncio.run(go())


def test_what_is_said_a_third_time_needs_no_voice() -> None:
    async def check(cache: CachedTextToSpeech, voice: Voice) -> None:
        said = [await collected(cache.speak("abc", "en")) for _ in range(4)]
        assert said == [b"a" * 100 + b"b" * 100 + b"c" * 100] * 4
        assert voice.begun == ["abc", "abc"], "what is said once is not kept"
        assert await collected(cache.speak("abc", "ru")) == said[0]
        assert await collected(cache.speak("abc", "en", "marin")) == said[0]
        assert len(voice.begun) == 4
        assert counted(cache._row) == {
            "tts_cache_hits": 2,
            "tts_cache_misses": 4,
            "tts_cache_bytes": 300,
        }

    run(check, 1_000)


def test_what_is_prepared_is_there_the_first_time() -> None:
    async def check(cache: CachedTextToSpeech, voice: Voice) -> None:
        text = "x" * (PIECE_BYTES // 100 * 2 + 1)
        assert await cache.prepare([(text, "en", "")]) == 1
        async with aclosing(cache.speak(text, "en")) as stream:
            pieces = [piece async for piece in stream]
        assert [len(piece) for piece in pieces] == [PIECE_BYTES, PIECE_BYTES, 100]
        assert voice.begun == [text]

    run(check, 100_000)


def test_a_failure_ends_preparing_and_is_not_kept() -> None:
    async def check(cache: CachedTextToSpeech, voice: Voice) -> None:
        assert await cache.prepare([("a", "en", ""), ("b!", "en", ""), ("c", "en", "")]) == 1
        for _ in range(3):
            with pytest.raises(ProviderError, match="it broke"):
                await collected(cache.speak("b!", "en"))
        assert voice.begun == ["a", "b!", "b!", "b!", "b!"]

    run(check, 1_000)


def test_calls_share_what_is_being_said_and_each_hears_all_of_it() -> None:
    async def check(cache: CachedTextToSpeech, voice: Voice) -> None:
        preparing = asyncio.create_task(cache.prepare([("a?b", "en", "")]))
        await asyncio.sleep(0.01)
        early = cache.speak("a?b", "en")
        assert await anext(early) == b"a" * 100, "heard before it is complete"
        late = asyncio.create_task(collected(cache.speak("a?b", "en")))
        await asyncio.sleep(0.01)
        voice.go_on.set()
        assert await collected(early) == b"?" * 100 + b"b" * 100
        assert await late == b"a" * 100 + b"?" * 100 + b"b" * 100
        assert await preparing == 1
        assert voice.begun == ["a?b"]

    run(check, 1_000)


def test_it_goes_on_while_somebody_listens_and_no_longer() -> None:
    async def check(cache: CachedTextToSpeech, voice: Voice) -> None:
        await collected(cache.speak("a", "en"))
        assert voice.ended == 1
        voice.begun.clear()
        async with aclosing(cache.speak("?", "en")) as unheard:  # seen once: not shared
            listening = asyncio.create_task(anext(unheard))
            await asyncio.sleep(0.01)
            first, second = (cache.speak("?", "en") for _ in range(2))
            waits = [asyncio.create_task(anext(one)) for one in (first, second)]
            await asyncio.sleep(0.01)
            assert voice.begun == ["?", "?"]
            for wait in waits:
                assert voice.ended == 1
                wait.cancel()
                await asyncio.gather(wait, return_exceptions=True)
            await asyncio.sleep(0.01)
            assert voice.ended == 2
            again = asyncio.create_task(collected(cache.speak("?", "en")))
            await asyncio.sleep(0.01)
            voice.go_on.set()
            assert await again == await listening == b"?" * 100

    run(check, 1_000)


@given(st.lists(st.text("ab", min_size=1, max_size=6), max_size=40))
def test_the_cache_never_outgrows_its_bound_and_always_says_the_right_thing(
    texts: list[str],
) -> None:
    async def check(cache: CachedTextToSpeech, _: Voice) -> None:
        for text in texts:
            said = await collected(cache.speak(text, "en"))
            assert said == b"".join(letter.encode() * 100 for letter in text)
            assert cache._bytes == sum(map(len, cache._kept.values())) <= 900
            assert cache._row.counter("tts_cache_bytes") == cache._bytes

    run(check, 900)
