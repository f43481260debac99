"""Announced shutdowns: the table agrees with what the client library's own notes say."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import openai
import pytest

from gateway.providers.models import announced, sentence, shutdown_of
from gateway.providers.servers import OPENAI_DEFAULTS

TYPES = Path(openai.__file__).parent / "types"
NOTES = ("shared/chat_model.py", "audio/speech_model.py", "audio_model.py")


def test_the_table_says_what_the_library_says() -> None:
    noted: dict[str, str] = {}
    for name in NOTES:
        text = " ".join((TYPES / name).read_text().split())
        for models, day in re.findall(
            r'- ((?:"[^"]+",? ?)+): Announced shutdown date: ([\d-]+)', text
        ):
            noted |= dict.fromkeys(re.findall(r'"([^"]+)"', models), day)
    assert len(noted) > 40
    for model, shutdown in announced().items():
        if model in noted:
            assert shutdown.day.isoformat() == noted[model], model
    assert {"tts-1", "whisper-1", "gpt-4o", "gpt-5"} <= noted.keys() & announced().keys()


@pytest.mark.parametrize(
    ("model", "day"),
    [
        ("gpt-4o", "2027-01-14"),
        ("gpt-4o-2024-08-06", "2027-01-14"),
        ("gpt-4o-mini-tts-2025-12-15", "2027-01-06"),
        ("whisper-1", "2027-02-26"),
        ("gpt-transcribe", ""),
        ("my-own-model", ""),
    ],
)
def test_a_snapshot_ends_with_its_family(model: str, day: str) -> None:
    shutdown = shutdown_of(model)
    assert (shutdown.day.isoformat() if shutdown else "") == day


def test_a_warning_names_the_day_and_what_follows() -> None:
    shutdown = shutdown_of("whisper-1")
    assert shutdown is not None
    said = sentence("whisper-1", shutdown, date(2026, 11, 26))
    assert said.startswith("whisper-1 will be shut down on 2027-02-26; its successor: gpt-transc")
    assert "was shut down" in sentence("whisper-1", shutdown, date(2027, 2, 26))


def test_defaults_outlive_the_winter_but_for_speech_which_has_no_successor_there() -> None:
    assert [stage for stage, name in OPENAI_DEFAULTS.items() if shutdown_of(name)] == ["tts"]
