"""The image and its compose file, read: no Docker is needed, and none is tried.

What the image is made of is put together here, and run by this interpreter.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from audio.layout import Layout
from gateway.settings import Settings
from supervisor.composition import KILL_AFTER_DRAIN_MS, descriptors_needed
from tests.integration.conftest import ROOT, Gateway
from tests.integration.conftest import gateway as gateway
from tests.ports import free_port

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
COMPOSE = (ROOT / "deploy" / "compose.yaml").read_text()
#: Extras, and what a benchmark compares itself with where it is installed.
OPTIONAL = {"onnxruntime", "espeakng-loader", "scipy"}
OURS = {"audio", "gateway", "supervisor"}


def instructions() -> list[tuple[str, str]]:
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [(line.split()[0], line.partition(" ")[2]) for line in joined.splitlines() if line]


def of(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def copied() -> list[str]:
    return [rest.split()[0] for rest in of("COPY")[1:] if not rest.startswith("--from")]


def pins(name: str) -> set[str]:
    return set(re.findall(r"^([\w.\[\]-]+==\S+)", (ROOT / name).read_text(), re.MULTILINE))


def test_it_runs_as_nobody_in_particular_from_pinned_bases() -> None:
    assert of("USER") == ["10001:10001"]
    assert all(re.fullmatch(r"python:3\.\d+-slim-\w+( AS \w+)?", base) for base in of("FROM"))
    installs = "".join(of("RUN"))
    assert "--require-hashes" in installs
    assert "apt-get" not in installs
    assert "ADD" not in dict(instructions())


def test_what_it_copies_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert copied() == ["profiles", "supervisor", "audio", "gateway"]
    for name in (*copied(), *of("COPY")[0].split()[:-1]):
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored


def imported() -> Iterator[str]:
    """Top-level names that our packages import."""
    for path in (path for name in OURS for path in (ROOT / name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module.partition(".")[0]


def test_its_lock_is_the_lock_without_what_only_developers_need() -> None:
    lock = pins("requirements-run.lock")
    assert lock < pins("requirements.lock")
    names = {re.split(r"[\[=]", pin)[0].lower().replace("_", "-") for pin in lock}
    assert not names & {"pytest", "mypy", "ruff", "hypothesis", "playwright", "twilio"}
    foreign = set(imported()) - OURS - sys.stdlib_module_names
    found = packages_distributions()
    needed = {dist.lower() for name in foreign for dist in found.get(name, [name])} - OPTIONAL
    assert {name.replace("_", "-") for name in needed} <= names


def test_what_is_copied_runs_by_itself(tmp_path: Path) -> None:
    for name in copied():
        shutil.copytree(ROOT / name, tmp_path / name)
    mains = "gateway.worker, gateway.console.app, gateway.speech_server.app, audio.dsp_process"
    for arguments in (["-c", f"import {mains}"], ["-m", "supervisor", "--check"]):
        run = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr


@pytest.mark.timeout(120)
def test_its_health_check_tells_a_gateway_from_none(gateway: Callable[..., Gateway]) -> None:
    command = json.loads(of("HEALTHCHECK")[0].partition("CMD")[2])
    assert command[0] == "python"
    running = gateway("--workers", "1", "--responder", "echo")
    for port, expected in ((running.console_port, 0), (free_port(), 1)):
        run = subprocess.run(
            [sys.executable, *command[1:]],
            env={"CONSOLE_PORT": str(port)},
            capture_output=True,
            check=False,
        )
        assert run.returncode == expected


def test_compose_gives_it_time_files_and_memory() -> None:
    drain_ms = Settings.model_fields["drain_timeout_ms"].default
    grace = re.search(r"stop_grace_period: (\d+)s", COMPOSE)
    assert grace is not None
    assert int(grace[1]) * 1000 >= drain_ms + KILL_AFTER_DRAIN_MS
    files = re.search(r"nofile: (\d+)", COMPOSE)
    assert files is not None
    largest = Settings.model_construct(calls_per_worker=4096, workers=64)
    assert int(files[1]) >= descriptors_needed(largest)
    memory = re.search(r"shm_size: (\d+)gb", COMPOSE)
    assert memory is not None
    assert int(memory[1]) * 2**30 >= 17 * Layout(512).nbytes, "16 workers"


def test_compose_mounts_files_that_are_there_and_pins_what_is_not_ours() -> None:
    for path in re.findall(r"- (\./[\w./-]+):", COMPOSE):
        assert (ROOT / "deploy" / path).exists(), path
    images = re.findall(r"image: (\S+)", COMPOSE)
    assert all(re.search(r":v?\d+\.\d+\.\d+$", image) for image in images[1:])
    published = re.findall(r'- "([\d.:]+)"', COMPOSE)
    assert [port for port in published if not port.startswith("127.0.0.1:")] == ["4000:4000"]
