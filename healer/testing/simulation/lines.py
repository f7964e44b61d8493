"""The lines between a process and the world: each call may be late, refused, cut, or the last one.

A line is asked at every await of the engine that leaves the process. What it does is drawn from the
seed, and only while the scenario's trouble lasts.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from healer.errors import HealerError
from healer.testing.simulation.loop import Killed, Process, SimulatedLoop

T = TypeVar("T")

#: How long a client waits for an answer before it gives up. Virtual seconds.
PATIENCE_SECONDS = 10.0
#: Calls around an effect are in trouble this much more often than the others, which only look.
_TENDER = frozenset({"intent", "outcome", "commit", "delete", "evict", "patch", "accept"})
_TENDER_FACTOR = 4.0


#: Calls that change the cluster; requests of playbooks change whatever they call.
_CHANGES = frozenset({"patch", "delete", "evict", "create", "request"})


def _changes(what: str) -> bool:
    return what in _CHANGES or what.startswith("http")


@dataclass(slots=True)
class Trouble:
    """How often what goes wrong, as probabilities of one call."""

    crash: float = 0.0  #: the process dies, before or after the effect
    freeze: float = 0.0  #: the process stands still, perhaps past its lease, and then goes on
    before: float = 0.0  #: an error, and nothing happened
    after: float = 0.0  #: an error, although it happened
    slow: float = 0.0
    slow_seconds: float = 3.0
    stale: float = 0.0  #: the answer of a moment ago
    conflict: float = 0.0  #: somebody else changes the object first

    @property
    def any(self) -> float:
        """How often anything at all goes wrong with the call itself."""
        return self.crash + self.freeze + self.before + self.after + self.slow


@dataclass(slots=True)
class Injected:
    """What went wrong so far, by kind: shows that a history was worth playing."""

    counts: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Line:
    """One process' way to one side of the world."""

    name: str  #: journal, cluster, alerts, metrics or pager
    loop: SimulatedLoop
    process: Process
    dice: Random
    trouble: Trouble
    injected: Injected
    note: Callable[[str], None]
    nothing: Sequence[Callable[[], HealerError]]  #: errors of calls without effect
    perhaps: Sequence[Callable[[], HealerError]]  #: errors of calls that may have had theirs
    cut_since: float | None = None  #: nothing gets through since then

    def cut(self) -> None:
        """Nothing gets through any more."""
        if self.cut_since is None:
            self.cut_since = self.loop.time()

    def mend(self) -> None:
        """It works again."""
        self.cut_since = None

    async def call(self, what: str, work: Callable[[], Awaitable[T]], *, effect: bool = True) -> T:
        """Do `work` at the other end. `effect` says that it may change something there."""
        self.process.check()
        trouble = self.trouble
        roll = self.dice.random()
        if what in _TENDER or what.startswith("http"):
            roll /= _TENDER_FACTOR
        if self.cut_since is not None:
            await self._lost(what)
        if roll >= trouble.any:
            if not _changes(what):  # what is sent is sent, also by a process that is frozen now
                await asyncio.sleep(0)  # noqa: TID251 - the others may be faster
                self.process.check()
            done = await work()
            self.process.check()
            return done
        return await self._troubled(what, work, roll, effect=effect)

    async def _troubled(
        self, what: str, work: Callable[[], Awaitable[T]], roll: float, *, effect: bool
    ) -> T:
        trouble = self.trouble
        if roll < trouble.crash:
            await self._crash(what, work, effect=effect)
        roll -= trouble.crash
        if roll < trouble.freeze:
            return await self._freeze(what, work)
        roll -= trouble.freeze
        if roll < trouble.slow:
            self._happens("slow")
            if not _changes(what):
                await self._wait(self.dice.random() * trouble.slow_seconds)
            done = await work()
            await self._wait(self.dice.random() * trouble.slow_seconds)
            self.process.check()
            return done
        roll -= trouble.slow
        if roll < trouble.before or not (effect and self.perhaps):
            self._happens("refused")
            await self._wait(self.dice.random())
            raise self._said(what, self.nothing)
        self._happens("answer lost")
        await work()
        await self._wait(self.dice.random() * PATIENCE_SECONDS)
        raise self._said(what, self.perhaps)

    async def _crash(self, what: str, work: Callable[[], Awaitable[T]], *, effect: bool) -> None:
        after = effect and self.dice.random() < 0.6
        if after:
            try:
                await work()
            except Exception as error:  # noqa: BLE001 - nobody is left to hear of it
                self.note(f"{what} failed for a dying process: {error}")
        self._happens("crash after" if after else "crash before")
        self.note(f"{self.process.name} killed {'after' if after else 'before'} {what}")
        self.loop.kill(self.process)
        raise Killed(self.process.name)

    async def _freeze(self, what: str, work: Callable[[], Awaitable[T]]) -> T:
        """The process stands still before or after the call, as when its machine is overloaded."""
        # Nobody can be kept from sending what he was frozen with, after his last look: that no
        # promise covers, so a change to the cluster is frozen after it was sent.
        early = self.dice.random() < 0.5 and what not in _CHANGES
        seconds = self.dice.choice((5.0, 35.0, 70.0, 200.0))
        done = None if early else await work()
        self._happens("freeze")
        self.note(f"{self.process.name} frozen at {what} for {seconds:.0f} s")
        self.process.suspended = True
        self.loop.world_later(seconds, self.loop.resume, self.process)
        await asyncio.sleep(0)  # noqa: TID251 - it goes on from here when it wakes
        self.process.check()
        return await work() if done is None else done

    async def _lost(self, what: str) -> None:
        self._happens("partition")
        await self._wait(self.dice.choice((0.1, PATIENCE_SECONDS)))
        raise self._said(what, self.nothing)

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)  # noqa: TID251 - virtual time
        self.process.check()

    def _said(self, what: str, errors: Sequence[Callable[[], HealerError]]) -> HealerError:
        error = self.dice.choice(errors)()
        self.note(f"{self.process.name} {what}: {type(error).__name__} {error}")
        return error

    def _happens(self, kind: str) -> None:
        self.injected.counts[f"{self.name}: {kind}"] += 1
