"""The limit of open files, in a process of its own: it cannot be raised again."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.supervisor.conftest import ROOT

SCRIPT = """
import resource, sys
from supervisor.descriptors import DescriptorError, raise_limit
soft, hard, needed = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
try:
    raise_limit(needed)
except DescriptorError as error:
    print(error)
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def run(soft: int, hard: int, needed: int) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(soft), str(hard), str(needed)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return result.stdout.splitlines()


@pytest.mark.parametrize("needed", [100, 300, 400])
def test_limit_is_raised_as_far_as_it_goes(needed: int) -> None:
    assert run(200, 400, needed) == ["(400, 400)"]


def test_limit_that_is_too_low_is_a_sentence_with_both_numbers() -> None:
    sentence, limits = run(200, 400, 401)
    assert "is 400, and 401 are needed" in sentence
    assert "ulimit -n" in sentence
    assert limits == "(200, 400)"
