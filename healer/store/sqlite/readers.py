"""A few threads that read: each look is one snapshot, and none ever makes the writer wait."""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from healer.errors import StoreUnavailable

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Readers:
    """Runs reads on read-only connections, one for each thread, opened when first needed."""

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection], threads: int) -> None:
        self._name = name
        self._connect = connect
        self._mine = threading.local()
        self._all: set[sqlite3.Connection] = set()
        self._closed = False
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="journal-reader")

    async def read(self, look: Callable[[sqlite3.Connection], T]) -> T:
        """What `look` returns of one moment's state. Raises StoreUnavailable when it cannot."""
        if self._closed:
            raise StoreUnavailable(f"{self._name}: the journal is closed")
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._look, look)

    async def close(self) -> None:
        """Finish the reads under way and close every connection."""
        self._closed = True
        await asyncio.to_thread(self._pool.shutdown)
        for connection in self._all:
            connection.close()
        self._all.clear()

    def _look(self, look: Callable[[sqlite3.Connection], T]) -> T:
        connection: sqlite3.Connection | None = getattr(self._mine, "connection", None)
        try:
            if connection is None:
                connection = self._connect()
                self._mine.connection = connection
                self._all.add(connection)
            connection.execute("BEGIN")
            try:
                return look(connection)
            finally:
                if connection.in_transaction:
                    connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            self._mine.connection = None
            if connection is not None:
                self._all.discard(connection)
                connection.close()
            raise StoreUnavailable(f"{self._name}: the journal cannot be read: {error}") from error
