"""Loops that are watched: failures are logged, progress can be read, sleep can be cut short."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from healer.kernel.clock import Clock

_log = logging.getLogger(__name__)


class Progress:
    """When each named loop last finished a round, on the monotonic clock.

    Liveness asks this and not whether a port answers: a frozen loop behind an open port is the
    failure that kopf #614 describes.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._limits: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def expect(self, name: str, within: float) -> None:
        """From now on `name` must report at least every `within` seconds."""
        self._limits[name] = within
        self._last[name] = self._clock.monotonic()

    def report(self, name: str) -> None:
        """`name` has just finished a round."""
        self._last[name] = self._clock.monotonic()

    def forget(self, name: str) -> None:
        """`name` has ended on purpose."""
        self._limits.pop(name, None)
        self._last.pop(name, None)

    def ages(self) -> dict[str, float]:
        """Seconds since each loop last finished a round."""
        now = self._clock.monotonic()
        return {name: now - at for name, at in self._last.items()}

    def stalled(self) -> dict[str, float]:
        """The loops that are later than they promised, and by how many seconds."""
        return {
            name: age - self._limits[name]
            for name, age in self.ages().items()
            if age > self._limits[name]
        }


class Nap:
    """A sleep that ends early when somebody wakes it; a wake that comes before it is not lost."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """End the sleep that is under way, or else the next one."""
        self._woken.set()

    async def sleep(self, seconds: float) -> None:
        """Wait until `seconds` have passed or somebody wakes."""
        sleeper = asyncio.ensure_future(self._clock.sleep(seconds))
        waker = asyncio.ensure_future(self._woken.wait())
        try:
            await asyncio.wait({sleeper, waker}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeper.cancel()
            waker.cancel()
        self._woken.clear()


async def keep(
    name: str, body: Callable[[], Awaitable[None]], *, clock: Clock, pause: float = 1.0
) -> None:
    """Run `body` for ever: after a failure log it, wait (doubling up to 30 s) and run it again.

    Only cancellation ends it. This is the one place where any exception may be caught: the
    supervisor's promise is that one bad item stops only itself.
    """
    wait = pause
    while True:
        try:
            await body()
            wait = pause
        except asyncio.CancelledError:
            raise
        except Exception:  # noqa: BLE001 - the supervisor, see above
            _log.exception(
                "loop failed and will be run again", extra={"loop": name, "after_seconds": wait}
            )
            await clock.sleep(wait)
            wait = min(wait * 2, 30.0)
        else:
            await clock.sleep(0)
