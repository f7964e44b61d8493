"""A clock that stands still until it is told to move, or follows the event loop's virtual time."""

import asyncio

#: Where fake time begins: 2026-01-05T00:00:00Z, a Monday.
START = 1767571200.0


class FakeClock:
    """Wall and monotonic time under the test's control; sleepers wake when time passes them."""

    def __init__(self, start: float = START) -> None:
        self._wall = start
        self._mono = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        """Fake Unix seconds."""
        return self._wall

    def monotonic(self) -> float:
        """Fake monotonic seconds."""
        return self._mono

    async def sleep(self, seconds: float) -> None:
        """Wait until `advance` has passed `seconds`; zero yields once."""
        if seconds <= 0:
            await asyncio.sleep(0)  # noqa: TID251 - yields to the loop, no time passes
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._mono + seconds, future))
        await future

    def advance(self, seconds: float) -> None:
        """Let time pass and wake every sleeper that is due."""
        self._wall += seconds
        self._mono += seconds
        due = [entry for entry in self._sleepers if entry[0] <= self._mono]
        self._sleepers = [entry for entry in self._sleepers if entry[0] > self._mono]
        for _, future in due:
            if not future.done():
                future.set_result(None)

    def jump(self, seconds: float) -> None:
        """Move only the wall clock, as NTP or an administrator would."""
        self._wall += seconds


class LoopClock:
    """Follows the running event loop's own time, so virtual-time loops move it."""

    def __init__(self, start: float = START) -> None:
        self._start = start

    def now(self) -> float:
        """Fake Unix seconds: the start plus the loop's time."""
        return self._start + asyncio.get_running_loop().time()

    def monotonic(self) -> float:
        """The loop's time."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Sleep in loop time."""
        await asyncio.sleep(seconds)  # noqa: TID251 - the loop's time is virtual
