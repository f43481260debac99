"""For tests marked ``live``: they talk to OpenAI's own service, and are skipped without a key."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def openai_key() -> str:
    key = os.environ.get("OPENAI_API_KEY", "")
    if not key:
        pytest.skip("OPENAI_API_KEY is not set")
    return key
