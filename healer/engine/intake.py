"""Turns accepted alerts into episodes, in the order of their acceptance."""

import asyncio
import logging
from collections.abc import Callable

from healer.domain.episode import FoldKind, fold
from healer.engine.world import World

_log = logging.getLogger(__name__)

#: Alerts folded in one transaction.
BATCH = 500
#: The inbox is looked into at least this often, whatever hints were missed. Seconds.
IDLE_SECONDS = 1.0


class Intake:
    """Folds the inbox; `wake` makes it look at once, and it wakes the worker in turn."""

    def __init__(self, world: World, on_change: Callable[[], None]) -> None:
        self._world = world
        self._on_change = on_change
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something was accepted."""
        self._wake.set()

    async def round(self) -> None:
        """Fold all there is, then wait for more."""
        self._wake.clear()
        while True:
            now = self._world.clock.now()
            done = await self._world.store.fold(fold, now, BATCH)
            if any(entry.kind in {FoldKind.OPENED, FoldKind.RESOLVED} for _, entry in done):
                self._on_change()
            if len(done) < BATCH:
                break
        sleeper = asyncio.ensure_future(self._world.clock.sleep(IDLE_SECONDS))
        waker = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            waker.cancel()
