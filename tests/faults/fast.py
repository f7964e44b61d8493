"""The machine's own clock, and one that runs faster: minutes of waiting are seconds of test."""

from healer.kernel.clock import SystemClock

#: Real time, for measuring and for faults that have a length.
REAL = SystemClock()


class FastClock:
    """`factor` seconds pass in each real one; wall time begins now."""

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self._wall = REAL.now()
        self._begin = REAL.monotonic()

    def now(self) -> float:
        """Unix seconds, ahead of the real ones."""
        return self._wall + self.monotonic()

    def monotonic(self) -> float:
        """Seconds since this clock began."""
        return (REAL.monotonic() - self._begin) * self.factor

    async def sleep(self, seconds: float) -> None:
        """Wait for so many of its own seconds."""
        await REAL.sleep(seconds / self.factor)
