"""A few threads that read: each look is one snapshot, and none ever makes the writer wait."""

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from healer.errors import StoreUnavailable

_log = logging.getLogger(__name__)

T = TypeVar("T")
Bulk = Callable[[sqlite3.Connection, Sequence[Any]], Sequence[Any]]

#: So many looks of one kind are done at once.
_MOST_AT_ONCE = 64


class _Look:
    """What one caller wants to see, and what was seen."""

    __slots__ = ("argument", "bulk", "future", "result")

    def __init__(self, bulk: Bulk, argument: Any, future: asyncio.Future[Any]) -> None:
        self.bulk = bulk
        self.argument = argument
        self.future = future
        self.result: Any = None


class Readers:
    """Runs reads on read-only connections, one for each thread, opened when first needed.

    Construct it inside a running event loop.
    """

    def __init__(self, name: str, connect: Callable[[], sqlite3.Connection], threads: int) -> None:
        self._name = name
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Look] = deque()
        self._news = threading.Condition()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._serve, name=f"journal-reader-{n}", daemon=True)
            for n in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    async def read(self, look: Callable[[sqlite3.Connection], T]) -> T:
        """What `look` returns of one moment's state. Raises StoreUnavailable when it cannot."""
        return cast(T, await self.read_bulk(lambda connection, _: (look(connection),), None))

    async def read_bulk(self, bulk: Bulk, argument: Any) -> Any:
        """Like `read`, but all that wait for the same `bulk` function see the same moment.

        `bulk` gets all arguments and returns one result for each.
        """
        job = _Look(bulk, argument, self._loop.create_future())
        with self._news:
            if self._closed:
                raise StoreUnavailable(f"{self._name}: the journal is closed")
            self._queue.append(job)
            self._news.notify()
        return await job.future

    async def close(self) -> None:
        """Finish the reads under way and close every connection."""
        with self._news:
            self._closed = True
            self._news.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def _serve(self) -> None:
        connection: sqlite3.Connection | None = None
        while batch := self._take():
            problem: Exception | None = None
            try:
                if connection is None:
                    connection = self._connect()
                self._look(connection, batch)
            except sqlite3.DatabaseError as error:
                problem = StoreUnavailable(f"{self._name}: the journal cannot be read: {error}")
                problem.__cause__ = error
                if connection is not None:
                    connection.close()
                connection = None
            except Exception as error:  # noqa: BLE001 - it belongs to whoever asked
                problem = error
            try:
                self._loop.call_soon_threadsafe(self._tell, batch, problem)
            except RuntimeError:  # the event loop is closed, and with it everyone who waited
                _log.warning("%s: read for callers that are gone", self._name)
        if connection is not None:
            connection.close()

    def _take(self) -> list[_Look]:
        """The next look, with others of its kind; empty when there will be none."""
        with self._news:
            while not self._queue:
                if self._closed:
                    return []
                self._news.wait()
            batch = [self._queue.popleft()]
            while (
                self._queue and self._queue[0].bulk is batch[0].bulk and len(batch) < _MOST_AT_ONCE
            ):
                batch.append(self._queue.popleft())
        return batch

    @staticmethod
    def _look(connection: sqlite3.Connection, batch: Sequence[_Look]) -> None:
        connection.execute("BEGIN")
        try:
            results = batch[0].bulk(connection, [job.argument for job in batch])
        finally:
            if connection.in_transaction:
                connection.execute("COMMIT")
        for job, result in zip(batch, results, strict=True):
            job.result = result

    @staticmethod
    def _tell(batch: Sequence[_Look], problem: Exception | None) -> None:
        for job in batch:
            if job.future.done():
                continue  # cancelled meanwhile
            if problem is not None:
                job.future.set_exception(problem)
            else:
                job.future.set_result(job.result)
