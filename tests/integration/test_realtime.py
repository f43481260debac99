"""Realtime calls through the whole gateway: every process, real sockets, a fake of OpenAI."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.fakes.openai_realtime import Answer, FakeRealtime, realtime_thread
from tests.integration.conftest import Gateway

pytestmark = [pytest.mark.timeout(180), pytest.mark.slow]

#: Never reached while the model answers: no speech server has to load.
NOBODY = "http://127.0.0.1:9/v1"


def test_callers_talk_to_the_model(gateway: Callable[..., Gateway]) -> None:
    fake = FakeRealtime(latency_ms=50, silence_ms=500, key="sk-integration")
    fake.answers = [Answer("Good day.", 600) for _ in range(2)]
    with realtime_thread(fake):
        running = gateway(
            *("--workers", "1", "--responder", "realtime"),
            REALTIME_BASE_URL=fake.url,
            OPENAI_API_KEY="sk-integration",
            STT_BASE_URL=NOBODY,
            TTS_BASE_URL=NOBODY,
        )
        status, report, output = running.simulate("--scenario", "talk", "--calls", "2")
    assert status == 0, output
    assert report["disconnects"] == 0
    assert report["response_ms"]["count"] >= 2, output
    assert fake.invalid == []
    assert fake.refused == []
    assert len(fake.sessions) == 2
    assert "sk-integration" not in running.log()
    assert running.log().count("realtime usage") == 2
