"""A clock that follows the wall clock without ever jumping with it."""

import logging

from healer.kernel.clock import Clock

_log = logging.getLogger(__name__)

#: What is off is made up for at this many seconds a second. While it is, a lease of 30 s may end
#: after 20 s of real time: exactly when its holder has stopped, had it not been renewed.
RATE = 0.5
#: More than this at once is a jump and is logged. Seconds.
JUMP_SECONDS = 2.0


class SteadyClock:
    """Wall time as of its beginning plus what the monotonic clock says, led back to the wall clock.

    When an administrator or NTP sets the clock, cooldowns, budgets, leases, verification and due
    times go on between half and one and a half as fast as real time until the difference is gone,
    instead of ending early, late, or a day from now. It never goes backwards.
    """

    def __init__(self, source: Clock) -> None:
        self._source = source
        self._mono = source.monotonic()
        self._wall = source.now()
        self._jumped = False

    def now(self) -> float:
        """Seconds since the Unix epoch, UTC; never less than before."""
        mono = self._source.monotonic()
        passed = mono - self._mono
        expected = self._wall + passed
        off = self._source.now() - expected
        most = passed * RATE
        self._wall = expected + min(max(off, -most), most)
        self._mono = mono
        self._note(off)
        return self._wall

    @property
    def off(self) -> float:
        """Seconds by which the wall clock is ahead."""
        return self._source.now() - self.now()

    def monotonic(self) -> float:
        """Seconds that only ever grow."""
        return self._source.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait at least `seconds` of real time."""
        await self._source.sleep(seconds)

    def _note(self, off: float) -> None:
        jumped = abs(off) > JUMP_SECONDS
        if jumped and not self._jumped:
            _log.warning("the wall clock jumped; it is followed slowly", extra={"seconds": off})
        self._jumped = jumped
