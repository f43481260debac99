"""A whole call answered by servers of others: speech-to-text, chat and text-to-speech by HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.fakes.openai_http import KEY, Fault, Script
from tests.fakes.process import fake_process
from tests.integration.conftest import Gateway
from tests.integration.test_bad_input import metric

pytestmark = pytest.mark.timeout(180)

CLIP = "tests/fixtures/clips/en/cards-001.wav"
ONE_CALL = ("--scenario", "talk", "--calls", "1", "--audio", CLIP, "--seconds", "12")


def test_a_call_is_answered_by_a_language_model(gateway: Callable[..., Gateway]) -> None:
    with fake_process(Script(number_turns=True)) as fake:
        running = gateway(
            "--workers", "1", "--responder", "llm", LOG_TRANSCRIPTS="true", **fake.settings()
        )
        status, report, output = running.simulate(*ONE_CALL)
        assert status == 0, output
        assert report["response_ms"]["count"] >= 1
        assert any("What are your opening hours? 1" in line for line in running.lines)
        assert any("We are open from nine to five." in line for line in running.lines)
        assert metric(running, "voice_gateway_llm_requests_total") >= 1
        assert metric(running, "voice_gateway_provider_breakers_open") == 0
        assert KEY not in running.log()
        assert any("gpt-4o-mini-tts" in line for line in running.lines), "what is configured"


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["stt", "llm", "tts"])
def test_a_dead_stage_ends_no_call(gateway: Callable[..., Gateway], stage: str) -> None:
    with fake_process(Script()) as fake:
        running = gateway("--workers", "1", "--responder", "llm", **fake.settings())
        deadline = time.monotonic() + 20
        while not any("sentences prepared" in line for line in running.lines):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        fake.behave(Script(faults=[Fault(stage, status=401)]))
        status, report, output = running.simulate(*ONE_CALL)
        assert status == 0, output
        assert report["disconnects"] == 0
        assert metric(running, "voice_gateway_provider_keys_refused_total") >= 1
        assert KEY not in running.log()


def test_the_check_names_every_server_and_refuses_a_wrong_key() -> None:
    command = [sys.executable, "-m", "supervisor", "--check", "--responder", "llm"]

    def check(**settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            env=os.environ | settings,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    with fake_process(Script(shutdown_dates={"gpt-transcribe": "2027-06-01"})) as fake:
        good = check(**fake.settings())
        bad = check(**fake.settings() | {"OPENAI_API_KEY": "sk-wrong-0123456789"})
    assert good.returncode == 0, good.stderr
    assert f"chat: {fake.url}, model gpt-6-luna" in good.stdout
    assert "warning: speech-to-text: gpt-transcribe will be shut down on 2027-06" in good.stdout
    assert bad.returncode == 2
    assert "refuses the key" in bad.stderr
    assert "sk-" not in good.stdout + good.stderr + bad.stdout + bad.stderr
