"""The one thread that writes: whatever waits while a commit is under way shares the next one.

A lone write is committed at once; under load a group forms by itself, because the disk is slow.
Every piece of work runs in its own savepoint, so one that fails takes nothing else with it, and no
caller hears of its write before the commit that holds it is on disk.
"""

import asyncio
import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from healer.errors import Conflict, StoreUnavailable
from healer.kernel.crashpoints import CrashPoints

_log = logging.getLogger(__name__)

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]
Bulk = Callable[[sqlite3.Connection, Sequence[Any]], Sequence[Any]]

#: A commit takes no more than this much work (rows, about), so that its callers soon hear of it.
_GROUP_WEIGHT = 1024
#: More work than this is never queued: it could not be done within anyone's deadline.
_QUEUE_WEIGHT = 16_384
#: The log is moved into the file in a quiet moment after this many rows, a commit itself being
#: worth some: about 300 lone alerts, or 1,500 in a storm. A few milliseconds for about 1,000 pages.
_ROWS_BEFORE_CHECKPOINT = 1500
_ROWS_OF_A_COMMIT = 4
#: After these the connection is sound and only this transaction is lost. After anything else (a
#: failed fsync above all: the kernel forgets which pages it could not write) it is replaced.
_HARMLESS = frozenset({"SQLITE_FULL", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_NOMEM"})


class _Job:
    """One caller's work, and what came of it."""

    __slots__ = (
        "argument",
        "bulk",
        "error",
        "future",
        "point",
        "result",
        "state",
        "weight",
        "work",
    )

    def __init__(self, point: str, weight: int, future: asyncio.Future[Any]) -> None:
        self.point = point
        self.weight = weight
        self.future = future
        self.state = "waiting"  # then "taken" or "withdrawn", changed under the writer's lock only
        self.work: Work[Any] | None = None
        self.bulk: Bulk | None = None
        self.argument: Any = None
        self.result: Any = None
        self.error: BaseException | None = None


class Writer:
    """Commits work in groups on one connection, in a thread of its own.

    Construct it inside a running event loop. `connect` opens the connection, again after a failure
    that made the old one untrustworthy.
    """

    def __init__(
        self, name: str, connect: Callable[[], sqlite3.Connection], crash: CrashPoints
    ) -> None:
        self._name = name
        self._connect = connect
        self._crash = crash
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Job] = deque()
        self._weight = 0
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._closing = False
        self._connection: sqlite3.Connection | None = connect()
        self._rows = 0  # in the log, about
        self._thread = threading.Thread(target=self._serve, name="journal-writer", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------ on the event loop

    async def write(self, point: str, work: Work[T], seconds: float) -> T:
        """Run `work` in a transaction and return its result once that is on disk.

        Raises what `work` raises, having written nothing of it, and StoreUnavailable when it could
        not be begun within `seconds` (then it never will be) or could not be committed.
        """
        job = _Job(point, 1, self._loop.create_future())
        job.work = work
        return cast(T, await self._submit(job, seconds, abandon=False))

    async def write_bulk(
        self, point: str, bulk: Bulk, argument: Any, weight: int, seconds: float, *, abandon: bool
    ) -> Any:
        """Like `write`, but all waiting work of the same `bulk` function is done in one call.

        `bulk` gets all arguments and returns one result for each; an exception among them is raised
        to its caller, and whatever it concerns must not have been written. With `abandon` it may be
        given up after `seconds` while its commit is under way: it must be harmless to repeat.
        """
        job = _Job(point, weight, self._loop.create_future())
        job.bulk = bulk
        job.argument = argument
        return await self._submit(job, seconds, abandon=abandon)

    async def close(self) -> None:
        """Commit what waits, move the log into the file and let go of it."""
        with self._news:
            self._closing = True
            self._news.notify()
        await asyncio.to_thread(self._thread.join)

    async def _submit(self, job: _Job, seconds: float, *, abandon: bool) -> Any:
        with self._news:
            if self._closing:
                raise StoreUnavailable(f"{self._name}: the journal is closed")
            if self._weight + job.weight > _QUEUE_WEIGHT:
                raise StoreUnavailable(
                    f"{self._name}: {self._weight} writes wait for the disk already", retry_after=1
                )
            self._queue.append(job)
            self._weight += job.weight
            self._news.notify()
        timer = self._loop.call_later(seconds, self._expire, job, abandon, seconds)
        try:
            return await job.future
        except asyncio.CancelledError:
            self._withdraw(job)
            raise
        finally:
            timer.cancel()

    def _withdraw(self, job: _Job) -> bool:
        with self._lock:
            if job.state == "waiting":
                job.state = "withdrawn"
                self._weight -= job.weight
            return job.state == "withdrawn"

    def _expire(self, job: _Job, abandon: bool, seconds: float) -> None:
        withdrawn = self._withdraw(job)
        if (withdrawn or abandon) and not job.future.done():
            job.future.set_exception(
                StoreUnavailable(
                    f"{self._name}: not on disk within {seconds:.3g} s; the disk is slow or "
                    "overloaded",
                    retry_after=1,
                )
            )

    @staticmethod
    def _tell(batch: Sequence[_Job]) -> None:
        for job in batch:
            if job.future.done():
                continue  # given up or cancelled meanwhile
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)

    # ------------------------------------------------------------------ in the writer's thread

    def _serve(self) -> None:
        while True:
            batch = self._take()
            if batch:
                self._commit(batch)
                try:
                    self._loop.call_soon_threadsafe(self._tell, batch)
                except RuntimeError:  # the event loop is closed, and with it everyone who waited
                    _log.warning("%s: committed for callers that are gone", self._name)
            elif self._rows >= _ROWS_BEFORE_CHECKPOINT:
                self._checkpoint()
            elif self._closing:
                break
        self._discard_connection()

    def _take(self) -> list[_Job]:
        """The next group; empty when there is time for a checkpoint or nothing will come."""
        batch: list[_Job] = []
        weight = 0
        with self._news:
            while not self._queue:
                if self._closing or self._rows >= _ROWS_BEFORE_CHECKPOINT:
                    return batch
                self._news.wait()
            while self._queue and (not batch or weight + self._queue[0].weight <= _GROUP_WEIGHT):
                job = self._queue.popleft()
                if job.state == "withdrawn":
                    continue
                job.state = "taken"
                weight += job.weight
                batch.append(job)
            self._weight -= weight
        return batch

    def _commit(self, batch: list[_Job]) -> None:
        try:
            if self._connection is None:
                self._connection = self._connect()
            before = self._connection.total_changes
            self._transact(self._connection, batch)
            changed = self._connection.total_changes - before
            self._rows += changed + _ROWS_OF_A_COMMIT if changed else 0
        except Exception as error:  # noqa: BLE001 - this thread must outlive whatever happens in it
            code = getattr(error, "sqlite_errorname", type(error).__name__)
            _log.error("%s: a commit failed: %s (%s)", self._name, error, code)
            for job in batch:
                job.error = StoreUnavailable(
                    f"{self._name}: the journal cannot commit: {error} ({code}); free space or "
                    "repair the disk, healer goes on by itself then"
                )
                job.error.__cause__ = error
            self._recover(code)

    def _transact(self, connection: sqlite3.Connection, batch: list[_Job]) -> None:
        groups: list[list[_Job]] = []
        bulks: dict[Bulk, list[_Job]] = {}
        for job in batch:
            if job.bulk is None:
                groups.append([job])
            elif job.bulk in bulks:
                bulks[job.bulk].append(job)
            else:
                bulks[job.bulk] = [job]
                groups.append(bulks[job.bulk])
        connection.execute("BEGIN IMMEDIATE")
        for group in groups:
            self._attempt(connection, group)
        points = {job.point: None for job in batch if job.error is None}
        for point in points:
            self._crash.reach(f"before:{point}")
        connection.execute("COMMIT")
        for point in points:
            self._crash.reach(f"after:{point}")

    def _attempt(self, connection: sqlite3.Connection, group: list[_Job]) -> None:
        connection.execute("SAVEPOINT work")
        try:
            self._run(connection, group)
        except Exception as error:
            if is_of_the_disk(error):
                raise
            connection.execute("ROLLBACK TO work")
            for job in group:
                job.error = self._refused(error)
        connection.execute("RELEASE work")

    def _refused(self, error: Exception) -> Exception:
        if not isinstance(error, sqlite3.Error):
            return error
        refused = Conflict(f"{self._name}: the journal refused a write: {error}")
        refused.__cause__ = error
        return refused

    def _run(self, connection: sqlite3.Connection, group: list[_Job]) -> None:
        first = group[0]
        if first.work is not None:
            first.result = first.work(connection)
        elif first.bulk is not None:
            results = first.bulk(connection, [job.argument for job in group])
            for job, result in zip(group, results, strict=True):
                if isinstance(result, Exception):
                    job.error = self._refused(result)
                else:
                    job.result = result

    def _recover(self, code: str) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            sound = code in _HARMLESS
        except sqlite3.Error as error:
            _log.error("%s: could not roll back (%s); opening the file again", self._name, error)
            sound = False
        if not sound:
            self._discard_connection()

    def _discard_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            connection.close()
        except sqlite3.Error as error:
            _log.error("%s: the connection did not close cleanly: %s", self._name, error)

    def _checkpoint(self) -> None:
        self._rows = 0
        if self._connection is None:
            return
        try:
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorname", "")
            _log.error("%s: a checkpoint failed: %s (%s)", self._name, error, code)
            self._recover(code)


def is_of_the_disk(error: Exception) -> bool:
    """Whether the whole transaction is in doubt, rather than one piece of work wrong in itself."""
    own = (
        sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError,
    )  # fmt: skip
    return isinstance(error, sqlite3.Error) and not isinstance(error, own)
