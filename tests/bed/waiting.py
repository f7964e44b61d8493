"""Real time for the test bed: waiting for a condition, with a limit and a reason.

The rest of the project takes an injected clock. The bed waits for real processes, so
its time is the real one, and this is the only file of it that reads a clock.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from tests.bed.errors import BedError

T = TypeVar("T")


def now() -> float:
    """Seconds of a clock that never goes back."""
    return time.monotonic()  # noqa: TID251 - real processes live in real time


def today() -> float:
    """Seconds since the epoch."""
    return time.time()  # noqa: TID251 - real processes live in real time


def pause(seconds: float) -> None:
    """Let real time pass."""
    time.sleep(seconds)


def until(
    condition: Callable[[], T],
    what: str,
    *,
    timeout: float = 60.0,
    interval: float = 0.1,
) -> T:
    """Return the first truthy value of `condition`; after `timeout` seconds, raise.

    An `OSError` or `BedError` of the condition counts as "not yet", and the last one is
    told when time is up: that is usually the reason.
    """
    end = now() + timeout
    last: BaseException | None = None
    while True:
        try:
            value = condition()
            last = None
        except (OSError, BedError) as error:
            value, last = None, error
        if value:
            return value
        if now() >= end:
            because = f" (last error: {last})" if last else ""
            raise BedError(f"waited {timeout:.0f} s in vain for {what}{because}")
        pause(interval)
