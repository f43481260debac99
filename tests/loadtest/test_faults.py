"""The command that does harm: its options, its table, its exit status."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from loadtest import faults
from loadtest.errors import LoadTestError
from loadtest.fault_rows.bench import Bench, Row
from loadtest.fault_rows.checks import Check

GOOD, BAD = Check("0 lost", holds=True), Check("2 calls cut | 1 more", holds=False)


def row(name: str, *checks: Check) -> Row:
    def run(bench: Bench) -> Sequence[Check]:
        folder = bench.folder / "gateway-0"
        folder.mkdir()
        (folder / "log").write_text(f"{name}: {bench.calls} calls, brief {bench.brief}")
        if not checks:
            raise LoadTestError("the gateway did not start")
        return checks

    return Row(name, f"{name} it", "nothing is lost", run)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [row("good", GOOD), row("bad", GOOD, BAD), row("broken")]
    monkeypatch.setattr(faults, "ROWS", {each.name: each for each in made})


@pytest.mark.usefixtures("rows")
def test_a_row_of_the_table_says_what_was_measured_beside_what_must_hold(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert faults.main(["--rows", "good"]) == 0
    assert faults.main(["--rows", "bad,broken"]) == 1
    lines = [text for text in capsys.readouterr().out.splitlines() if text.startswith("| ")]
    assert [text for text in lines if "must hold" not in text] == [
        "| good it | nothing is lost | 0 lost | holds |",
        "| bad it | nothing is lost | 0 lost; **2 calls cut \\| 1 more** | **FAILS** |",
        "| broken it | nothing is lost | **the gateway did not start** | **FAILS** |",
    ]


@pytest.mark.usefixtures("rows")
def test_logs_are_kept_where_they_are_wanted(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    assert faults.main(["--rows", "good,bad", "--quick", "--logs", str(logs)]) == 1
    assert {path.name: path.read_text() for path in logs.iterdir()} == {
        "good-0.log": f"good: {faults.QUICK_CALLS} calls, brief True",
        "bad-0.log": f"bad: {faults.QUICK_CALLS} calls, brief True",
    }
    assert faults.main(["--rows", "good", "--calls", "7", "--logs", str(logs)]) == 0
    assert (logs / "good-0.log").read_text() == "good: 7 calls, brief False"


@pytest.mark.parametrize(
    "arguments",
    [["--rows", "none"], ["--rows", ","], ["--calls", "0"], ["--calls", "x"], ["--unknown"]],
)
def test_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        faults.main(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_the_rows_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert faults.main(["--list"]) == 0
    listed = [text.split()[0] for text in capsys.readouterr().out.splitlines()]
    assert listed == list(faults.ROWS)
    assert len(listed) == 12
