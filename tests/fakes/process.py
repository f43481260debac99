"""The fake of OpenAI's HTTP API as a process of its own, for gateways that are processes too."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.fakes.openai_http import KEY, Script

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class FakeProcess:
    """A running fake."""

    url: str

    def settings(self) -> dict[str, str]:
        """What a gateway needs to know to use it for everything."""
        return {
            "OPENAI_API_KEY": KEY,
            "STT_BASE_URL": self.url,
            "STT_MODEL": "gpt-transcribe",
            "TTS_BASE_URL": self.url,
            "TTS_MODEL": "gpt-4o-mini-tts",
            "TTS_VOICE": "alloy",
            "LLM_BASE_URL": self.url,
            "LLM_MODEL": "gpt-6-luna",
        }

    def behave(self, script: Script) -> None:
        """Behave like this from now on."""
        body = json.dumps(asdict(script)).encode()
        request = urllib.request.Request(self._own("script"), body, method="PUT")
        with urllib.request.urlopen(request, timeout=10):
            pass

    def turns(self) -> list[dict[str, Any]]:
        """Every utterance that was transcribed, and what became of it."""
        with urllib.request.urlopen(self._own("turns"), timeout=10) as answer:
            found: list[dict[str, Any]] = json.loads(answer.read())
        return found

    def _own(self, what: str) -> str:
        return f"{self.url.removesuffix('/v1')}/fake/{what}"


@contextmanager
def fake_process(script: Script) -> Iterator[FakeProcess]:
    """Run one on a free port."""
    command = [sys.executable, "-m", "tests.fakes.openai_http"]
    command += ["--script", json.dumps(asdict(script))]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            assert url, "the fake did not start"
            yield FakeProcess(url)
        finally:
            process.terminate()
            process.wait(10)
