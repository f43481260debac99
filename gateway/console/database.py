"""The records database behind one thread, so that neither disk nor lock ever stops the loop.

The console must serve health and metrics whatever happens to the disk. So the database is opened
at its first use and, after a failure, again at the next; meanwhile ``fault`` says in a sentence
what is wrong, for ``/readyz`` and the log.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from gateway.errors import GatewayError
from gateway.ops.store import RecordsStore

T = TypeVar("T")


class StoreUnavailableError(GatewayError):
    """The database cannot be used now; the message is the sentence to show."""


class Database:
    """Runs work on the store in its thread, one piece after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._store: RecordsStore | None = None
        self.fault = ""

    async def use(self, work: Callable[[RecordsStore], T]) -> T:
        """Run ``work`` in the thread and give its answer. Raises StoreUnavailableError."""
        loop = asyncio.get_running_loop()
        try:
            answer = await loop.run_in_executor(self._thread, self._work, work)
        except (sqlite3.Error, OSError) as error:
            self.fault = f"the records database {self._path} cannot be used: {error}"
            raise StoreUnavailableError(self.fault) from error
        self.fault = ""
        return answer

    async def close(self) -> None:
        """Close the database after all work before is done."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)

    def _work(self, work: Callable[[RecordsStore], T]) -> T:
        if self._store is None:
            self._store = RecordsStore(self._path)
        try:
            return work(self._store)
        except sqlite3.Error:
            self._close()
            raise

    def _close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()
