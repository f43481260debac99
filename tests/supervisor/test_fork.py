"""What a child does about itself before it begins."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

#: Nobody may go first, whoever runs the tests.
UNPRIVILEGED = """
import os, resource, sys
from supervisor import fork
from supervisor.spec import ChildSpec
resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
if os.getuid() == 0:
    os.setuid(65534)
before = os.nice(0)
fork._prepare(ChildSpec(kind="dsp", index=0, target="a:b", nice=-5), os.getppid())
sys.exit(os.nice(0) != before)
"""


def test_who_may_not_go_first_takes_turns() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED], cwd=ROOT, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
