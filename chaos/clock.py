"""Real time: experiments break real things, so they live in it. Only this file reads a clock."""

import time
from collections.abc import Callable
from typing import TypeVar

from chaos.errors import ChaosError

T = TypeVar("T")


def now() -> float:
    """Unix seconds."""
    return time.time()  # noqa: TID251 - compared with times that other machines write


def pause(seconds: float) -> None:
    """Let time pass."""
    time.sleep(seconds)


def until(
    condition: Callable[[], T], what: str, *, timeout: float = 60.0, interval: float = 0.2
) -> T:
    """The first truthy value of `condition`; ChaosError after `timeout` seconds.

    An OSError or ChaosError of the condition counts as "not yet", and the last one is told.
    """
    end = time.monotonic() + timeout  # noqa: TID251 - never goes back
    last: Exception | None = None
    while True:
        try:
            value = condition()
            last = None
            if value:
                return value
        except (OSError, ChaosError) as error:
            last = error
        if time.monotonic() >= end:  # noqa: TID251
            because = f" (last error: {last})" if last else ""
            raise ChaosError(f"waited {timeout:.0f} s in vain for {what}{because}")
        pause(interval)
