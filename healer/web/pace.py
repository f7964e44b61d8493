"""How fast one caller may come: a token bucket on monotonic time."""

from healer.kernel.clock import Clock


class Pace:
    """At most `burst` at once and `per_second` sustained."""

    def __init__(self, clock: Clock, per_second: float, burst: int) -> None:
        self._clock = clock
        self._rate = per_second
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = clock.monotonic()

    def wait(self) -> float:
        """Take one turn: 0 when it is granted, else seconds until the next one is free."""
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self._rate
