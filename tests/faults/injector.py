"""Makes the n-th call of one port fail, in every way in which a call can fail."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from healer.errors import HealerError, StoreUnavailable, TimedOut, Unreachable
from healer.kernel.clock import Clock
from tests.faults.virtual import VirtualLoop


class Way(StrEnum):
    """How a call fails."""

    BEFORE = "before"  #: at once, without effect
    AFTER = "after"  #: it takes effect, and its answer is lost
    HANG = "hang"  #: nothing comes, until the timeout that every port promises
    AWAY = "away"  #: this call and all of the port for a while: longer than a lease


#: How long each port's own timeout lets a call hang. Seconds.
HANG_SECONDS = {"store": 5.0}
#: How long a port is away. Seconds.
AWAY_SECONDS = 100.0
#: Calls of a port that change something: only those can fail after their effect.
CHANGING = {
    "store": {"accept", "fold", "claim", "commit", "renew", "answer", "message_done"},
    "cluster": {"patch", "delete", "evict", "create"},
    "http": {"request"},
    "notifier": {"send"},
    "metrics": set[str](),
    "alerts": {"silence"},
}


def ways(port: str, call: str) -> tuple[Way, ...]:
    """The ways in which this call can fail that differ from one another."""
    if port == "store" and call not in CHANGING[port]:
        return (Way.BEFORE,)  # a read that hangs or is away is a read that fails, later
    return tuple(Way) if call in CHANGING[port] else (Way.BEFORE, Way.HANG, Way.AWAY)


@dataclass
class Plan:
    """Which call fails; counts them all, with or without a fault."""

    port: str = ""
    number: int = 0  #: from 1; 0 lets every call pass
    way: Way = Way.BEFORE
    #: By port, in order: the name, with a dash behind it when there was nothing to do or tell.
    calls: dict[str, list[str]] = field(default_factory=dict)
    struck: bool = False
    until: float = 0.0  #: away until then, monotonic seconds


class Port:
    """Any port of the engine, whose calls fail as planned."""

    def __init__(self, inner: Any, name: str, plan: Plan, loop: VirtualLoop, clock: Clock) -> None:
        self._inner = inner
        self._name = name
        self._plan = plan
        self._loop = loop
        self._clock = clock

    def __getattr__(self, call: str) -> Any:
        inner = getattr(self._inner, call)
        if not inspect.iscoroutinefunction(inner) or call == "close":
            return inner

        async def through(*args: Any, **named: Any) -> Any:
            return await self._call(call, inner, *args, **named)

        return through

    async def _call(
        self, call: str, inner: Callable[..., Awaitable[Any]], *args: Any, **named: Any
    ) -> Any:
        plan = self._plan
        made = plan.calls.setdefault(self._name, [])
        made.append(call)
        mine = plan.port == self._name
        if mine and self._clock.monotonic() < plan.until:
            raise self._error(Way.AWAY)
        if not mine or len(made) != plan.number:
            index = len(made) - 1
            answer = await self._do(inner, *args, **named)
            if self._name == "store" and not answer and call != "message_done":
                made[index] += "-"
            return answer
        plan.struck = True
        if plan.way is Way.AFTER:
            await self._do(inner, *args, **named)
        elif plan.way is Way.HANG:
            await asyncio.sleep(HANG_SECONDS.get(self._name, 10.0))  # noqa: TID251 - virtual time
        elif plan.way is Way.AWAY:
            plan.until = self._clock.monotonic() + AWAY_SECONDS
        raise self._error(plan.way)

    async def _do(self, inner: Callable[..., Awaitable[Any]], *args: Any, **named: Any) -> Any:
        if self._name != "store":
            return await inner(*args, **named)
        with self._loop.thread():
            return await inner(*args, **named)

    def _error(self, way: Way) -> HealerError:
        """What a well-made port raises then; a timeout never knows whether it happened."""
        if self._name == "store":
            return StoreUnavailable(f"injected: {way}")
        if way in {Way.AFTER, Way.HANG}:
            return TimedOut(f"injected: {way}")
        return Unreachable(f"injected: {way}", sent=False)
