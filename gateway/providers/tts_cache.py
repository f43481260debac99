"""Speech that was said before: sentences many calls share are synthesised once.

A greeting, a question, an apology are said in every call. A sentence is kept from the second time
it is asked for (or from the first when it is prepared, see ``prepare``): what is said once only,
as most of what a language model says, must not push these out. What is kept is bounded in bytes,
the longest unused goes first; a synthesis that did not end well is never kept.

Calls that ask for the same sentence at the same moment share one synthesis, and each hears it as
it comes. It goes on while at least one of them listens.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing

from gateway import clock
from gateway.errors import ProviderError
from gateway.limits import (
    TTS_CACHE_BYTES_MAX,
    TTS_CACHE_SEEN_MAX,
    TTS_CACHE_SENTENCE_BYTES_MAX,
)
from gateway.providers.base import TextToSpeech
from supervisor.scoreboard import Row

#: Text, language, voice.
Sentence = tuple[str, str, str]
#: A kept sentence is given in pieces of this size (100 ms), so that a barge-in is heard at once.
PIECE_BYTES = 4_800
PREPARE_PAUSE_MS = 50


class CachedTextToSpeech:
    """A ``TextToSpeech`` that remembers what another said; one a worker."""

    def __init__(self, tts: TextToSpeech, row: Row, bytes_max: int = TTS_CACHE_BYTES_MAX) -> None:
        self._tts = tts
        self._row = row
        self._bytes_max = bytes_max
        self._kept: OrderedDict[Sentence, bytes] = OrderedDict()
        self._bytes = 0
        self._live = 0  # what calls are being spoken to with, the cache aside
        self._seen: OrderedDict[Sentence, None] = OrderedDict()
        self._underway: dict[Sentence, _Synthesis] = {}

    async def speak(self, text: str, language: str, voice: str = "") -> AsyncGenerator[bytes, None]:
        """Stream 24 kHz PCM. Raises ``ProviderError``."""
        sentence = (text, language, voice)
        kept = self._kept.get(sentence)
        if kept is not None:
            self._kept.move_to_end(sentence)
            self._row.count("tts_cache_hits")
            for at in range(0, len(kept), PIECE_BYTES):
                yield kept[at : at + PIECE_BYTES]
            return
        self._row.count("tts_cache_misses")
        again = sentence in self._underway or self._was_seen(sentence)
        stream = self._shared(sentence) if again else self._tts.speak(text, language, voice)
        self._live += 1
        try:
            async with aclosing(stream):
                async for piece in stream:
                    yield piece
        finally:
            self._live -= 1

    def recall(self, text: str, language: str, voice: str) -> bytes:
        """What is kept of a sentence, whole, at once; empty when it is not."""
        return self._kept.get((text, language, voice), b"")

    async def prepare(self, sentences: Iterable[Sentence]) -> int:
        """Have these ready, one after the other, while no call needs the server.

        Returns how many are; after a failure the rest is left out, the server has enough to do.
        """
        ready = 0
        for sentence in sentences:
            while self._live:
                await clock.sleep_ms(PREPARE_PAUSE_MS)
            try:
                if sentence not in self._kept:
                    async with aclosing(self._shared(sentence)) as stream:
                        async for _ in stream:
                            pass
            except ProviderError:
                break
            ready += 1
        return ready

    async def aclose(self) -> None:
        """Release connections."""
        for synthesis in tuple(self._underway.values()):
            synthesis.stop()
        await self._tts.aclose()

    async def _shared(self, sentence: Sentence) -> AsyncGenerator[bytes, None]:
        synthesis = self._underway.get(sentence)
        if synthesis is None:
            synthesis = self._underway[sentence] = _Synthesis(self._tts, sentence, self._ended)
        async with aclosing(synthesis.listen()) as stream:
            async for piece in stream:
                yield piece

    def _ended(self, sentence: Sentence, pcm: bytes | None) -> None:
        """A shared synthesis is over; ``pcm`` is None when it is not whole."""
        del self._underway[sentence]
        if not pcm or len(pcm) > TTS_CACHE_SENTENCE_BYTES_MAX or len(pcm) > self._bytes_max:
            return
        self._kept[sentence] = pcm
        self._bytes += len(pcm)
        while self._bytes > self._bytes_max:
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= len(dropped)
        self._row.gauge("tts_cache_bytes", self._bytes)

    def _was_seen(self, sentence: Sentence) -> bool:
        if sentence in self._seen:
            del self._seen[sentence]
            return True
        self._seen[sentence] = None
        if len(self._seen) > TTS_CACHE_SEEN_MAX:
            self._seen.popitem(last=False)
        return False


class _Synthesis:
    """One synthesis and all who listen to it."""

    def __init__(
        self,
        tts: TextToSpeech,
        sentence: Sentence,
        ended: Callable[[Sentence, bytes | None], None],
    ) -> None:
        self._tts = tts
        self._sentence = sentence
        self._ended = ended
        self._pieces: list[bytes] = []
        self._news = asyncio.Event()
        self._listeners = 0
        self._is_over = False
        self._error: BaseException | None = None
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._done)

    async def listen(self) -> AsyncGenerator[bytes, None]:
        """All of it, from its beginning on."""
        self._listeners += 1
        try:
            at = 0
            while True:
                while at < len(self._pieces):
                    yield self._pieces[at]
                    at += 1
                if self._is_over:
                    break
                await self._news.wait()
        finally:
            self._listeners -= 1
            if not self._listeners:
                self.stop()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Nobody listens any more; nobody else may begin to."""
        if not self._is_over:
            self._over(None)
            self._task.cancel()

    async def _run(self) -> None:
        async with aclosing(self._tts.speak(*self._sentence)) as stream:
            async for piece in stream:
                self._pieces.append(piece)
                self._tell()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._error = None if task.cancelled() else task.exception()
        if not self._is_over:
            self._over(None if task.cancelled() or self._error else b"".join(self._pieces))

    def _over(self, pcm: bytes | None) -> None:
        self._is_over = True
        self._ended(self._sentence, pcm)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
