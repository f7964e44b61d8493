"""Turns accepted alerts into episodes, in the order of their acceptance."""

import logging
from collections.abc import Callable

from healer.domain.episode import FoldKind, fold
from healer.engine.world import World
from healer.kernel.tasks import Nap

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
        self._nap = Nap(world.clock)

    def wake(self) -> None:
        """Something was accepted."""
        self._nap.wake()

    async def round(self) -> None:
        """Fold all there is, then wait for more."""
        while True:
            now = self._world.clock.now()
            done = await self._world.store.fold(fold, now, BATCH)
            if any(entry.kind in {FoldKind.OPENED, FoldKind.RESOLVED} for _, entry in done):
                self._on_change()
            if len(done) < BATCH:
                break
        await self._nap.sleep(IDLE_SECONDS)
