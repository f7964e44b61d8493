"""Group commit: whatever waits while a transaction is under way shares the next one."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from healer.errors import Conflict, StoreUnavailable
from healer.store.postgres.connections import Database, Transaction

_log = logging.getLogger(__name__)

#: All arguments of a group to one result for each; an exception among them is raised to its caller,
#: and nothing of what it concerns was written.
Bulk = Callable[[Transaction, Sequence[Any]], Awaitable[Sequence[Any]]]


class _Job:
    __slots__ = ("argument", "future", "point", "taken", "weight")

    def __init__(self, point: str, argument: Any, weight: int, future: asyncio.Future[Any]) -> None:
        self.point = point
        self.argument = argument
        self.weight = weight
        self.future = future
        self.taken = False


class Lane:
    """Work of one kind, done in groups by a few transactions at a time."""

    def __init__(
        self,
        database: Database,
        bulk: Bulk,
        *,
        workers: int,
        group_weight: int,
        queue_weight: int,
        seconds: float,
        given: Callable[[], float | None],
    ) -> None:
        self._database = database
        self._bulk = bulk
        self._group_weight = group_weight
        self._queue_weight = queue_weight
        self._seconds = seconds
        self._given = given
        self._queue: deque[_Job] = deque()
        self._weight = 0
        self._news = asyncio.Event()
        self._closing = False
        self._workers = [asyncio.create_task(self._serve()) for _ in range(workers)]

    async def submit(
        self, point: str, argument: Any, weight: int, seconds: float, *, abandon: bool
    ) -> Any:
        """Have `argument` done; returns its result once that is committed.

        Raises StoreUnavailable when it could not be begun within `seconds` (then it never will be)
        or not be committed. With `abandon` it may be given up while its transaction is under way,
        so it must be harmless to repeat.
        """
        if self._closing:
            raise StoreUnavailable(f"{self._database.name}: the journal is closed")
        if self._weight + weight > self._queue_weight:
            raise StoreUnavailable(
                f"{self._database.name}: {self._weight} writes wait already", retry_after=1
            )
        loop = asyncio.get_running_loop()
        job = _Job(point, argument, weight, loop.create_future())
        self._queue.append(job)
        self._weight += weight
        self._news.set()
        timer = loop.call_later(seconds, self._expire, job, abandon, seconds)
        try:
            return await job.future
        finally:
            timer.cancel()

    async def close(self) -> None:
        """Commit what waits and end."""
        self._closing = True
        self._news.set()
        await asyncio.gather(*self._workers)

    def _expire(self, job: _Job, abandon: bool, seconds: float) -> None:
        if (abandon or not job.taken) and not job.future.done():
            job.future.set_exception(
                StoreUnavailable(
                    f"{self._database.name}: not committed within {seconds:.3g} s; PostgreSQL is "
                    "slow, overloaded or gone",
                    retry_after=1,
                )
            )

    async def _serve(self) -> None:
        while True:
            batch = self._take()
            if batch:
                await self._outlive(batch)
            elif self._closing:
                return
            else:
                self._news.clear()
                await self._news.wait()

    async def _outlive(self, batch: list[_Job]) -> None:
        """Commit, and whatever goes wrong with it: nobody waits for ever, and the lane goes on."""
        try:
            await self._commit(batch)
        except Exception:  # noqa: BLE001 - the lane outlives whatever happens in it
            _log.exception("%s: a group of writes failed unexpectedly", self._database.name)
        finally:
            for job in batch:
                if not job.future.done():
                    job.future.set_exception(
                        StoreUnavailable(
                            f"{self._database.name}: a group of writes failed unexpectedly, and "
                            "this one may or may not be committed; see the log",
                            retry_after=1,
                        )
                    )

    def _take(self) -> list[_Job]:
        batch: list[_Job] = []
        weight = 0
        while self._queue and (not batch or weight + self._queue[0].weight <= self._group_weight):
            job = self._queue.popleft()
            self._weight -= job.weight
            if job.future.done():
                continue  # given up or cancelled while it waited
            job.taken = True
            weight += job.weight
            batch.append(job)
        return batch

    async def _commit(self, batch: list[_Job]) -> None:
        points = list(dict.fromkeys(job.point for job in batch))
        arguments = [job.argument for job in batch]

        async def work(transaction: Transaction) -> Sequence[Any]:
            return await self._bulk(transaction, arguments)

        try:
            results = await self._database.write(points, work, self._seconds, self._given())
        except Conflict as error:
            if len(batch) > 1:  # one of them is refused, and the rest with it: each by itself
                for job in batch:
                    await self._commit([job])
                return
            results = [error]
        except Exception as error:  # noqa: BLE001 - the lane outlives whatever happens in it
            results = [error] * len(batch)
        for job, result in zip(batch, results, strict=True):
            if job.future.done():
                continue
            if isinstance(result, Exception):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)
