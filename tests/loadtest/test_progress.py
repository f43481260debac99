"""The progress line is for people only."""

from __future__ import annotations

import io
import sys

import pytest
from typing_extensions import override

from loadtest.generator import Progress
from loadtest.progress import ProgressLine

PARTS = [Progress(30, 1000, 990, 0.5), Progress(20, 500, 490, 2.25)]


class Terminal(io.StringIO):
    @override
    def isatty(self) -> bool:
        return True


def test_the_sum_of_all_processes_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    line = ProgressLine()
    line.show(3.2, PARTS)
    line.show(3.4, PARTS)
    assert terminal.getvalue().count("\r") == 1
    assert "3 s  50 calls up  1500 frames out  1480 in  late 2.2 ms" in terminal.getvalue()
    line.judging()
    line.clear()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_a_file_gets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", plain := io.StringIO())
    line = ProgressLine()
    line.show(1, PARTS)
    line.judging()
    line.clear()
    assert plain.getvalue() == ""
