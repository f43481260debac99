"""The diagrams in README are those of the tables."""

from __future__ import annotations

import subprocess
import sys

import pytest

from supervisor.child import TABLE
from supervisor.diagram import begin, diagrams, end, mermaid
from tests.supervisor.conftest import ROOT


def test_every_entry_of_the_table_is_an_arrow() -> None:
    text = mermaid(TABLE)
    assert text.startswith("```mermaid\nstateDiagram-v2\n    [*] --> WAITING\n")
    assert text.endswith("\n```")
    assert "    EXITED --> PARKED: PARK" in text.splitlines()
    assert text.count("-->") == len(TABLE) + 1


def test_command_prints_every_diagram_between_its_markers() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "supervisor.diagram"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert len(diagrams()) == 2
    for name, diagram in diagrams().items():
        assert f"{begin(name)}\n{diagram}\n{end(name)}\n" in result.stdout


@pytest.mark.parametrize("name", diagrams())
def test_readme_shows_the_table(name: str) -> None:
    readme = (ROOT / "README.md").read_text()
    if begin(name) not in readme:
        pytest.skip("README does not show this diagram")
    _, _, rest = readme.partition(begin(name))
    shown, found, _ = rest.partition(end(name))
    assert found, f"{end(name)} is missing"
    assert shown.strip() == diagrams()[name]
