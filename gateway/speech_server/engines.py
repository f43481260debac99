"""What the speech server knows of its engines: contracts, their threads, and how they are loaded.

Every engine (Whisper, hibari, festival, espeak-ng) has one thread of its own that makes, uses and
owns it: none of them is thread-safe, two of them are C libraries with global state, and one thread
each is what the machine has cores for. Work waits in the thread's queue, first come, first served.

The queue is bounded by *places*: a request holds one until its first result is there, and when
all are taken the next request is refused at once, because a caller on the phone would not wait
for its turn anyway. A long text takes its turn again for each sentence, without a place, so that
nobody waits for another's whole text; there is never more than one such turn per connection.

Work whose request was abandoned leaves the queue when its task is cancelled; what already runs in
the thread runs to its end (a sentence or 30 s of audio, about a second at most).

The engines' modules import numpy and start threads; they are imported by ``Engines.load`` only.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from gateway.errors import CapacityError, ConfigurationError, GatewayError
from gateway.ops.log import get_logger

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

#: Requests that may wait for an engine besides the one it works on.
WAITING_MAX = 16
LANGUAGES = ("en", "ru", "ar")
#: What to tell an operator who lacks a voice.
INSTALL = {
    "en": "`make setup` (hibari-tts) or `make espeak`",
    "ru": "`apt install festival festvox-ru` or `make espeak`",
    "ar": "`make espeak`",
}

T = TypeVar("T")
log = get_logger(__name__)


class AudioError(GatewayError):
    """The sender's bytes are not audio we can read; the message says what is wrong."""


class UnknownVoiceError(GatewayError):
    """No such voice, or none for this language; the message says what there is to do."""


class SynthesisError(GatewayError):
    """A text-to-speech engine failed on a text."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One piece of audio as it was understood; ``text`` is empty for no speech.

    ``no_speech_prob`` is 0..1, ``logprob_mean`` the mean log probability of a token.
    """

    text: str
    language: str
    no_speech_prob: float
    logprob_mean: float


@dataclass(frozen=True, slots=True)
class Utterance:
    """One piece of audio to be transcribed; ``language`` "" = decide.

    Utterances of the same ``window`` cost less together than alone.
    """

    samples: Samples
    language: str
    window: int


@dataclass(frozen=True, slots=True)
class Segment:
    """Where in the audio something was heard, in seconds from its beginning."""

    start_s: float
    end_s: float
    heard: Heard


@dataclass(frozen=True, slots=True)
class VoiceInfo:
    """What ``GET /v1/voices`` tells about a voice."""

    name: str
    language: str
    engine: str
    quality: str


class Recognizer(Protocol):
    """A speech-to-text engine, used by one thread."""

    rate: int

    def read(self, wav: bytes) -> Sequence[Samples]:
        """Decode a WAV into pieces of a length that can be transcribed. Raises ``AudioError``."""
        ...

    def window(self, samples: Samples) -> int:
        """What a piece is padded to."""
        ...

    def transcribe_all(self, utterances: Sequence[Utterance]) -> list[Heard]:
        """The text of each, in order; all are of one window."""
        ...


class Voice(Protocol):
    """A text-to-speech engine with one voice, used by one thread."""

    @property
    def info(self) -> VoiceInfo:
        """Its description."""
        ...

    def speak(self, sentence: str) -> bytes:
        """24 kHz 16-bit LE mono PCM, empty if nothing can be said. Raises ``SynthesisError``."""
        ...


class InferenceThread:
    """One thread and its bounded queue."""

    def __init__(self, name: str, waiting_max: int = WAITING_MAX) -> None:
        assert waiting_max >= 0
        self.name = name
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._places_max = 1 + waiting_max
        self._places = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place until the first result; ``CapacityError`` when all are taken."""
        if self._places >= self._places_max:
            raise CapacityError(f"the {self.name} engine has {self._places} requests to do")
        self._places += 1
        try:
            yield
        finally:
            self._places -= 1

    @property
    def places(self) -> int:
        """Requests that hold a place now."""
        return self._places

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work in the thread; cancelled before its turn comes, it is never begun."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def close(self) -> None:
        """Drop what waits; the thread ends after what it does now."""
        self._executor.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Speaker:
    """A voice and the thread that owns its engine."""

    voice: Voice
    thread: InferenceThread

    async def speak(self, sentence: str) -> bytes:
        """The sentence as PCM; see ``Voice.speak``."""
        return await self.thread.run(lambda: self.voice.speak(sentence))


class Engines:
    """All engines that could be loaded; ``speakers`` come best first."""

    def __init__(
        self,
        recognizer: Recognizer,
        thread: InferenceThread,
        speakers: Sequence[Speaker],
        sentences: Callable[[str], list[str]],
    ) -> None:
        self.recognizer = recognizer
        self.thread = thread
        self.speakers = tuple(speakers)
        self.sentences = sentences
        self.best = {s.voice.info.language: s for s in reversed(self.speakers)}

    @classmethod
    async def load(cls) -> Engines:
        """Load and warm every engine that is installed, each in its own thread.

        Raises ``ConfigurationError`` when speech-to-text or an English voice is missing or broken.
        """
        # numpy and the engines start threads: nothing of them is imported before this process is.
        from gateway.speech_server import voices, whisper

        (thread, recognizer), found = await asyncio.gather(
            _in_thread("whisper", whisper.Whisper.load),
            asyncio.gather(*(_in_thread(name, load) for name, load in voices.LOADERS.items())),
        )
        speakers = [Speaker(voice, owner) for owner, those in found for voice in those]
        engines = cls(recognizer, thread, speakers, voices.sentences)
        if LANGUAGES[0] not in engines.best:
            raise ConfigurationError(f"no English voice is installed: {INSTALL['en']}")
        for language in LANGUAGES:
            if language not in engines.best:
                log.warning("no voice", language=language, install=INSTALL[language])
        _return_freed_memory()
        return engines

    def speaker(self, name: str) -> Speaker:
        """The voice of that name, or the best one of a language. Raises ``UnknownVoiceError``."""
        for speaker in self.speakers:
            if speaker.voice.info.name == name:
                return speaker
        if name in self.best:
            return self.best[name]
        if name in LANGUAGES:
            raise UnknownVoiceError(f"no voice for {name!r} is installed: {INSTALL[name]}")
        known = ", ".join([*self.best, *(s.voice.info.name for s in self.speakers)])
        raise UnknownVoiceError(f"unknown voice {name[:40]!r}; there are: {known}")

    def close(self) -> None:
        """Drop what waits; threads end after what they do now."""
        for thread in {self.thread, *(speaker.thread for speaker in self.speakers)}:
            thread.close()


async def _in_thread(name: str, load: Callable[[], T]) -> tuple[InferenceThread, T]:
    thread = InferenceThread(name)
    return thread, await thread.run(load)


def _return_freed_memory() -> None:
    """Loading leaves some 70 MB of freed memory with glibc, which returns it on demand."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
