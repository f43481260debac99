"""Arenas: shared by fork, nameless from the start, and honest about a full /dev/shm."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from audio.arena import Arena, ArenaError
from audio.layout import Layout
from tests import segments


def test_a_child_sees_what_the_parent_writes_and_the_other_way_round(
    make_arena: Callable[[int], Arena],
) -> None:
    arena = make_arena(1)
    buffer = arena.buffer
    pid = os.fork()
    if pid == 0:
        while not buffer[-1]:
            pass
        buffer[-2] = 7
        os._exit(0)
    buffer[-1] = 1
    os.waitpid(pid, 0)
    assert buffer[-2] == 7


def test_nothing_is_left_in_dev_shm_while_it_lives(make_arena: Callable[[int], Arena]) -> None:
    before = segments.names()
    make_arena(2)
    assert segments.left_since(before) == set()


def test_no_tracker_process_is_left(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import psutil
        from audio.arena import Arena
        arena = Arena.create(1)
        print(len(psutil.Process().children()))
        arena.close()
        """
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "0"
    assert run.stderr == ""


def test_a_damaged_header_is_noticed(make_arena: Callable[[int], Arena]) -> None:
    arena = make_arena(1)
    arena.check()
    arena.buffer[3] ^= 0xFF
    with pytest.raises(ArenaError, match="header"):
        arena.check()


@pytest.mark.parametrize(("arenas", "who"), [(1, "an arena needs"), (5, "5 arenas need")])
def test_too_little_shared_memory_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, arenas: int, who: str
) -> None:
    """It names what all arenas need together, what is there, and what to set."""

    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ArenaError) as caught:
        Arena.create(64, of=arenas)
    sentence = str(caught.value)
    assert "\n" not in sentence
    found = re.search(
        rf"{who} (\d+) MiB in all and it has \d+ MiB, of which \d+ MiB are free .*"
        r"--shm-size=(\d+)m",
        sentence,
    )
    assert found is not None, sentence
    needed, advised = map(int, found.groups())
    assert needed * 2**20 >= arenas * Layout(64).nbytes > (needed - 1) * 2**20
    assert advised > needed


def test_the_advice_is_enough() -> None:
    """Where the advised size is what /dev/shm has, every arena fits."""
    script = """
import os, sys
from audio.arena import Arena, ArenaError
from audio.layout import Layout
room = [int(sys.argv[1]) * 2**20]
fallocate = os.posix_fallocate
def limited(fd, offset, size):
    if size > room[0]:
        raise OSError(28, "No space left on device")
    room[0] -= size
    fallocate(fd, offset, size)
os.posix_fallocate = limited
try:
    arenas = [Arena.create(24, of=3) for _ in range(3)]
except ArenaError as error:
    print(error)
else:
    print("enough")
    for arena in arenas:
        arena.close()
"""
    advised = "0"
    for expected in ("--shm-size=", "enough"):
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", script, advised],
            capture_output=True,
            text=True,
            check=True,
        )
        assert expected in run.stdout
        advised = run.stdout.partition("--shm-size=")[2].partition("m)")[0]
