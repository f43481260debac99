"""The unit of systemd says what the supervisor relies on."""

from __future__ import annotations

import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from gateway.settings import Settings
from supervisor.composition import descriptors_needed
from tests.supervisor.conftest import ROOT

UNIT = ROOT / "deploy" / "voice-gateway.service"


def service() -> dict[str, str]:
    unit = ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(UNIT)
    return dict(unit["Service"])


def test_workers_outlive_a_killed_supervisor_and_it_is_started_again() -> None:
    said = service()
    assert said["KillMode"] == "process"
    assert said["Restart"] == "always"
    assert said["OOMPolicy"] == "continue"


def test_it_is_notified_and_reloads_by_sighup() -> None:
    said = service()
    assert (said["Type"], said["NotifyAccess"]) == ("notify", "main")
    assert said["ExecReload"].endswith("kill -HUP $MAINPID")
    assert int(said["WatchdogSec"]) >= 2
    assert " -m supervisor" in said["ExecStart"]


def test_it_waits_longer_than_a_drain() -> None:
    drain_ms = Settings.model_fields["drain_timeout_ms"].default
    assert int(service()["TimeoutStopSec"]) * 1000 == drain_ms + 15_000


def test_its_limit_of_open_files_fits_the_largest_worker() -> None:
    largest = Settings.model_construct(calls_per_worker=4096, workers=64)
    assert int(service()["LimitNOFILE"]) >= descriptors_needed(largest)


def test_systemd_understands_it(tmp_path: Path) -> None:
    verifier = shutil.which("systemd-analyze")
    if verifier is None:
        pytest.skip("systemd is not installed")
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/voice-gateway/.venv/bin/python", "/bin/true"))
    result = subprocess.run(
        [verifier, "verify", "--man=no", copy], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
