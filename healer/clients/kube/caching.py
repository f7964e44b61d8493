"""Answers kept for a few seconds: loaded once however many ask, renewed before they are too old."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from healer.errors import HealerError
from healer.kernel.clock import Clock

_log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

#: Entries too old to be used are dropped when there are more than this many.
_MANY = 1024


class Kept(Generic[K, V]):
    """Values no older than `seconds`.

    Past half of that age a value is still given out and renewed meanwhile, so that under steady use
    nobody waits for it. A failed load is raised to whoever waits for it and never kept; one that
    fails in the background is logged, and raised once the old value may no longer be used.
    """

    def __init__(
        self, clock: Clock, seconds: float, load: Callable[[K], Awaitable[V]], *, ahead: bool = True
    ) -> None:
        self._clock = clock
        self._seconds = seconds
        self._load = load
        self._ahead = ahead
        self._values: dict[K, tuple[float, V]] = {}
        self._locks: dict[K, asyncio.Lock] = {}
        self._renewals: dict[K, asyncio.Task[None]] = {}

    async def get(self, key: K, *, no_older_than: float | None = None) -> V:
        """The value; read anew when it is older than allowed (default: `seconds`)."""
        limit = self._seconds if no_older_than is None else min(no_older_than, self._seconds)
        asked = self._clock.monotonic()
        found = self._values.get(key)
        if found is not None and asked - found[0] <= limit:
            if self._ahead and asked - found[0] > self._seconds / 2:
                self._renew(key)
            return found[1]
        async with self._locks.setdefault(key, asyncio.Lock()):
            found = self._values.get(key)
            # A load that began after we asked is as fresh as our own would be.
            if found is not None and (
                found[0] >= asked or self._clock.monotonic() - found[0] <= limit
            ):
                return found[1]
            return await self._read(key)

    def forget(self, key: K) -> None:
        """Read it anew next time."""
        self._values.pop(key, None)

    async def close(self) -> None:
        """End the renewals under way."""
        renewals = list(self._renewals.values())
        for task in renewals:
            task.cancel()
        await asyncio.gather(*renewals, return_exceptions=True)

    async def _read(self, key: K) -> V:
        began = self._clock.monotonic()
        value = await self._load(key)
        if len(self._values) >= _MANY:
            self._drop_old()
        self._values[key] = (began, value)
        return value

    def _drop_old(self) -> None:
        oldest = self._clock.monotonic() - self._seconds
        for key in [key for key, (at, _) in self._values.items() if at < oldest]:
            del self._values[key]
            if key in self._locks and not self._locks[key].locked():
                del self._locks[key]

    def _renew(self, key: K) -> None:
        if key not in self._renewals:
            task = asyncio.create_task(self._renewal(key))
            self._renewals[key] = task
            task.add_done_callback(lambda _: self._renewals.pop(key, None))

    async def _renewal(self, key: K) -> None:
        try:
            async with self._locks.setdefault(key, asyncio.Lock()):
                await self._read(key)
        except HealerError as error:
            _log.warning(
                "a kept answer could not be renewed and will be asked for again",
                extra={"key": str(key), "error": str(error)},
            )
