"""A whole call in each mode: gateway, fakes and a simulated caller, one line a mode.

    python -m tests.call_modes [MODE ...]

``loadtest/twilio_sim.py --scenario talk`` calls a gateway started afresh: answered by what is on
this machine (local), by servers with OpenAI's HTTP API (cascade), with a live transcription before
them (live), by a Realtime model, the turns ended by its server (realtime), by another model there
(semantic) or by us (ours), and by a backend (backend). The fakes tell whether it was they who
answered.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.openai_http import KEY, Script
from tests.fakes.openai_realtime import Answer, FakeRealtime, realtime_thread
from tests.fakes.process import fake_process
from tests.gateway.providers.backend_server import backend_server
from tests.integration.conftest import Gateway, start

CALLER = ("--scenario", "talk", "--calls", "1", "--audio", "tests/fixtures/clips/en/cards-001.wav")
ANSWERS_MIN = 2
PREPARE_S_MAX = 30
#: Never reached while the model answers.
NOBODY = "http://127.0.0.1:9/v1"


@dataclass(frozen=True)
class Setting:
    """A gateway's settings, and what was not as this mode should be, told after the call."""

    responder: str
    settings: Mapping[str, str]
    wrong: Callable[[Gateway], str] = lambda _: ""
    seconds: int = 25


@contextmanager
def local() -> Iterator[Setting]:
    """The message taker, Whisper and hibari."""

    def wrong(gateway: Gateway) -> str:
        return "" if '"role":"assistant"' in gateway.log() else "nothing was said"

    yield Setting("message_taker", {}, wrong, seconds=45)  # its questions are long


@contextmanager
def cascade() -> Iterator[Setting]:
    """Three servers one after the other."""
    with fake_process(Script()) as fake:
        yield Setting(
            "llm", fake.settings(), lambda _: "" if fake.turns() else "nobody transcribed"
        )


@contextmanager
def live() -> Iterator[Setting]:
    """The same, but the caller's words are transcribed while they are spoken."""
    listener = FakeRealtime(key=KEY, transcripts=["What are your opening hours?"] * 20)
    with fake_process(Script()) as fake, realtime_thread(listener):
        settings = fake.settings() | {
            "STT_MODE": "live",
            "STT_BASE_URL": f"{listener.url},{fake.url}",
            "STT_MODEL": "gpt-transcribe,gpt-transcribe",
        }

        def wrong(_: Gateway) -> str:
            if fake.turns():
                return "whole utterances were sent"
            commits = len(listener.of("input_audio_buffer.commit"))
            return "" if commits >= ANSWERS_MIN else f"{commits} commits"

        yield Setting("llm", settings, lambda gateway: wrong(gateway) or _refused(listener))


def realtime(detection: str) -> Callable[[], AbstractContextManager[Setting]]:
    """Speech to speech; ``detection`` says who ends the caller's turns."""

    @contextmanager
    def setting() -> Iterator[Setting]:
        fake = FakeRealtime(latency_ms=150, silence_ms=500, key=KEY)
        fake.answers = [Answer("Good day.", 900) for _ in range(20)]
        with realtime_thread(fake):
            settings = {
                "REALTIME_BASE_URL": fake.url,
                "REALTIME_TURN_DETECTION": detection,
                "OPENAI_API_KEY": KEY,
                "STT_BASE_URL": NOBODY,
                "TTS_BASE_URL": NOBODY,
            }

            def wrong(_: Gateway) -> str:
                asked = fake.of("session.update")[0]["session"]["audio"]["input"]["turn_detection"]
                kind = "ours" if asked is None else asked["type"].removesuffix("_vad")
                if kind != detection:
                    return f"turns are detected by {kind}"
                return "" if len(fake.sessions) == 1 else f"{len(fake.sessions)} sessions"

            yield Setting("realtime", settings, lambda gateway: wrong(gateway) or _refused(fake))

    return setting


@contextmanager
def backend() -> Iterator[Setting]:
    """A conversation service of somebody's own, between speech servers of others."""
    with fake_process(Script()) as fake, backend_server() as service:
        settings = fake.settings() | {"BACKEND_API_BASE_URL": service.url}

        def wrong(_: Gateway) -> str:
            paths = service.paths()
            return "" if paths[:2] == ["start", "message"] else f"the backend was asked {paths}"

        yield Setting("backend", settings, wrong)


MODES: Mapping[str, Callable[[], AbstractContextManager[Setting]]] = {
    "local": local,
    "cascade": cascade,
    "live": live,
    "realtime": realtime("server"),
    "semantic": realtime("semantic"),
    "ours": realtime("ours"),
    "backend": backend,
}


def _refused(fake: FakeRealtime) -> str:
    """What of ours the Realtime API would not have taken."""
    return "; ".join([*fake.invalid, *fake.refused])


@dataclass(frozen=True)
class Outcome:
    """One mode's call; ``wrong`` "" = all is well."""

    mode: str
    answers: int
    response_ms: float
    wrong: str

    def line(self) -> str:
        verdict = f"FAILED: {self.wrong}" if self.wrong else "ok"
        return f"{self.mode:<12}{self.answers:>8}{self.response_ms:>16.0f}  {verdict}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.call_modes")
    parser.add_argument("modes", nargs="*", metavar="MODE", help=", ".join(MODES))
    given = parser.parse_args(arguments)
    if set(given.modes) - set(MODES):
        parser.error(f"modes are {', '.join(MODES)}")
    sys.stdout.write(f"{'mode':<12}{'answers':>8}{'response ms p50':>16}\n")
    failed = 0
    for mode in given.modes or MODES:
        found = play(mode)
        failed += bool(found.wrong)
        sys.stdout.write(found.line() + "\n")
        sys.stdout.flush()
    return 1 if failed else 0


def play(mode: str) -> Outcome:
    """One gateway, one call."""
    with MODES[mode]() as setting, tempfile.TemporaryDirectory() as folder:
        gateway = start(
            Path(folder), "--workers", "1", "--responder", setting.responder, **setting.settings
        )
        try:
            if NOBODY not in setting.settings.values():
                _prepare(gateway)
            arguments = (*CALLER, "--seconds", str(setting.seconds))
            status, report, output = gateway.simulate(*arguments, within_s=setting.seconds + 60)
            wrong = setting.wrong(gateway)
        except subprocess.TimeoutExpired:
            return Outcome(mode, 0, 0.0, "the caller did not come to an end")
        finally:
            gateway.end(within_s=60)
    answers = report.get("response_ms", {"count": 0, "p50": 0.0})
    if status or report["disconnects"]:
        wrong = output
    elif answers["count"] < ANSWERS_MIN:
        wrong = wrong or "too few answers"
    if KEY in gateway.log():
        wrong = "a key is in the log"
    return Outcome(mode, answers["count"], answers["p50"] or 0.0, wrong)


def _prepare(gateway: Gateway) -> None:
    """Let what every call begins with be spoken once; who calls earlier waits for a voice."""
    deadline = time.monotonic() + PREPARE_S_MAX
    while "sentences prepared" not in gateway.log() and time.monotonic() < deadline:
        time.sleep(0.1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started ends too
    sys.exit(main())
