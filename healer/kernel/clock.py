"""Time is a parameter: everything that needs it takes a `Clock`, so tests can move it."""

import asyncio
import re
import time
from datetime import UTC, datetime
from typing import Protocol

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)")


class Clock(Protocol):
    """Wall time for facts, monotonic time for leases and timeouts, and sleep that obeys both."""

    def now(self) -> float:
        """Seconds since the Unix epoch, UTC. May jump; never use it to measure a duration."""
        ...

    def monotonic(self) -> float:
        """Seconds that only ever grow; the origin means nothing."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait at least `seconds`; zero yields to the event loop once."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Seconds since the Unix epoch, UTC."""
        return time.time()  # noqa: TID251 - the one place that may

    def monotonic(self) -> float:
        """Seconds that only ever grow."""
        return time.monotonic()  # noqa: TID251 - the one place that may

    async def sleep(self, seconds: float) -> None:
        """Wait at least `seconds`."""
        await asyncio.sleep(seconds)  # noqa: TID251 - the one place that may


def rfc3339(at: float) -> str:
    """`at` (Unix seconds) as `2026-08-20T10:48:17.123Z`; whole seconds carry no fraction."""
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace(".000+00:00", "Z").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> float:
    """Unix seconds of an RFC 3339 time, nanoseconds and any offset accepted.

    Raises ValueError for anything else. The zero time of Go, `0001-01-01T00:00:00Z`, comes back
    negative: callers treat values before the epoch as "not set".
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time: {text[:40]!r}")
    whole, fraction, offset = match.groups()
    zone = "+00:00" if offset in {"Z", "z"} else offset
    seconds = datetime.fromisoformat(whole.upper() + zone).timestamp()
    return seconds + (float("0." + fraction[:9]) if fraction else 0.0)
