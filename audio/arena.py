"""One shared-memory segment: made by the supervisor before the first fork, inherited, nameless.

The segment is a ``multiprocessing.shared_memory.SharedMemory`` whose pages are reserved at once
(a full /dev/shm is then an error here and not a SIGBUS in a call) and whose name is unlinked at
once (nothing can leak, nothing can attach). The resource tracker that ``SharedMemory`` starts is
a whole interpreter beside us; with the name gone it has nothing left to do and is stopped.
Standard library only.
"""

from __future__ import annotations

import os
from multiprocessing import resource_tracker, shared_memory
from typing import Self

from audio.layout import CELLS, HEADER_WORDS, MAGIC, VERSION, WORD_BYTES, Layout

_MIB = 2**20
_SPARE_MIB = 1  # a size that is met to the byte is a size that breaks with the next release


class ArenaError(Exception):
    """A segment could not be reserved, or is not one of ours."""


class Arena:
    """The bytes of one arena and their layout. Close it when every view on it is released."""

    def __init__(self, memory: shared_memory.SharedMemory, layout: Layout) -> None:
        self._memory = memory
        self.layout = layout
        #: The whole segment as int64, for those who touch single cells.
        self.words: memoryview[int] = self.buffer.cast("q")

    @classmethod
    def create(cls, slots: int, of: int = 1) -> Self:
        """Reserve an arena of ``slots`` slots, one of ``of`` alike that are wanted in all.

        Raises ArenaError with the size needed in all and found when /dev/shm is too small.
        """
        assert of >= 1, of
        layout = Layout(slots)
        # SharedMemory only sets the size, a promise that the first write may find broken (SIGBUS).
        memory = shared_memory.SharedMemory(create=True, size=layout.nbytes)
        try:
            _reserve(memory, layout.nbytes)
        except OSError as error:
            memory.close()
            raise ArenaError(_no_room(layout.nbytes, of, error)) from error
        finally:
            memory.unlink()
            _stop_tracker()
        arena = cls(memory, layout)
        arena._write_header()
        return arena

    @property
    def nbytes(self) -> int:
        """Bytes reserved."""
        return self.layout.nbytes

    @property
    def buffer(self) -> memoryview:
        """The whole segment as writable bytes."""
        view = self._memory.buf
        assert view is not None, "the arena is closed"
        return view

    def check(self) -> None:
        """Raise ArenaError when the header is not that of this layout."""
        words = self.buffer[: HEADER_WORDS * WORD_BYTES].cast("q")
        found = tuple(words[:5])
        words.release()
        if found != self._header():
            raise ArenaError(f"arena header {found} is not {self._header()}")

    def repair(self) -> bool:
        """Write the header again if it was damaged (nothing is read from it); whether it was."""
        try:
            self.check()
        except ArenaError:
            self._write_header()
            return True
        return False

    def close(self) -> None:
        """Unmap; every memoryview and array on the buffer must have been released."""
        self.words.release()
        self._memory.close()

    def _header(self) -> tuple[int, ...]:
        return (MAGIC, VERSION, self.layout.slots, CELLS, self.layout.nbytes)

    def _write_header(self) -> None:
        with self.buffer[: HEADER_WORDS * WORD_BYTES].cast("q") as words:
            for i, value in enumerate(self._header()):
                words[i] = value


def _reserve(memory: shared_memory.SharedMemory, nbytes: int) -> None:
    descriptor = memory._fd  # type: ignore[attr-defined]  # noqa: SLF001 - it has no public name
    os.posix_fallocate(descriptor, 0, nbytes)


def _no_room(nbytes: int, arenas: int, error: OSError) -> str:
    needed_mib = -(-nbytes * arenas // _MIB)
    try:
        status = os.statvfs("/dev/shm")  # where Linux keeps shared memory
        size, free = (n * status.f_frsize // _MIB for n in (status.f_blocks, status.f_bavail))
        found = f"it has {size} MiB, of which {free} MiB are free"
    except OSError:
        found = "its size is unknown"
    who = "an arena needs" if arenas == 1 else f"{arenas} arenas need"
    return (
        f"/dev/shm is too small: {who} {needed_mib} MiB in all and {found} ({error.strerror}); "
        f"enlarge it (docker run --shm-size={needed_mib + _SPARE_MIB}m) "
        "or lower CALLS_PER_WORKER or WORKERS"
    )


def _stop_tracker() -> None:
    tracker = resource_tracker._resource_tracker  # noqa: SLF001 - 3.13's track=False is public
    tracker._stop()  # type: ignore[attr-defined]  # noqa: SLF001
