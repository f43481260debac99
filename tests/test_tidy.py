"""The repository's own rules, as a test."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.settings import Settings

ROOT = Path(__file__).parent.parent
PACKAGES = ("supervisor", "audio", "gateway", "loadtest")
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 60
OWN_LIMITS = {"gateway/session.py": 250, "gateway/pipeline.py": 350}
#: Of the kernel, of libraries, of the state diagrams; the last one is of the Grafana beside us.
NO_SETTINGS = {"BACK_OFF", "DSP_LAG_MS_MAX", "OPENBLAS_CORETYPE", "SCM_RIGHTS", "SO_REUSEPORT"}
NO_SETTINGS |= {"GRAFANA_PASSWORD"}
BANNED_NAMES = {"utils", "helpers", "common", "manager", "misc", "util"}


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.split("\n") if name and (ROOT / name).exists()]


def sources(*folders: str) -> list[Path]:
    return sorted(p for folder in folders for p in (ROOT / folder).rglob("*.py"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sources(*PACKAGES, "tests"), ids=name)
def test_files_and_functions_are_short(path: Path) -> None:
    lines = path.read_text().count("\n")
    assert lines <= OWN_LIMITS.get(name(path), FILE_LINES_MAX)
    for function in functions(path):
        length = (function.end_lineno or 0) - function.lineno + 1
        assert length <= FUNCTION_LINES_MAX, f"{function.name} has {length} lines"


@pytest.mark.parametrize("path", sources(*PACKAGES), ids=name)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "a module docstring is missing"
    assert path.stem not in BANNED_NAMES
    assert path.parent.name not in BANNED_NAMES


@pytest.mark.parametrize("path", sources(*PACKAGES), ids=name)
def test_nothing_is_left_to_do(path: Path) -> None:
    markers = re.findall(r"\b(?:TODO|FIXME|XXX|HACK)\b|NotImplementedError", path.read_text())
    assert markers == []


def called(function: ast.AST) -> set[str]:
    """Last names of everything a function calls or uses as a context."""
    calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    names = {call.id for call in calls if isinstance(call, ast.Name)}
    return names | {call.attr for call in calls if isinstance(call, ast.Attribute)}


def can_fail(function: ast.AST) -> bool:
    raises = {"raises", "warns", "fail", "check_returncode"}
    return any(isinstance(n, ast.Assert) for n in ast.walk(function)) or bool(
        called(function) & raises
    )


def test_tests_can_fail() -> None:
    """Each asserts, or calls something of ours that does."""
    found = [(path, f) for path in sources("tests") for f in functions(path)]
    failing = {f.name for _, f in found if can_fail(f) and not f.name.startswith("test_")}
    calls = [(f.name, called(f)) for _, f in found]
    while more := {name for name, names in calls if names & failing} - failing:
        failing |= more
    for path, function in found:
        if function.name.startswith("test_"):
            asserts = can_fail(function) or function.name in failing
            assert asserts, f"{name(path)}: {function.name} asserts nothing"


def test_env_example_is_the_settings() -> None:
    """Each setting is a line ``NAME=default`` (commented out) under its description."""
    text = (ROOT / ".env.example").read_text()
    listed = dict(re.findall(r"^# ?([A-Z_]+)=(.*)$", text, re.MULTILINE))
    fields = Settings.model_fields
    assert list(listed) == [field.upper() for field in fields]
    for field, info in fields.items():
        assert info.description, f"{field} has no description"
        assert info.description in text.replace("\n# ", " "), f"{field}: description differs"


def test_every_setting_that_a_page_names_exists() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    known = {name.upper() for name in Settings.model_fields} | NO_SETTINGS
    for page in pages:
        named = set(re.findall(r"\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b", page.read_text()))
        assert named - known == set(), page.name


def test_no_paths_of_one_machine_and_no_index_addresses() -> None:
    folders = "|".join(("work", "farm", "root"))
    indexes = "|".join(("index" + "-url", "https://files" + "[.]", "pypi" + "[.]org"))
    banned = re.compile(rf"(^|[^A-Za-z.])/(?:{folders})/|{indexes}", re.MULTILINE)
    for path in tracked():
        if path.suffix in {".wav", ".png", ".onnx"}:
            continue
        found = [match.group() for match in banned.finditer(path.read_text(errors="replace"))]
        assert found == [], name(path)


def test_the_lock_file_is_hashed_throughout() -> None:
    for lock in ("requirements.lock", "requirements-run.lock", "requirements-espeak.lock"):
        entries = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())
        assert all("--hash=sha256:" in entry for entry in entries)
