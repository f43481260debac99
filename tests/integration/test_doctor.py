"""The doctor at real gateways: a healthy one, and one for each thing that is commonly wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gateway.conftest import certificate  # noqa: F401 - a fixture
from tests.integration.conftest import ROOT, Gateway
from tests.integration.test_gate import CREDENTIALS, OLD, PLAIN, SECRET, TELNYX
from tests.ports import free_port

pytestmark = pytest.mark.timeout(120)

SMALL = {"WORKERS": "1", "CALLS_PER_WORKER": "16"}
SECRETS = (OLD, SECRET, PLAIN, TELNYX, "another-secret")


def doctor(*arguments: str, **environment: str) -> tuple[int, dict[str, str], str]:
    """Its status, the mark of each subject (the worst, where it has several), and its words."""
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "gateway.doctor", *arguments],
        cwd=ROOT,
        env=os.environ | SMALL | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    marks: dict[str, str] = {}
    for line in run.stdout.splitlines():
        mark, _, rest = line.partition(" ")
        subject = rest.strip().partition(":")[0]
        marks[subject] = "FAIL" if "FAIL" in (mark, marks.get(subject)) else mark
    assert not any(secret in run.stdout + run.stderr for secret in SECRETS)
    assert run.stderr == ""
    return run.returncode, marks, run.stdout


def failed(marks: dict[str, str]) -> set[str]:
    return {subject for subject, mark in marks.items() if mark == "FAIL"}


def test_a_gateway_behind_a_public_address(gateway: Callable[..., Gateway]) -> None:
    """Healthy; with another secret than the gateway's; with an address where nobody is."""
    running = gateway("--responder", "recital", **SMALL, **CREDENTIALS)
    settings = CREDENTIALS | {"RESPONDER": "recital"}
    local = f"http://127.0.0.1:{running.port}"
    status, marks, said = doctor("--url", local, **settings)
    assert (status, failed(marks)) == (0, set()), said
    found = {subject for subject, mark in marks.items() if mark == "ok"}
    assert found >= {
        "settings", "/dev/shm", "open files", "PUBLIC_URL", "reachable", "ready", "webhook",
        "forgery", "TwiML", "stream", "token", "telnyx", "plain",
    }, said  # fmt: skip
    assert "the assistant is heard after" in said

    wrong = settings | {"TWILIO_AUTH_TOKEN": "another-secret", "PLAIN_TOKEN": "x" * 16}
    status, marks, said = doctor("--url", local, **wrong)
    assert (status, failed(marks)) == (1, {"webhook", "plain"}), said
    assert marks["TwiML, stream"] == "skip"

    status, marks, said = doctor("--url", f"http://127.0.0.1:{free_port()}", **settings)
    assert (status, failed(marks)) == (1, {"reachable"}), said


def test_a_gateway_without_credentials_is_called_without(gateway: Callable[..., Gateway]) -> None:
    """The first minute: no PUBLIC_URL is a fault, unless only the local port is asked for."""
    running = gateway("--responder", "recital", **SMALL)
    settings = {"RESPONDER": "recital", "GATEWAY_PORT": str(running.port)}
    status, marks, said = doctor("--url", running.url.replace("ws", "http", 1), **settings)
    assert (status, marks["stream"], marks["PUBLIC_URL"]) == (0, "ok", "skip"), said
    status, marks, said = doctor(**settings)
    assert (status, failed(marks)) == (1, {"PUBLIC_URL"}), said


def test_a_certificate_is_told_of_and_the_rest_is_still_looked_at(
    gateway: Callable[..., Gateway],
    certificate: tuple[Path, Path],  # noqa: F811 - the fixture
) -> None:
    """One that signs itself; the same one trusted, which ends in two days."""
    cert, key = map(str, certificate)
    settings = CREDENTIALS | {"TLS_CERT": cert, "TLS_KEY": key, "RESPONDER": "recital"}
    running = gateway(**SMALL, **settings)
    address = f"https://localhost:{running.port}"
    status, marks, said = doctor("--url", address, **settings)
    assert (status, failed(marks)) == (1, {"certificate"}), said
    assert "31910" in said
    status, marks, said = doctor("--url", address, SSL_CERT_FILE=cert, **settings)
    assert (status, failed(marks)) == (1, {"certificate"}), said
    assert "renew it" in said


def test_settings_that_cannot_work_are_the_first_thing_it_says(tmp_path: Path) -> None:
    env_file = tmp_path / "broken.env"
    env_file.write_text("GATEWAY_PORT=0\nWORKERS=none\n")
    run = subprocess.run(
        [sys.executable, "-m", "gateway.doctor", "--env-file", str(env_file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 2
    assert [line.split()[:2] for line in run.stdout.splitlines()] == [["FAIL", "settings:"]] * 2
