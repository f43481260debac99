"""Speech to text while the caller speaks: a Realtime transcription session a call.

The shell around ``live_utterance``. The caller's audio goes out as it comes, so that at a pause
only the last words are still to be transcribed. It travels as mu-law at 8 kHz: the API takes that
or 24 kHz PCM, which is six times the bytes (a worker's 512 calls: 44 against 262 Mbit/s) and, made
from 16 kHz here, twice the CPU (0.4 against 0.2 ms a call-second), while a telephone call holds
nothing above 4 kHz. A wideband call loses its upper half here; ``STT_MODE=utterance`` keeps it.

The session is a gain, never a condition: when there is none at this moment, or its text does not
come in time, the utterance goes as a whole to the provider that takes utterances. A session that
was lost is opened again, with a pause that grows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import numpy as np
import soxr

from audio.format import PCM_BYTES_PER_SAMPLE, PCM_RATE, WIRE_RATE, Encoding
from audio.g711 import encode
from gateway import clock
from gateway.errors import ProviderError
from gateway.ops.log import get_logger
from gateway.providers.base import Ear, SpeechToText, Transcript
from gateway.providers.live_utterance import LiveUtterance
from gateway.providers.openai_stt import LANGUAGE_CODES
from gateway.providers.realtime_events import GarbageError, JsonObject
from gateway.providers.realtime_socket import Endpoint, RealtimeSocket

PIECE_MS = 100
_PIECE_BYTES = PCM_RATE * PCM_BYTES_PER_SAMPLE * PIECE_MS // 1000
#: From the commit to the final text; then the utterance goes to the other provider.
FINAL_MS = 2_500
REOPEN_MS_MIN = 500
REOPEN_MS_MAX = 15_000
#: Models that take names and words which are likely to be said.
WITH_KEYWORDS = frozenset({"gpt-live-transcribe", "gpt-transcribe"})

log = get_logger(__name__)


class LiveSpeechToText:
    """A ``SpeechToText`` whose ears listen live; ``fallback`` takes whole utterances."""

    def __init__(self, endpoint: Endpoint, model: str, fallback: SpeechToText) -> None:
        self._endpoint = endpoint
        self._model = model
        self._fallback = fallback

    def listen(self, keywords: Sequence[str] = ()) -> Ear:
        """An ear for one call."""
        hints = keywords if self._model in WITH_KEYWORDS else ()
        utterance = LiveUtterance(self._model, hints)
        return LiveEar(self._endpoint, utterance, self._fallback, keywords)

    async def transcribe(
        self, pcm: bytes, language: str, keywords: Sequence[str] = ()
    ) -> Transcript:
        """One utterance, as a whole."""
        return await self._fallback.transcribe(pcm, language, keywords)

    async def aclose(self) -> None:
        """Release the fallback's connections; each ear has closed its own."""
        await self._fallback.aclose()


class LiveEar:
    """One call's session."""

    def __init__(
        self,
        endpoint: Endpoint,
        utterance: LiveUtterance,
        fallback: SpeechToText,
        keywords: Sequence[str] = (),
    ) -> None:
        self._endpoint = endpoint
        self._utterance = utterance
        self._fallback = fallback
        self._keywords = keywords
        self._down = soxr.ResampleStream(PCM_RATE, WIRE_RATE, 1, dtype="int16", quality="LQ")
        self._waiting = bytearray()
        self._socket: RealtimeSocket | None = None
        self._news = asyncio.Event()
        self._listening: asyncio.Task[None] | None = None
        #: Utterances that went to the fallback.
        self.fallbacks = 0

    @property
    def interim(self) -> str:
        """What the caller said so far, as far as it is known."""
        return self._utterance.interim

    def feed(self, pcm: bytes) -> None:
        """Take the caller's next frame."""
        if self._listening is None:
            self._listening = asyncio.create_task(self._listen())
        self._waiting += pcm
        if len(self._waiting) >= _PIECE_BYTES:
            self._send_waiting()

    async def transcribe(self, pcm: bytes, language: str) -> Transcript:
        """Text of the utterance so far. Raises ``ProviderError`` when the fallback fails too."""
        self._send_waiting()
        self._send(self._utterance.commit(language))
        try:
            async with asyncio.timeout(FINAL_MS / 1000):
                text = await self._final()
        except TimeoutError:
            text = None
        if text is None:
            self.fallbacks += 1
            log.warning("live transcription gave no text", fallbacks=self.fallbacks)
            return await self._fallback.transcribe(pcm, language, self._keywords)
        heard = LANGUAGE_CODES.get(self._utterance.language.lower(), "")
        return Transcript(text, language or heard)

    def forget(self) -> None:
        """The utterance is over."""
        self._waiting.clear()
        self._send(self._utterance.forget())

    async def aclose(self) -> None:
        """Close the session."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)

    async def _final(self) -> str | None:
        """The text, when all of it is there; None when it will not come."""
        while (text := self._utterance.text) is None:
            if self._socket is None or self._utterance.failed:
                return None
            self._news.clear()
            await self._news.wait()
        return text

    def _send_waiting(self) -> None:
        if self._waiting:
            samples = self._down.resample_chunk(np.frombuffer(self._waiting, np.int16))
            piece = encode(Encoding.MULAW, samples).tobytes()
            self._waiting = bytearray()  # the array above still looks at the one before
            if piece:
                self._send(self._utterance.feed(piece))

    def _send(self, events: list[JsonObject]) -> None:
        for event in events:
            if self._socket is not None and not self._socket.send(event):
                self._socket = None  # it takes nothing any more: the loop below opens another
                self._news.set()

    async def _listen(self) -> None:
        """Keep a session open for as long as the call lasts."""
        pause_ms = REOPEN_MS_MIN
        while True:
            began_ns = clock.now_ns()
            try:
                await self._session()
            except ProviderError as error:
                log.warning("live transcription lost", reason=str(error))
            self._socket = None
            self._news.set()
            if clock.now_ns() - began_ns > REOPEN_MS_MAX * clock.NS_PER_MS:
                pause_ms = REOPEN_MS_MIN
            await clock.sleep_ms(pause_ms)
            pause_ms = min(2 * pause_ms, REOPEN_MS_MAX)

    async def _session(self) -> None:
        socket = await RealtimeSocket.open(self._endpoint, intent="transcription")
        try:
            self._socket = socket
            self._send(self._utterance.opened())
            async with aclosing(socket.events()) as events:
                async for event in events:
                    self._received(event)
                    if self._socket is not socket:
                        return
        finally:
            await socket.aclose()

    def _received(self, event: JsonObject) -> None:
        try:
            self._utterance.received(event)
        except GarbageError:
            return
        if event["type"] == "error":
            error = event.get("error")
            code = error.get("code") if isinstance(error, dict) else None
            log.warning("live transcription: the server reports an error", code=str(code)[:64])
            if code == "session_expired":
                self._socket = None
        self._news.set()
