"""What time it is at the database, between two questions."""

from collections import deque

from healer.kernel.clock import Clock

#: So many of the newest answers count: some seconds' worth, the journal is asked all the time.
_ANSWERS = 32


class DatabaseClock:
    """The database's wall clock, by this machine's monotonic one: the same on every replica.

    An answer was on its way for a while, so each says at least how far ahead the database is; the
    largest of the newest ones is the closest. Before the first the host's clock stands in.
    """

    def __init__(self, host: Clock) -> None:
        self._host = host
        self._ahead: deque[float] = deque(maxlen=_ANSWERS)

    def learn(self, database_now: float) -> None:
        """The database has just said what time it is."""
        self._ahead.append(database_now - self._host.monotonic())

    def now(self) -> float:
        """Seconds since the Unix epoch, UTC, by the database."""
        return self._host.monotonic() + max(self._ahead) if self._ahead else self._host.now()

    def monotonic(self) -> float:
        """Seconds that only ever grow."""
        return self._host.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait at least `seconds`."""
        await self._host.sleep(seconds)
