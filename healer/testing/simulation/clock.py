"""A process' clock: the loop's time, the wall with its jumps, and sleeps that cost nothing idle."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random

from healer.testing.clock import START
from healer.testing.simulation.loop import Handle, SimulatedLoop
from healer.testing.store_journal import MemoryJournal

#: The longest that a process sleeps over an unchanged journal. Virtual seconds.
_LONGEST_SECONDS = 600.0


#: Which of a healer's loops is running, so that its idle sleep is known for what it waits for.
LOOP: ContextVar[str] = ContextVar("loop", default="")


@dataclass(slots=True)
class Wall:
    """The time of day that everything in the world shares, jumps included."""

    loop: SimulatedLoop
    offset: float = 0.0

    def now(self) -> float:
        """Unix seconds."""
        return START + self.loop.time() + self.offset


@dataclass(eq=False, slots=True)
class _Idler:
    """Somebody who only waits for something in the journal to be due."""

    kind: str
    period: float
    woken: asyncio.Future[None]
    timer: Handle


@dataclass(slots=True)
class Idling:
    """Those who poll the journal for what is due.

    A poll before anything that the loop looks for is due finds nothing, whoever does it and however
    often. So a loop sleeps until there is something, and then for a random part of its own period:
    exactly what the next of its polls would have seen, without the thousands that see nothing.
    """

    loop: SimulatedLoop
    wall: Wall
    journal: MemoryJournal
    dice: Random
    waiting: dict[_Idler, None] = field(default_factory=dict)

    async def sleep(self, kind: str, period: float) -> None:
        """Wait until there may be something for the loop of this kind."""
        woken: asyncio.Future[None] = self.loop.create_future()
        idler = _Idler(kind, period, woken, self._timer(woken, self._wait(kind), period))
        self.waiting[idler] = None
        try:
            await woken
        finally:
            idler.timer.cancel()
            del self.waiting[idler]

    def _timer(self, woken: asyncio.Future[None], wait: float, period: float) -> Handle:
        seconds = wait + self.dice.random() * period
        handle: Handle = self.loop.call_later(seconds, _wake, woken)
        return handle

    def _wait(self, kind: str) -> float:
        """In how many seconds there is something for this kind of loop."""
        journal = self.journal
        match kind:
            case "intake":
                return 0.0 if journal.inbox else _LONGEST_SECONDS
            case "worker":
                due = min((row.due_at for row in journal.active.values()), default=None)
            case "outbox":
                due = min((row.due_at for row in journal.undelivered.values()), default=None)
            case _:
                return 0.0 if any(row.owner for row in journal.active.values()) else 600.0
        return _LONGEST_SECONDS if due is None else max(0.0, min(due - self.wall.now(), 600.0))

    def news(self) -> None:
        """The journal has changed, or time has jumped: some may have something to do sooner."""
        now = self.loop.time()
        waits: dict[str, float] = {}
        for idler in self.waiting:
            wait = waits.get(idler.kind)
            if wait is None:
                wait = waits[idler.kind] = self._wait(idler.kind)
            if now + wait + idler.period < idler.timer.when_:
                idler.timer.cancel()
                idler.timer = self._timer(idler.woken, wait, idler.period)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@dataclass(slots=True)
class ProcessClock:
    """`healer.kernel.clock.Clock` of one process. `skew` is how far its wall clock is off."""

    loop: SimulatedLoop
    wall: Wall
    idling: Idling
    idle: Callable[[float], bool]  #: whether a sleep of this length only waits for news
    skew: float = 0.0

    def now(self) -> float:
        """Unix seconds, as this process believes."""
        return self.wall.now() + self.skew

    def monotonic(self) -> float:
        """Virtual seconds."""
        return self.loop.time()

    async def sleep(self, seconds: float) -> None:
        """Wait at least `seconds`, or as long as there is no news when that is all it is about."""
        if seconds > 0 and self.idle(seconds):
            await self.idling.sleep(LOOP.get(), seconds)
        else:
            await asyncio.sleep(seconds)  # noqa: TID251 - the loop's time is virtual
