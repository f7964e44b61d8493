"""The open loop: a request leaves when it is due, whether or not earlier ones were answered."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

import aiohttp

from bench.loadtest.judge import Sent

#: Whoever asks gives up then; counted from when the request was due. Seconds.
PATIENCE_SECONDS = 5.0


class Ingress:
    """Spreads requests over the addresses that are ready now, in turn, and counts what came."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._turn = 0
        self.ready: Sequence[str] = ()  #: "host:port"; replaced from outside
        self.arrived = 0  #: also when nobody was ready: this is the total demand
        self.sent: list[Sent] = []

    async def pass_on(self, due: float, clock: Callable[[], float] = time.time) -> None:
        """One request and its record; nothing is tried twice."""
        self.arrived += 1
        served = False
        if self.ready:
            self._turn += 1
            address = self.ready[self._turn % len(self.ready)]
            left = due + PATIENCE_SECONDS - clock()
            served = left > 0 and await self._ask(f"http://{address}/", left)
        self.sent.append(Sent(due, clock() - due, served))

    async def _ask(self, url: str, seconds: float) -> bool:
        limit = aiohttp.ClientTimeout(total=seconds)
        try:
            async with self._session.get(url, timeout=limit) as answer:
                await answer.read()
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False  # which is what is counted


async def play(due: Iterable[float], ways: Sequence[Ingress]) -> None:
    """Send every request by every way when it is due (Unix seconds); returns with all answered."""
    async with asyncio.TaskGroup() as group:
        for at in due:
            wait = at - time.time()
            if wait > 0:
                await asyncio.sleep(wait)  # the open loop's own beat
            for way in ways:
                group.create_task(way.pass_on(at))
