"""Threads and their queues; which voice is which; audio in pieces."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from gateway.errors import CapacityError, ConfigurationError
from gateway.speech_server import voices, whisper
from gateway.speech_server.engines import (
    Engines,
    InferenceThread,
    UnknownVoiceError,
    VoiceInfo,
)
from tests.gateway.speech_server.toys import ToyRecognizer, ToyVoice, toy_engines, until


def test_work_runs_in_one_thread_in_its_order() -> None:
    async def check() -> None:
        thread = InferenceThread("toy")
        done: list[tuple[int, int]] = []

        def note(number: int) -> None:
            done.append((number, threading.get_ident()))

        await asyncio.gather(*(thread.run(partial(note, number)) for number in range(20)))
        assert [n for n, _ in done] == list(range(20))
        assert len({ident for _, ident in done}) == 1
        assert threading.get_ident() not in {ident for _, ident in done}
        thread.close()

    asyncio.run(check())


def test_places_are_bounded_and_given_back() -> None:
    thread = InferenceThread("toy", waiting_max=1)
    with thread.place():
        with (
            thread.place(),
            pytest.raises(CapacityError, match="toy engine has 2 requests"),
            thread.place(),
        ):
            pass
        with pytest.raises(ValueError, match="boom"), thread.place():
            raise ValueError("boom")
        with thread.place():
            pass
    thread.close()


def test_abandoned_work_is_never_begun() -> None:
    async def check() -> None:
        thread = InferenceThread("toy")
        hold, begun = threading.Event(), threading.Event()
        ran: list[str] = []

        def busy() -> None:
            begun.set()
            hold.wait(20)
            ran.append("first")

        first = asyncio.ensure_future(thread.run(busy))
        await until(begun)
        second = asyncio.ensure_future(thread.run(lambda: ran.append("abandoned")))
        third = asyncio.ensure_future(thread.run(lambda: ran.append("third")))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        hold.set()
        await asyncio.gather(first, third)
        assert ran == ["first", "third"]
        thread.close()

    asyncio.run(check())


def named(name: str, language: str) -> ToyVoice:
    return ToyVoice(VoiceInfo(name, language, "toy", "none"))


def with_voices(*voices: ToyVoice) -> Engines:
    return toy_engines(ToyRecognizer(), *voices)


def test_a_language_means_its_best_voice() -> None:
    engines = with_voices(named("good", "en"), named("ru-voice", "ru"), named("poor", "en"))
    assert engines.speaker("en").voice.info.name == "good"
    assert engines.speaker("poor").voice.info.name == "poor"
    assert engines.speaker("ru").voice.info.name == "ru-voice"
    engines.close()


def test_a_voice_that_is_not_there_is_an_error_with_a_cure() -> None:
    engines = with_voices(named("good", "en"))
    with pytest.raises(UnknownVoiceError, match="no voice for 'ar' is installed: `make espeak`"):
        engines.speaker("ar")
    with pytest.raises(UnknownVoiceError, match="unknown voice 'alloy'; there are: en, good"):
        engines.speaker("alloy")
    engines.close()


def test_without_an_english_voice_nothing_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whisper.Whisper, "load", ToyRecognizer)
    monkeypatch.setattr(voices, "LOADERS", {"toy": lambda: [named("ru-voice", "ru")]})
    with pytest.raises(ConfigurationError, match="no English voice is installed: `make setup`"):
        asyncio.run(Engines.load())


def test_every_engine_is_loaded_in_the_thread_that_will_use_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    idents: dict[str, int] = {}

    def load() -> list[ToyVoice]:
        idents["voice"] = threading.get_ident()
        return [named("good", "en")]

    monkeypatch.setattr(whisper.Whisper, "load", ToyRecognizer)
    monkeypatch.setattr(voices, "LOADERS", {"toy": load})

    async def check() -> None:
        engines = await Engines.load()
        ident = await engines.speaker("en").thread.run(threading.get_ident)
        assert ident == idents["voice"] != threading.get_ident()
        assert await engines.thread.run(threading.get_ident) != ident
        assert engines.sentences("One. Two.") == ["One.", "Two."]
        engines.close()

    asyncio.run(check())
