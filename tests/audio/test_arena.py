"""Arenas: shared by fork, nameless from the start, and honest about a full /dev/shm."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from audio.arena import Arena, ArenaError


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
    before = set(os.listdir("/dev/shm"))
    make_arena(2)
    assert set(os.listdir("/dev/shm")) == before


def test_no_tracker_process_is_left(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import psutil
        from audio.arena import Arena
        arena = Arena.create(1)
        print(len(psutil.Process().children()))
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


def test_too_little_shared_memory_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ArenaError, match=r"needs \d+ MiB and .* are free .*--shm-size"):
        Arena.create(64)
